"""Prometheus counters and OpenTelemetry events: right, bounded, optional."""

from __future__ import annotations

import builtins
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from demur.errors import MissingExtraError
from demur.policy.schema import Policy
from demur.sinks import OpenTelemetrySink, PrometheusSink, sinks_for
from demur.sinks.background import Background
from demur.sinks.prometheus import MOST_MODELS, OTHER
from demur.vocabulary import Attempt, Outcome, Verdict

DASHBOARD = Path(__file__).parents[2] / "configs" / "grafana-dashboard.json"


def refused(model: str) -> Attempt:
    return Attempt(model, model, "refused", Verdict("refusal", 0.9, "embedded", kind="policy"))


def answered(model: str) -> Attempt:
    return Attempt(model, model, "accepted", Verdict("normal", 0.1, "embedded"))


def fell_back(first: str, second: str) -> Outcome:
    attempts = (refused(first), answered(second))
    return Outcome("chat", first, "fell_back", attempts, 1, added_seconds=0.3, held_seconds=0.2)


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def responses(model: str, label: str, source: str, action: str) -> float:
    found = {"model": model, "label": label, "source": source, "action": action}
    return count("demur_responses_total", **found)


def test_responses_and_fallbacks() -> None:
    """Every response counts once by what became of it, every fallback by how it ended."""
    PrometheusSink()(fell_back("p1", "p2"))
    assert responses("p1", "refusal", "embedded", "replaced") == 1
    assert responses("p2", "normal", "embedded", "served") == 1
    fallback = {"from": "p1", "to": "p2", "outcome": "accepted"}
    assert count("demur_fallbacks_total", **fallback) == 1


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({"ending": "exhausted", "served": 0}, "served"),
        ({"ending": "exhausted", "served": None}, "blocked"),
        ({"ending": "accepted", "served": 0, "shadow": True, "would": "fell_back"}, "shadow"),
    ],
)
def test_actions(changes: dict[str, Any], action: str) -> None:
    """A refusal that is served, kept from the caller, or only recorded, counts as such."""
    outcome = Outcome("chat", "m", "accepted", (refused(f"actions-{action}"),), 0)
    PrometheusSink()(replace(outcome, **changes))
    assert responses(f"actions-{action}", "refusal", "embedded", action) == 1


def test_failed_fallback() -> None:
    """A call that failed is no response but a failed fallback; what is unjudged has no label."""
    failed = Attempt("f2", "f2", "failed", error="APITimeoutError")
    unjudged = Attempt("f3", "f3", "accepted")
    PrometheusSink()(Outcome("chat", "f1", "fell_back", (refused("f1"), failed, unjudged), 2))
    assert count("demur_fallbacks_total", **{"from": "f1", "to": "f2", "outcome": "failed"}) == 1
    assert responses("f3", "none", "none", "served") == 1
    assert not any(
        sample.labels.get("model") == "f2"
        for metric in REGISTRY.collect()
        for sample in metric.samples
    )


def test_seconds() -> None:
    """Detection, hold-back and added seconds are observed once a request."""
    names = ("demur_detection_seconds", "demur_hold_back_seconds", "demur_added_seconds")
    before = [(count(f"{name}_count"), count(f"{name}_sum")) for name in names]
    PrometheusSink()(fell_back("p1", "p2"))
    PrometheusSink()(replace(fell_back("p1", "p2"), held_seconds=None))
    now = [(count(f"{name}_count"), count(f"{name}_sum")) for name in names]
    grown = [(n - m, pytest.approx(t - s)) for (m, s), (n, t) in zip(before, now, strict=True)]
    assert grown == [(2, 0.0), (1, 0.2), (2, 0.6)]


def test_labels_are_bounded() -> None:
    """Callers who invent models cannot grow the registry: what is beyond counts as other."""
    sink = PrometheusSink()
    for number in range(3 * MOST_MODELS):
        sink(fell_back(f"invented-{number}", "p2"))
    models = {
        sample.labels["model"]
        for metric in REGISTRY.collect()
        if metric.name == "demur_responses"
        for sample in metric.samples
    }
    assert len(models) <= MOST_MODELS + 1
    assert responses(OTHER, "refusal", "embedded", "replaced") >= MOST_MODELS


def test_two_policies_one_registry() -> None:
    """Two wrapped clients count into the same metrics."""
    for _ in range(2):
        sinks_for(Policy(metrics=("prometheus",)))(fell_back("twice", "p2"))
    assert responses("twice", "refusal", "embedded", "replaced") in (2, 0)  # 0: beyond the bound


def test_lost_records() -> None:
    """What the audit log lost shows, also of a log that is gone again."""
    PrometheusSink()
    before = count("demur_audit_lost_records")
    background: Background[int] = Background("test", [].extend, capacity=0)
    background.put(1)
    background.put(2)
    del background
    assert count("demur_audit_lost_records") == before + 2


WORKERS = """
import os, sys
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from demur.sinks import PrometheusSink
from demur.sinks.background import Background
background = Background("test", [].extend, capacity=0)
background.put(1)
PrometheusSink()
background.put(2)
if not (pid := os.fork()):
    background.put(3)
    os._exit(0)
os.waitpid(pid, 0)
MultiProcessCollector(registry := CollectorRegistry())
print(registry.get_sample_value("demur_audit_lost_records"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_lost_records_of_several_processes(tmp_path: Path) -> None:
    """A proxy with several workers shows what all of them lost, those that ended too."""
    done = subprocess.run(
        [sys.executable, "-c", WORKERS],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("3.0\n", 0), done.stderr


def test_first_sinks_of_several_threads() -> None:
    """Sinks that are first made at once share the process's metrics."""
    program = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threading import Barrier\n"
        "from demur.sinks import PrometheusSink\n"
        "sys.setswitchinterval(1e-6)\n"
        "start = Barrier(8)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    list(pool.map(lambda _: (start.wait(), PrometheusSink()), range(8)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def spans() -> Iterator[Any]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    exporter.tracer = provider.get_tracer("test")  # type: ignore[attr-defined]
    yield exporter
    provider.shutdown()


