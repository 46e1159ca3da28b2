// What the page shows: rows chosen by the filters, summed up for each chart.

const data = JSON.parse(document.getElementById("data").textContent);
const column = data.columns;
const incidentOf = new Map(data.incidents.map((incident) => [incident.row, incident]));
const [NORMAL, PARTIAL, REFUSAL] = [0, 1, 2];
const [ACCEPTED, FELL_BACK, EXHAUSTED] = [0, 1, 2];
const NOTHING = "Nothing here in the chosen requests.";
const first = column.time.reduce((a, b) => Math.min(a, b), Infinity);
const last = column.time.reduce((a, b) => Math.max(a, b), -Infinity);
const state = { rows: [], times: [first, last + 1], sort: "time", down: true, shown: 25 };

const filters = document.getElementById("filters");
function fill(name, options) {
  filters.elements[name].append(...options.map(([value, text]) => make("option", { value }, text)));
}
function choices(names, used) {
  const totals = names.map((name, n) => [n, name, used.reduce((sum, at) => sum + (at === n), 0)]);
  totals.sort((a, b) => b[2] - a[2]);
  return [["", "All"], ...totals.map(([n, name, total]) => [n, `${name} (${count(total)})`])];
}
function periods() {
  const known = [[3600, "Last hour"], [86400, "Last 24 hours"], [3 * 86400, "Last 3 days"], [7 * 86400, "Last 7 days"]];
  return [["", "All"], ...known.filter(([length]) => length < last - first)];
}

function choose() {
  const wanted = Object.fromEntries(new FormData(filters));
  const from = wanted.period ? last - Number(wanted.period) : first;
  state.rows = [];
  for (let n = 0; n < column.time.length; n += 1) {
    if (wanted.model && column.model[n] !== Number(wanted.model)) continue;
    if (wanted.rule && column.rule[n] !== Number(wanted.rule)) continue;
    if (column.time[n] >= from) state.rows.push(n);
  }
  state.times = [from, Math.max(last, from) + 1];
  state.shown = 25;
  draw();
}

const total = (test) => state.rows.reduce((sum, n) => sum + (test(n) ? 1 : 0), 0);
const sumOf = (name) => state.rows.reduce((sum, n) => sum + column[name][n], 0);
function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] : 0;
}
// Enough requests and enough room for each.
const bucketsFor = (requests) => Math.max(6, Math.min(56, Math.floor(requests / 60), Math.floor(innerWidth / 14)));
const bucketOf = (n, buckets) =>
  Math.min(buckets - 1, Math.floor((buckets * (column.time[n] - state.times[0])) / (state.times[1] - state.times[0])));

function figures() {
  const all = state.rows.length;
  const refused = total((n) => column.first[n] === REFUSAL);
  const helped = total((n) => column.ending[n] === FELL_BACK);
  const reached = total((n) => column.served[n] === REFUSAL);
  const tried = state.rows.filter((n) => column.hops[n].length);
  const waits = tried.map((n) => column.added[n]);
  const cost = sumOf("cost");
  const shown = [
    [count(all), "requests"],
    [percent(all ? refused / all : 0), `refused at first (${count(refused)})`],
    [percent(tried.length ? helped / tried.length : 0), `of fallbacks answered (${count(helped)} of ${count(tried.length)})`],
    [percent(all ? reached / all : 0), `refusals served (${count(reached)})`],
    [waits.length ? seconds(quantile(waits, 0.5)) : "none", waits.length ? `added by a fallback (95\u00a0%: ${seconds(quantile(waits, 0.95))})` : "added by fallbacks"],
    data.priced ? [cost.toFixed(2), "added cost"] : [short(sumOf("tokens")), "added tokens"],
  ];
  document.getElementById("figures").replaceChildren(
    ...shown.map(([value, text]) => make("div", {}, make("b", {}, value), make("span", {}, text))),
  );
}

