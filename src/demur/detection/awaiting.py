"""Asking a detector from asyncio without holding up its event loop."""

from __future__ import annotations

from functools import partial

import anyio.to_thread

from ..vocabulary import Evidence, Verdict
from . import Detector


async def classify_off_loop(
    detector: Detector, evidence: Evidence, *, final: bool = True
) -> Verdict:
    """``detector.classify`` awaited: its own ``aclassify`` where it has one, else in a thread.

    A detector that does not block answers at once, on the loop.
    """
    aclassify = getattr(detector, "aclassify", None)
    if aclassify is not None:
        verdict: Verdict = await aclassify(evidence, final=final)
        return verdict
    classify = partial(detector.classify, evidence, final=final)
    if not detector.blocking:
        return classify()
    return await anyio.to_thread.run_sync(classify, abandon_on_cancel=True)
