"""The embedded detector in asyncio: the same verdicts, and a loop that goes on."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from demur.detection.embedded import MOST_WAITING, EmbeddedDetector
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

    always = replace(detector.second, encoder=Slow(), doubt=np.zeros(7), high=1.0)
    asking = asyncio.create_task(
        Guarded(replace(detector, second=always), 30).aclassify(Evidence(text=TEXTS[0]))
    )
    assert await asyncio.to_thread(asked.wait, 10)
    gate.set()
    assert (await asking).label == "refusal"
    assert seen[0] is not threading.current_thread()


async def test_more_texts_than_the_encoder_can_read_are_the_networks(monkeypatch):
    """Nobody waits out a deadline for it: beyond a few in line the network's own verdict counts."""
    detector = EmbeddedDetector.load()
    assert detector.second is not None
    gate = threading.Event()

    class Slow:
        def outputs(self, text):
            assert gate.wait(10)
            return detector.second.encoder.outputs(text)

    always = replace(detector.second, encoder=Slow(), doubt=np.zeros(7), high=1.0)
    alone = replace(detector, second=None)
    guarded = Guarded(replace(detector, second=always), 30)
    asked = [Evidence(text=f"{TEXTS[n % 4]} {n}") for n in range(MOST_WAITING + 4)]
    tasks = [asyncio.create_task(guarded.aclassify(evidence)) for evidence in asked]
    for _ in range(500):
        await asyncio.sleep(0.01)
        if sum(task.done() for task in tasks) == 3:
            break
    shed = [n for n, task in enumerate(tasks) if task.done()]
    assert shed == list(range(MOST_WAITING + 1, MOST_WAITING + 4))
    for n in shed:
        verdict = await tasks[n]
        assert verdict.degraded
        assert replace(verdict, degraded=None) == alone.classify(asked[n])
    gate.set()
    for evidence, verdict in zip(asked, await asyncio.gather(*tasks[: shed[0]]), strict=False):
        assert verdict == detector_of(detector, always).classify(evidence)


def detector_of(detector, second):
    """The detector with its own encoder, asked of every text."""
    return replace(detector, second=replace(second, encoder=detector.second.encoder))
