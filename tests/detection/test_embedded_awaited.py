"""The embedded detector in asyncio: the same verdicts, and a loop that goes on."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from demur.detection.embedded import EmbeddedDetector
from demur.detection.guarded import Guarded
from demur.vocabulary import Evidence

TEXTS = (
    "I'm sorry, but I can't help with that.",
    "The capital of Australia is Canberra.",
    "Let's talk about something more pleasant instead, shall we?",
    "That is a question for a lawyer, and I would rather leave it at that. " * 3,
    "",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("final", [True, False])
async def test_awaited_verdicts_are_the_same(text, final):
    """Awaited or not, guarded or not, a text gets one verdict."""
    detector = EmbeddedDetector.load()
    evidence = Evidence(text=text)
    verdict = detector.classify(evidence, final=final)
    assert await detector.aclassify(evidence, final=final) == verdict
    assert await Guarded(detector, 30).aclassify(evidence, final=final) == verdict


async def test_the_encoder_runs_off_the_loop(monkeypatch):
    """While the encoder thinks, other tasks run; it is asked in another thread."""
    detector = EmbeddedDetector.load()
    assert detector.second is not None
    seen, asked, gate = [], threading.Event(), threading.Event()

    class Slow:
        def outputs(self, text):
            seen.append(threading.current_thread())
            asked.set()
            assert gate.wait(10)
            return detector.second.encoder.outputs(text)

    always = replace(detector.second, encoder=Slow(), low=0.0, high=1.0)
    asking = asyncio.create_task(
        Guarded(replace(detector, second=always), 30).aclassify(Evidence(text=TEXTS[0]))
    )
    assert await asyncio.to_thread(asked.wait, 10)
    gate.set()
    assert (await asking).label == "refusal"
    assert seen[0] is not threading.current_thread()
