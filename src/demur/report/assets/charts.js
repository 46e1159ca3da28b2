"use strict";
// Small SVG charts. Each draws into a figure, in the figure's own width.

const NS = "http://www.w3.org/2000/svg";
const COLOURS = [0, 1, 2, 3, 4, 5, 6].map((n) => `var(--s${n})`);

function make(name, attributes = {}, ...children) {
  const html = /^(div|span|b|i|p|td|tr|th|button|option)$/.test(name);
  const node = html ? document.createElement(name) : document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null).map(String_));
  return node;
}
const String_ = (child) => (child instanceof Node ? child : String(child));

const whole = new Intl.NumberFormat("en");
const count = (n) => whole.format(Math.round(n));
const percent = (n) => (n === 0 ? "0\u00a0%" : `${(100 * n).toFixed(n < 0.1 ? 1 : 0)}\u00a0%`);
const seconds = (n) =>
  n < 0.001 ? `${(n * 1e6).toFixed(0)}\u00a0µs` : n < 1 ? `${(n * 1000).toFixed(0)}\u00a0ms` : `${n.toFixed(n < 10 ? 1 : 0)}\u00a0s`;
const short = (n) =>
  n >= 1e6 ? `${+(n / 1e6).toFixed(1)} M` : n >= 1e3 ? `${+(n / 1e3).toFixed(1)} k` : String(+n.toPrecision(3));

function clear(id, note) {
  const figure = document.getElementById(id);
  figure.querySelectorAll("svg, .legend, .empty").forEach((node) => node.remove());
  if (note) figure.append(make("div", { class: "empty" }, note));
  return figure;
}

function canvas(figure, height, label) {
  const style = getComputedStyle(figure);
  const width = figure.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  figure.append(svg);
  return [svg, width];
}

function legend(figure, items) {
  if (items.length < 2) return;
  const marks = items.map(([name, colour]) => make("span", {}, make("i", { style: `background:${colour}` }), name));
  figure.append(make("div", { class: "legend" }, ...marks));
}

