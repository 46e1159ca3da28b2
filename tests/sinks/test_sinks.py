"""Records, log lines and many sinks: complete, on one line, without a text, never in the way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from demur.sinks import LoggingSink, Sinks, to_record
from demur.sinks.record import json_schema
from demur.vocabulary import Attempt, Evidence, Outcome, Usage, Verdict

REFUSED = Attempt(
    target="primary",
    model="primary-1",
    outcome="refused",
    verdict=Verdict("refusal", 0.98765432, "embedded", 0.5, "policy"),
    served_model="primary-1-2025",
    usage=Usage(10, 20),
    seconds=1.23456789,
)
ANSWERED = Attempt(
    target="second",
    model="second",
    outcome="accepted",
    verdict=Verdict("normal", 0.01, "embedded"),
    usage=Usage(10, 200),
    seconds=2.0,
)
OUTCOME = Outcome(
    api="chat",
    requested_model="primary-1",
    ending="fell_back",
    attempts=(REFUSED, ANSWERED),
    served=1,
    rule="support-bot",
    added_seconds=1.3,
    detection_seconds=0.001,
    held_seconds=0.25,
    stream=True,
    policy="0123456789ab",
    metadata=(("team", "support"),),
    id="req-1",
    time=1767323045.678,
)
CONFIGS = Path(__file__).parents[2] / "configs"
VALIDATOR = Draft202012Validator(json_schema())
HOSTILE = 'gpt\r\nending=accepted label=normal "\x1b[31m\u202e\u2028\ud800\x00'


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="demur"):
        yield caplog


def outcome(**fields: object) -> Outcome:
    return Outcome(
        **{"time": 0.0, "api": "chat", "requested_model": "m", "ending": "accepted", **fields}
    )  # type: ignore[arg-type]


def test_record_is_complete() -> None:
    """A record says who was asked, who answered, why, and what it cost."""
    assert to_record(OUTCOME) == {
        "schema": 1,
        "id": "req-1",
        "time": "2026-01-02T03:04:05.678+00:00",
        "policy": "0123456789ab",
        "metadata": {"team": "support"},
        "api": "chat",
        "stream": True,
        "rule": "support-bot",
        "requested_model": "primary-1",
        "served_model": "second",
        "ending": "fell_back",
        "shadow": False,
        "would": None,
        "fell_back": True,
        "label": "normal",
        "served": 1,
        "attempts": [
            {
                "target": "primary",
                "model": "primary-1",
                "served_model": "primary-1-2025",
                "outcome": "refused",
                "verdict": {
                    "label": "refusal",
                    "score": 0.987654,
                    "threshold": 0.5,
                    "stage": "embedded",
                    "kind": "policy",
                    "degraded": None,
                },
                "usage": {"input_tokens": 10, "output_tokens": 20},
                "seconds": 1.234568,
                "error": None,
            },
            {
                "target": "second",
                "model": "second",
                "served_model": None,
                "outcome": "accepted",
                "verdict": {
                    "label": "normal",
                    "score": 0.01,
                    "threshold": 0.5,
                    "stage": "embedded",
                    "kind": None,
                    "degraded": None,
                },
                "usage": {"input_tokens": 10, "output_tokens": 200},
                "seconds": 2.0,
                "error": None,
            },
        ],
        "refused_usage": {"input_tokens": 10, "output_tokens": 20},
        "added_seconds": 1.3,
        "detection_seconds": 0.001,
        "held_seconds": 0.25,
        "finished": True,
        "content": "none",
    }


NAMES = st.text() | st.just(HOSTILE) | st.just("x" * 10_000)
VERDICTS = st.none() | st.builds(
    Verdict,
    label=st.sampled_from(["normal", "partial", "refusal"]),
    score=st.floats(0, 1),
    stage=NAMES,
    degraded=st.none() | NAMES,
)
ATTEMPTS = st.builds(
    Attempt,
    target=NAMES,
    model=NAMES,
    outcome=st.sampled_from(["accepted", "refused", "failed", "abandoned"]),
    verdict=VERDICTS,
    served_model=st.none() | NAMES,
    usage=st.none() | st.builds(Usage, st.integers(0), st.integers(0)),
    seconds=st.floats(0, 1e9),
    error=st.none() | NAMES,
)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    attempts = tuple(draw(st.lists(ATTEMPTS, max_size=3)))
    places = st.integers(0, len(attempts) - 1) if attempts else st.nothing()
    return outcome(
        requested_model=draw(NAMES),
        rule=draw(st.none() | NAMES),
        attempts=attempts,
        served=draw(st.none() | places),
        ending=draw(st.sampled_from(["accepted", "fell_back", "exhausted", "failed", "abandoned"])),
        would=draw(st.sampled_from([None, "fell_back", "exhausted"])),
        held_seconds=draw(st.none() | st.floats(0, 1e6)),
        started=draw(st.sampled_from([None, "breaker", "sticky", "probe"])),
        limited=draw(st.sampled_from([None, "budget", "rights"])),
        id=draw(st.none() | NAMES),
        metadata=draw(st.lists(st.tuples(NAMES, NAMES), max_size=2).map(tuple)),
    )


@given(outcomes())
def test_any_outcome_is_one_short_line(record: Outcome) -> None:
    """Whatever names hold, a record is plain JSON, and no name breaks a line or is long."""
    text = json.dumps(to_record(record), allow_nan=False, ensure_ascii=False)
    assert json.loads(text) == to_record(record)
    assert text.encode("utf-8")
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    longest = max(map(len, _strings(to_record(record))))
    assert longest <= 10 * 201  # an escaped character takes ten at most


def test_published_schema() -> None:
    """The schema in configs is that of the records; to renew it, write ``json_schema()`` there."""
    published = json.loads((CONFIGS / "audit.schema.json").read_text("utf-8"))
    assert published == json_schema()


@given(outcomes())
def test_every_record_fits_the_schema(record: Outcome) -> None:
    """An independent validator takes any record, and none with a word too many or too few."""
    VALIDATOR.validate(to_record(record))
    assert not VALIDATOR.is_valid({k: v for k, v in to_record(record).items() if k != "time"})
    assert not VALIDATOR.is_valid({**to_record(record), "ending": "sideways"})


def test_evidence_shows_nowhere() -> None:
    """What was judged is in no representation, comparison, record or log line of an outcome."""
    kept = replace(REFUSED, evidence=(Evidence("the secret words"),))
    bearing = replace(OUTCOME, attempts=(kept, ANSWERED))
    assert "secret" not in repr(bearing)
    assert "secret" not in json.dumps(to_record(bearing))
    assert bearing == OUTCOME


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def test_log_line(lines: pytest.LogCaptureFixture) -> None:
    """One INFO line an outcome, with the record beside it."""
    LoggingSink()(OUTCOME)
    (record,) = lines.records
    assert (record.name, record.levelname) == ("demur", "INFO")
    assert record.getMessage() == (
        "ending=fell_back label=normal score=0.010 stage=embedded rule=support-bot "
        "requested=primary-1 served=second attempts=2 added_ms=1300.0"
    )
    assert record.demur == to_record(OUTCOME)  # type: ignore[attr-defined]


def test_log_line_cannot_be_forged(lines: pytest.LogCaptureFixture) -> None:
    """A name with line ends, quotes and escapes stays one quoted value of one line."""
    LoggingSink()(outcome(requested_model=HOSTILE, rule="a b"))
    message = lines.records[0].getMessage()
    assert message.isascii()
    assert message.isprintable()
    assert message.startswith('ending=accepted rule="a b" requested="gpt')
    assert " label=normal" not in message.replace(
        json.dumps(to_record(outcome(requested_model=HOSTILE))["requested_model"]), ""
    )


def test_nothing_is_built_when_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """Below INFO the sink does nothing."""
    with caplog.at_level(logging.WARNING, logger="demur"):
        LoggingSink()(OUTCOME)
    assert caplog.records == []


class Broken:
    """A user's sink that fails as long as it is told to."""

    def __init__(self) -> None:
        self.broken = True
        self.calls = 0

    def __call__(self, record: Outcome) -> None:
        self.calls += 1
        if self.broken:
            raise ValueError("the caller's own words")


def test_failing_sinks_do_not_matter(lines: pytest.LogCaptureFixture) -> None:
    """The others are called all the same; the failure is logged once, by its type."""
    broken, seen = Broken(), []
    sinks = Sinks([broken, seen.append])
    for _ in range(3):
        sinks(OUTCOME)
    assert (broken.calls, seen) == (3, [OUTCOME] * 3)
    assert [r.getMessage() for r in lines.records] == ["sink Broken failed: ValueError"]
    broken.broken = False
    sinks(OUTCOME)
    broken.broken = True
    sinks(OUTCOME)
    assert len(lines.records) == 2