def test_event_on_the_active_span(spans: Any) -> None:
    """Each judged attempt is an evaluation event of the request's span, named by convention."""
    with spans.tracer.start_as_current_span("chat m"):
        OpenTelemetrySink()(fell_back("p1", "p2"))
    (span,) = spans.get_finished_spans()
    first, second = span.events
    assert first.name == second.name == "gen_ai.evaluation.result"
    assert dict(first.attributes) == {
        "gen_ai.evaluation.name": "refusal",
        "gen_ai.evaluation.score.value": 0.9,
        "gen_ai.evaluation.score.label": "refusal",
        "gen_ai.request.model": "p1",
        "demur.stage": "embedded",
        "demur.kind": "policy",
        "demur.ending": "fell_back",
        "demur.served": False,
    }
    assert (second.attributes["gen_ai.request.model"], second.attributes["demur.served"]) == (
        "p2",
        True,
    )


def test_no_span_no_event(spans: Any) -> None:
    """Without a recording span nothing happens."""
    OpenTelemetrySink()(fell_back("p1", "p2"))
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("name", ["prometheus", "opentelemetry"])
def test_missing_extra(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that names a sink whose package is missing is told which extra brings it."""
    from demur.sinks.prometheus import _made

    found = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.partition(".")[0] in ("prometheus_client", "opentelemetry"):
            raise ImportError(module)
        return found(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("demur.sinks.prometheus._made", _made.__wrapped__)
    with pytest.raises(MissingExtraError, match=r"demur\[metrics\]"):
        sinks_for(Policy(metrics=(name,)))


def moved(rule: str, started: str | None, *attempts: Attempt, **more: object) -> Outcome:
    return Outcome("chat", "p1", "accepted", attempts, 0, rule, started=started, **more)  # type: ignore[arg-type]


def test_a_breaker_shows_while_it_is_open() -> None:
    """1 from the first request that starts elsewhere until a probe, or anybody, is answered."""
    sink, labels = PrometheusSink(), {"rule": "br", "model": "p1"}
    for started, attempt, more, shown in (
        (None, refused("p1"), {}, None),
        ("breaker", answered("p2"), {}, 1),
        (None, answered("p1"), {"limited": "rights"}, 1),
        ("sticky", answered("p2"), {}, 1),
        ("probe", refused("p1"), {}, 1),
        ("probe", answered("p1"), {"would": "fell_back", "shadow": True}, 1),
        ("probe", answered("p1"), {}, 0),
        ("breaker", answered("p2"), {}, 1),
        (None, answered("p1"), {}, 0),
    ):
        sink(moved("br", started, attempt, **more))  # type: ignore[arg-type]
        assert REGISTRY.get_sample_value("demur_breaker_open", labels) == shown
    counted = {reason: count("demur_starts_total", rule="br", reason=reason)
               for reason in ("breaker", "sticky", "probe")}  # fmt: skip
    assert counted == {"breaker": 2, "sticky": 1, "probe": 3}


def test_a_start_at_a_fallback_is_a_call_to_one() -> None:
    """From the model that was asked for, though it was not called; in shadow mode it was."""
    sink = PrometheusSink()
    fallback = {"from": "p1", "to": "p2", "outcome": "accepted"}
    before = count("demur_fallbacks_total", **fallback)
    sink(moved("moved", "breaker", answered("p2")))
    sink(moved("moved", "breaker", answered("p2"), shadow=True, would="fell_back"))
    assert count("demur_fallbacks_total", **fallback) == before + 1


def test_budgets_that_are_spent_are_counted() -> None:
    """Per rule; a caller without rights is no matter of budgets."""
    sink = PrometheusSink()
    sink(moved("spent", None, refused("p1"), limited="budget"))
    sink(moved("spent", None, refused("p1"), limited="rights"))
    assert count("demur_budget_exceeded_total", rule="spent") == 1


def test_dashboard_asks_for_what_is_there() -> None:
    """Every query of the dashboard names metrics and labels that demur exposes."""
    PrometheusSink()(fell_back("p1", "p2"))
    PrometheusSink()(moved("r", "breaker", refused("p1"), limited="budget"))
    exposed: dict[str, set[str]] = {}
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            exposed.setdefault(sample.name, set()).update(sample.labels)
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    targets = [t for panel in dashboard["panels"] for t in panel.get("targets", ())]
    variables = [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    assert len(targets) >= 8
    assert variables
    for query, legend in [
        *((t["expr"], t["legendFormat"]) for t in targets),
        *((query, "") for query in variables),
    ]:
        names = re.findall(r"demur_\w+", query)
        assert names
        assert set(names) <= set(exposed), query
        known = set().union(*(exposed[name] for name in names))
        used = re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", query)
        grouped = [g.strip() for by in re.findall(r"by \(([^)]*)\)", query) for g in by.split(",")]
        shown = re.findall(r"\{\{(\w+)\}\}", legend)
        listed = re.findall(r"label_values\(\w+, (\w+)\)", query)
        assert {*used, *grouped, *shown, *listed} <= known, query
        assert set(shown) <= set(grouped), query