function hint(node, text) {
  const tip = document.getElementById("tip");
  const show = (event) => {
    tip.textContent = text(event);
    tip.hidden = !tip.textContent;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - box.width - 6))}px`;
    tip.style.top = `${Math.max(6, event.clientY - box.height - 12)}px`;
  };
  node.addEventListener("pointermove", show);
  node.addEventListener("pointerdown", show);
  node.addEventListener("pointerleave", () => (tip.hidden = true));
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((top) => top >= value) || value;
}

function day(time) {
  const date = new Date(time * 1000);
  const hour = `${String(date.getUTCHours()).padStart(2, "0")}:${String(date.getUTCMinutes()).padStart(2, "0")}`;
  const name = date.toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" });
  return time % 86400 ? hour : name;
}
const moment = (time) => new Date(time * 1000).toISOString().slice(0, 16).replace("T", " ");

function timeAxis(svg, x, times, top, bottom) {
  const [from, to] = times;
  const steps = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 3 * 86400, 7 * 86400, 30 * 86400];
  const room = Math.max(2, Math.floor((x(to) - x(from)) / 64));
  const step = steps.find((candidate) => (to - from) / candidate <= room) || 90 * 86400;
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    svg.append(make("line", { class: "grid", x1: x(at), x2: x(at), y1: top, y2: bottom }));
    const anchor = x(at) < x(from) + 16 ? "start" : x(at) > x(to) - 16 ? "end" : "middle";
    svg.append(make("text", { x: x(at), y: bottom + 17, "text-anchor": anchor }, day(at)));
  }
}

function valueAxis(svg, y, top, width, left, format) {
  for (const part of [0, 0.5, 1]) {
    const at = y(top * part);
    svg.append(make("line", { class: part ? "grid" : "axis", x1: left, x2: width, y1: at, y2: at }));
    svg.append(make("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, format(top * part)));
  }
}

// series: [{name, colour, values: [number or null]}], one value a bucket of [from, to).
function lines(id, series, times, tell) {
  const figure = clear(id);
  legend(figure, series.map((one) => [one.name, one.colour]));
  const [svg, width] = canvas(figure, 240, `Line chart: ${series.map((one) => one.name).join(", ")}`);
  const [left, bottom] = [46, 214];
  const top = niceTop(Math.max(0.01, ...series.flatMap((one) => one.values.filter((v) => v !== null))));
  const buckets = series[0].values.length;
  const size = (times[1] - times[0]) / buckets;
  const x = (time) => left + ((width - left - 4) * (time - times[0])) / (times[1] - times[0]);
  const y = (value) => bottom - (bottom - 10) * (value / top);
  timeAxis(svg, x, times, 10, bottom);
  valueAxis(svg, y, top, width, left, percent);
  const middle = (n) => x(times[0] + (n + 0.5) * size);
  for (const one of series) {
    let path = "";
    one.values.forEach((value, n) => {
      if (value !== null) path += `${path && one.values[n - 1] !== null ? "L" : "M"}${middle(n)} ${y(value)}`;
    });
    svg.append(make("path", { d: path, fill: "none", stroke: one.colour, "stroke-width": 2, "stroke-linejoin": "round", "stroke-linecap": "round" }));
  }
  const rule = make("line", { class: "axis", y1: 10, y2: bottom, visibility: "hidden" });
  const area = make("rect", { x: left, y: 0, width: width - left, height: bottom, fill: "transparent" });
  svg.append(rule, area);
  hint(area, (event) => {
    const at = event.clientX - svg.getBoundingClientRect().left - left;
    const n = Math.max(0, Math.min(buckets - 1, Math.floor((at / (width - left)) * buckets)));
    rule.setAttribute("x1", middle(n)); rule.setAttribute("x2", middle(n)); rule.setAttribute("visibility", "visible");
    return `${moment(times[0] + n * size)}\n${series.map((one) => `${one.name}: ${tell(one, n)}`).join("\n")}`;
  });
  area.addEventListener("pointerleave", () => rule.setAttribute("visibility", "hidden"));
}

// rows: [{name, parts: [number]}], parts named and coloured by `kinds`: [[name, colour]].
function bars(id, rows, kinds, note) {
  if (!rows.length) return void clear(id, note);
  const figure = clear(id);
  legend(figure, kinds);
  const pitch = 44;
  const [svg, width] = canvas(figure, rows.length * pitch, `Bar chart: ${rows.map((row) => row.name).join(", ")}`);
  const sum = (row) => row.parts.reduce((a, b) => a + b, 0);
  const top = Math.max(...rows.map(sum));
  rows.forEach((row, n) => {
    const most = Math.floor((width - 60) / 7);
    const name = row.name.length > most ? `${row.name.slice(0, most - 1)}…` : row.name;
    svg.append(make("text", { class: "name", x: 0, y: n * pitch + 14 }, name));
    svg.append(make("text", { x: width, y: n * pitch + 14, "text-anchor": "end" }, count(sum(row))));
    let at = 0;
    row.parts.forEach((part, k) => {
      if (!part) return;
      const size = Math.max(2, (width * part) / top);
      const bar = make("rect", { x: at, y: n * pitch + 20, width: Math.max(1, size - 2), height: 12, rx: 3, fill: kinds[k][1] });
      hint(bar, () => `${row.name}\n${kinds[k][0]}: ${count(part)} (${percent(part / sum(row))})`);
      svg.append(bar);
      at += size;
    });
  });
}

function columns(id, values, names, tell, format, note, times) {
  if (!values.some((value) => value)) return void clear(id, note);
  const figure = clear(id);
  const [svg, width] = canvas(figure, 190, "Column chart");
  const [left, bottom, top] = [46, 164, niceTop(Math.max(...values))];
  const pitch = (width - left) / values.length;
  const y = (value) => bottom - (bottom - 10) * (value / top);
  if (times) timeAxis(svg, (t) => left + ((width - left) * (t - times[0])) / (times[1] - times[0]), times, 10, bottom);
  valueAxis(svg, y, top, width, left, format);
  const every = Math.ceil(46 / pitch);
  values.forEach((value, n) => {
    const bar = make("rect", { x: left + n * pitch + 1, y: y(value), width: Math.max(1, pitch - 2), height: bottom - y(value), rx: Math.min(3, pitch / 4), fill: "var(--s0)" });
    const touch = make("rect", { x: left + n * pitch, y: 0, width: pitch, height: bottom, fill: "transparent" });
    hint(touch, () => tell(n));
    svg.append(bar, touch);
    if (names && n % every === 0) svg.append(make("text", { x: left + n * pitch, y: bottom + 17 }, names[n]));
  });
}

// cells[bucket][level]: a share of the bucket's requests. Level 0 is the lowest score.
function heat(id, cells, times, threshold, tell) {
  const figure = clear(id);
  const [svg, width] = canvas(figure, 236, "Heat map of scores over time");
  const [left, bottom, levels] = [46, 210, cells[0].length];
  const [across, up] = [(width - left) / cells.length, (bottom - 6) / levels];
  cells.forEach((bucket, n) =>
    bucket.forEach((share, level) => {
      const box = { x: left + n * across, y: bottom - (level + 1) * up, width: Math.max(1, across - 1), height: up - 1, rx: 2 };
      const strength = share ? 0.1 + 0.9 * Math.sqrt(share) : 0;
      const cell = make("rect", { ...box, style: `fill: rgba(var(--heat), ${strength.toFixed(3)})` });
      hint(cell, () => tell(n, level));
      svg.append(cell);
    }),
  );
  for (const score of [0, 0.5, 1]) {
    svg.append(make("text", { x: left - 8, y: bottom - (bottom - 6) * score + 4, "text-anchor": "end" }, score));
  }
  const x = (time) => left + ((width - left) * (time - times[0])) / (times[1] - times[0]);
  const axis = make("g"); timeAxis(axis, x, times, bottom, bottom); svg.append(axis);
  if (threshold !== null) {
    const at = bottom - (bottom - 6) * threshold;
    svg.append(make("line", { x1: left, x2: width, y1: at, y2: at, stroke: "var(--ink)", "stroke-dasharray": "5 4" }));
  }
}
