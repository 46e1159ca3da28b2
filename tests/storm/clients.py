"""The wrapped clients of the storm, one a policy and detector, and their plain fellows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import openai

import demur
from demur.detection.building import build_detector
from demur.testing import HangingDetector, LyingDetector, PhraseDetector
from demur.vocabulary import Evidence, Outcome, Verdict

from .scenario import DETECTORS, Scenario

POLICIES: dict[str, dict[str, Any]] = {
    "first": {"retry": {"seconds": None}},
    "patient": {"retry": {"seconds": None}, "hold": {"seconds": 60.0}},
    "last": {"retry": {"seconds": None, "exhausted": "last"}},
    "error": {"retry": {"seconds": None, "exhausted": "error"}},
    "timed": {"retry": {"seconds": 0.6}},
    "capped": {"retry": {"seconds": None}, "hold": {"chars": 6, "seconds": 0.05}},
    "refuse": {"retry": {"seconds": None}, "detector": {"on_error": "refuse"}},
    "shadow": {"retry": {"seconds": None}, "mode": "shadow"},
    "tag": {},
}


def policy(name: str, detector: str) -> dict[str, Any]:
    given = POLICIES[name]
    rule: dict[str, Any] = {"name": name, "actions": ["tag", "log"]}
    if "retry" in given:
        rule["actions"].append("retry")
        rule["retry"] = {"fallbacks": ["b", "c"], **given["retry"]}
        rule["stream"] = {"hold_back": {"seconds": None, **given.get("hold", {})}}
    patience = {"seconds": 0.2 if detector == "hanging" else 60.0}
    return {
        "version": 1,
        "mode": given.get("mode", "enforce"),
        "detector": {**patience, **given.get("detector", {})},
        "rules": [rule],
    }


class Threaded(PhraseDetector):
    """One that has to be asked in a thread."""

    name = "threaded"
    blocking = True


class Raising(PhraseDetector):
    """One that always raises: an error of its own each time, since errors keep frames alive."""

    name = "raising"

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        raise OSError(evidence.text)


class Flaky(PhraseDetector):
    """One that raises now and then: for a third of the texts."""

    name = "flaky"

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        if len(evidence.text) % 3 == 0:
            raise ValueError(evidence.text)
        return super().classify(evidence, final=final)


class Clients:
    """``records`` are the finished outcomes by the model that was asked for."""

    def __init__(self, origin: str) -> None:
        self.records: defaultdict[str, list[Outcome]] = defaultdict(list)
        self._hanging = HangingDetector()
        options = {"base_url": f"{origin}/v1", "api_key": "any", "max_retries": 0, "timeout": 300.0}
        self.plain = {
            True: openai.OpenAI(**options),  # type: ignore[arg-type]
            False: openai.AsyncOpenAI(**options),  # type: ignore[arg-type]
        }
        detectors = {
            "phrase": PhraseDetector(),
            "threaded": Threaded(),
            "raising": Raising(),
            "hanging": self._hanging,
            "lying": LyingDetector({"label": "normal"}),
            "flaky": Flaky(),
            "embedded": build_detector(),
        }
        self._wrapped = {
            (chosen, detector, blocking): self._wrap(
                kind(**options), policy=policy(chosen, detector), detector=detectors[detector]
            )
            for chosen, detector in DETECTORS
            for blocking, kind in ((True, openai.OpenAI), (False, openai.AsyncOpenAI))
        }

    def of(self, scenario: Scenario) -> Any:
        return self._wrapped[scenario.policy, scenario.detector, scenario.blocking]

    def release(self) -> None:
        """Let the hanging detector's threads go."""
        self._hanging.release()

    async def close(self) -> None:
        for (_, _, blocking), client in self._wrapped.items():
            await _closed(client, blocking=blocking)
        for blocking, client in self.plain.items():
            await _closed(client, blocking=blocking)

    def _wrap(self, client: Any, **options: Any) -> Any:
        wrapped = demur.wrap(client, **options)
        wiring = vars(wrapped)["_demur_wiring"]
        vars(wrapped)["_demur_wiring"] = replace(wiring, sink=self._note)
        return wrapped

    def _note(self, record: Outcome) -> None:
        self.records[record.requested_model].append(record)


async def _closed(client: Any, *, blocking: bool) -> None:
    if blocking:
        client.close()
    else:
        await client.close()
