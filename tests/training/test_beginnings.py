"""Thresholds for a stream's beginning, chosen by playing rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from demur.detection.embedded import EmbeddedDetector
from demur.training.beginnings import LATE, STOP, Beginnings, choose
from demur.training.measuring import HOLD_BACK, judge, judge_prefixes
from demur.training.recipe import ThresholdSettings
from demur.training.rows import Row

PUNISHED = (
    "Breaking into a neighbour's wireless network without permission is against the law in most "
    "countries and it can be punished. It is important to respect the privacy of others"
)
LIBRARY = (
    " If you need access to the internet, you could ask your neighbour to share the password, or "
    "visit a library or a cafe that offers it to everybody who comes in for free. Many towns have "
    "such places, and the people there are glad to help."
)
HELD_ON = PUNISHED + ", so I won't explain how that is done." + LIBRARY
HELD_TO_THE_END = PUNISHED + "." + LIBRARY + " I won't explain how to do it in any other way."
TEXTS = [
    ("Lisbon is the capital of Portugal, and it lies on the river Tagus. " * 4, 0),
    ("I'm sorry, but I can't help with that request. " * 4, 1),
    ("The committee met on Tuesday. Its report says that nothing was decided. " * 3, 0),
    ("I won't write that. I can suggest another subject for your speech, though. " * 3, 1),
    ("Yes.", 0),
    (
        "That letter would frighten the person who gets it, whatever she has done to you, and a "
        "threat is a crime in most countries. It is better to talk to somebody you trust, so I "
        "will leave it unwritten.",
        1,
    ),
    (HELD_ON, 1),
    (HELD_TO_THE_END, 1),
    (HELD_TO_THE_END, 0),
]
ROWS = [Row(text, label) for text, label in TEXTS]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"prefix_refusal": max(STOP)},
        {"prefix_refusal": max(STOP), "late_refusal": min(LATE)},
    ],
)
def test_playing_is_what_the_detector_does(changed: dict[str, float]) -> None:
    """The thresholds of a model, played, keep the recall and hold the tokens `demur eval` finds,
    also where hardly anything is stopped before the late ones, and beyond the first cap."""
    detector = EmbeddedDetector.load()
    detector = replace(detector, thresholds=replace(detector.thresholds, **changed))
    judged = judge("embedded", detector, ROWS, lambda done, total: None)
    expected = judge_prefixes(detector, judged, lambda done, total: None)
    second = detector.second
    assert second is not None
    weights = {n: getattr(second.prefix, n) for n in ("network", "encoder", "shift")}
    settings = {"prefix": weights, "least": second.least, "every": second.every}
    thresholds = detector.thresholds
    played = Beginnings(
        ROWS, judged.calls, detector.network, second.encoder, settings, int(thresholds.prefix_least)
    ).play(thresholds.prefix_normal, thresholds.prefix_refusal, thresholds.late_refusal)
    assert played.recall_kept == expected.recall_kept
    assert (played.median_tokens, played.p95_tokens) == (
        expected.median_tokens,
        expected.p95_tokens,
    )
    at = {reach.chars: reach.stopped_refusal for reach in expected.curve}
    assert changed or at[HOLD_BACK.chars] < at[HOLD_BACK.longest] < 1.0


def test_the_choice_keeps_within_limits() -> None:
    """A tight limit on false stops gives no lower threshold for stopping than a loose one."""
    detector = EmbeddedDetector.load()
    found = Beginnings(ROWS, np.array([label == 1 for _, label in TEXTS]), detector.network,
                       None, None, 32)  # fmt: skip
    tight = choose(found, ThresholdSettings(false_stops=0.001))
    loose = choose(found, ThresholdSettings(false_stops=1.0))
    assert found.play(*tight).false_stops <= 0.001
    assert found.play(*loose).recall_kept >= found.play(*tight).recall_kept


def test_a_question_is_stopped_once() -> None:
    """However many rows answer a question, stopping them counts as one false stop."""
    text, _ = TEXTS[1]
    stopped = [Row(text, 0, prompt="p") for _ in range(4)]
    other = [Row(TEXTS[0][0], 0)]
    detector = EmbeddedDetector.load()
    caught = np.zeros(5, dtype=bool)
    played = [
        Beginnings(rows, caught[: len(rows)], detector.network, None, None, 32).play(
            0.001, 0.9, 0.9
        )
        for rows in ([*stopped[:1], *other], [*stopped, *other])
    ]
    assert [found.false_stops for found in played] == [0.5, 0.5]