function drawRate() {
  const buckets = bucketsFor(state.rows.length);
  const sizes = new Map();
  state.rows.forEach((n) => sizes.set(column.model[n], (sizes.get(column.model[n]) || 0) + 1));
  const ranked = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || a - b);
  const own = ranked.length > 7 ? ranked.slice(0, 6) : ranked;
  const series = own.map((model) => ({ name: data.models[model], colour: COLOURS[model % 6] }));
  if (ranked.length > 7) series.push({ name: "other models", colour: COLOURS[6] });
  if (!series.length) return void clear("rate", NOTHING);
  const place = new Map(own.map((model, at) => [model, at]));
  const taken = new Set();
  series.forEach((one, at) => {
    if (taken.has(one.colour)) one.colour = COLOURS.find((colour) => !taken.has(colour)) || one.colour;
    taken.add(one.colour);
    one.all = Array(buckets).fill(0); one.hits = Array(buckets).fill(0);
  });
  for (const n of state.rows) {
    const one = series[place.get(column.model[n]) ?? series.length - 1];
    const at = bucketOf(n, buckets);
    one.all[at] += 1; one.hits[at] += column.first[n] === REFUSAL ? 1 : 0;
  }
  for (const one of series) one.values = one.all.map((all, n) => (all ? one.hits[n] / all : null));
  lines("rate", series, state.times, (one, n) => (one.all[n] ? `${percent(one.values[n])} of ${count(one.all[n])}` : "no requests"));
}

function drawBars() {
  const kinds = data.kinds.map((name, k) => ({ name, parts: [total((n) => column.kind[n] === k)] }));
  bars("kinds", ranked(kinds), [["refusals", "var(--s0)"]], "No refusals in the chosen requests.");
  const hops = data.hops.map((name) => ({ name, parts: [0, 0, 0] }));
  for (const n of state.rows) for (const [hop, how] of column.hops[n]) hops[hop].parts[how] += 1;
  bars("hops", ranked(hops), [["answered", "var(--good)"], ["refused too", "var(--bad)"], ["failed", "var(--s6)"]], "No fallback was called in the chosen requests.");
  const rules = data.rules.map((name) => ({ name, parts: [0, 0] }));
  for (const n of state.rows) {
    if (column.first[n] === REFUSAL) rules[column.rule[n]].parts[column.ending[n] === FELL_BACK ? 0 : 1] += 1;
  }
  bars("rules", ranked(rules), [["replaced by an answer", "var(--good)"], ["not replaced", "var(--bad)"]], "No refusals in the chosen requests.");
}
function ranked(rows) {
  const sum = (row) => row.parts.reduce((a, b) => a + b, 0);
  return rows.filter(sum).sort((a, b) => sum(b) - sum(a)).slice(0, 8);
}

function drawCost() {
  const buckets = 28;
  const name = data.priced ? "cost" : "tokens";
  const values = Array(buckets).fill(0);
  for (const n of state.rows) values[bucketOf(n, buckets)] += column[name][n];
  document.querySelector("#cost p").textContent = data.priced ? "Money spent on fallbacks, over time." : "Tokens spent on fallbacks, over time. With --prices: money.";
  const size = (state.times[1] - state.times[0]) / buckets;
  columns("cost", values, null, (n) => `${moment(state.times[0] + n * size)}\n${short(values[n])} ${name}`, short, "No fallback was called in the chosen requests.", state.times);
}

function histogram(id, values, note) {
  const edges = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60];
  const bins = Array(edges.length + 1).fill(0);
  for (const value of values) {
    const at = edges.findIndex((edge) => value < edge);
    bins[at < 0 ? edges.length : at] += 1;
  }
  const from = bins.findIndex(Boolean);
  const to = bins.length - [...bins].reverse().findIndex(Boolean);
  const names = bins.map((_, n) => (n ? seconds(edges[n - 1]) : "0"));
  const tell = (n) => {
    const at = n + from;
    const range = at < edges.length ? `${names[at]} to ${seconds(edges[at])}` : `over ${names[at]}`;
    return `${range}\n${count(bins[at])} requests`;
  };
  columns(id, bins.slice(from, to), names.slice(from, to), tell, short, note);
}

function drawScores() {
  const scored = state.rows.filter((n) => column.score[n] !== null);
  if (!scored.length) return void clear("drift", NOTHING);
  const [buckets, levels] = [bucketsFor(scored.length), 20];
  const cells = Array.from({ length: buckets }, () => Array(levels).fill(0));
  for (const n of scored) cells[bucketOf(n, buckets)][Math.min(levels - 1, Math.floor(column.score[n] * levels))] += 1;
  const all = cells.map((bucket) => bucket.reduce((a, b) => a + b, 0));
  const size = (state.times[1] - state.times[0]) / buckets;
  const shares = cells.map((bucket, n) => bucket.map((hits) => (all[n] ? hits / all[n] : 0)));
  const threshold = column.threshold[scored[scored.length - 1]];
  heat("drift", shares, state.times, threshold, (n, level) =>
    `${moment(state.times[0] + n * size)}\nscore ${(level / levels).toFixed(2)} to ${((level + 1) / levels).toFixed(2)}: ${percent(shares[n][level])}`);
}

const TABLE = [
  ["time", "Time (UTC)", (n) => column.time[n], (n) => moment(column.time[n]), "nowrap"],
  ["path", "What happened", (n) => incidentOf.get(n).path.length, (n) => path(incidentOf.get(n)), ""],
  ["ending", "Ending", (n) => ending(n), (n) => ending(n), "nowrap"],
  ["kind", "Kind", (n) => kind(n), (n) => kind(n), ""],
  ["score", "Score", (n) => column.score[n] ?? -1, (n) => (column.score[n] ?? NaN).toFixed(2), "number"],
  ["added", "Added", (n) => column.added[n], (n) => seconds(column.added[n]), "number nowrap"],
  ["rule", "Rule", (n) => data.rules[column.rule[n]], (n) => data.rules[column.rule[n]], ""],
  ["id", "Request", (n) => incidentOf.get(n).id, (n) => incidentOf.get(n).id, "nowrap"],
];
const kind = (n) => (column.kind[n] === null ? "" : data.kinds[column.kind[n]]);
function ending(n) {
  const would = incidentOf.get(n).would;
  return (would ? `shadow: would have ${would}` : data.endings[column.ending[n]]).replace("_", " ");
}
function path(incident) {
  const pills = incident.path.map(([model, label, score]) =>
    make("span", { class: `pill ${/^\w+$/.test(label) ? label : ""}`, title: `${label}${score === null ? "" : `, score ${score}`}` }, model));
  return make("div", { class: "path" }, ...pills.flatMap((pill, n) => (n ? ["→", pill] : [pill])));
}

function drawTable() {
  const search = document.querySelector("#incidents input").value.trim().toLowerCase();
  const [, , key] = TABLE.find(([name]) => name === state.sort);
  const words = (n) => [incidentOf.get(n).id, ...incidentOf.get(n).path.map((step) => step[0]), data.rules[column.rule[n]], kind(n), ending(n)].join(" ").toLowerCase();
  const found = state.rows.filter((n) => incidentOf.has(n) && (!search || words(n).includes(search)));
  const compare = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
  found.sort((a, b) => (state.down ? compare(b, a) : compare(a, b)));
  document.querySelector("#incidents thead").replaceChildren(make("tr", {}, ...TABLE.map(heading)));
  const rows = found.slice(0, state.shown).map((n) =>
    make("tr", {}, ...TABLE.map(([, , , show, style]) => make("td", { class: style }, show(n)))));
  document.querySelector("#incidents tbody").replaceChildren(...rows);
  const older = data.unlisted ? ` (${count(data.unlisted)} older ones are counted above, not listed)` : "";
  document.getElementById("shown").textContent = `${count(rows.length)} of ${count(found.length)}${older}`;
  document.getElementById("more").hidden = rows.length === found.length;
}
function heading([name, title, , , style]) {
  const sorted = state.sort === name;
  const button = make("button", { type: "button", "data-sort": name }, title + (sorted ? (state.down ? " ↓" : " ↑") : ""));
  const aria = sorted ? { "aria-sort": state.down ? "descending" : "ascending" } : {};
  return make("th", { class: style.replace("nowrap", ""), scope: "col", ...aria }, button);
}

function draw() {
  figures(); drawRate(); drawBars(); drawCost(); drawScores(); drawTable();
  const refused = state.rows.filter((n) => column.first[n] === REFUSAL);
  histogram("added", refused.map((n) => column.added[n]), "No refusals in the chosen requests.");
  histogram("held", state.rows.filter((n) => column.held[n] !== null).map((n) => column.held[n]), "No stream was held in the chosen requests.");
}

fill("model", choices(data.models, column.model));
fill("rule", choices(data.rules, column.rule));
fill("period", periods());
document.getElementById("about").textContent =
  `${data.title}: ${count(column.time.length)} requests` + (column.time.length ? `, ${moment(first)} to ${moment(last)} UTC` : "");
filters.addEventListener("change", choose);
filters.addEventListener("reset", () => setTimeout(choose));
document.querySelector("#incidents thead").addEventListener("click", (event) => {
  const name = event.target.dataset.sort;
  if (!name) return;
  state.down = state.sort === name ? !state.down : true;
  state.sort = name;
  drawTable();
});
document.querySelector("#incidents input").addEventListener("input", () => { state.shown = 25; drawTable(); });
document.getElementById("more").addEventListener("click", () => { state.shown += 100; drawTable(); });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
choose();
