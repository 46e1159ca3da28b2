"""A pytest plugin that makes every OpenAI client a wrapped one, as soon as it is constructed.

It needs none of this repository's tests, only an installed demur. The policy retries, so every
request to be judged goes through a flow and every stream is held back, but nothing that the SDK's
tests serve begins with the one phrase that is a refusal here.
"""

from __future__ import annotations

import functools
from typing import Any

import openai
import pytest

from demur.adapters.openai.client import _WIRING, _wrapped_class
from demur.adapters.openai.exchange import Wiring
from demur.policy import Policy
from demur.policy.schema import Retry, Rule
from demur.testing import PhraseDetector
from demur.vocabulary import Evidence, Outcome, Verdict


class Phrase(PhraseDetector):
    """Lets through what says nothing: much of what the SDK's tests serve is empty."""

    def classify(self, evidence: Evidence, *, final: bool = True) -> Verdict:
        if final and not evidence.text and not evidence.refusal:
            return Verdict("normal", 0.0, self.name)
        return super().classify(evidence, final=final)


RULE = Rule(name="all", actions=("tag", "log", "retry"), retry=Retry(fallbacks=("another-model",)))
records: list[Outcome] = []
wiring = Wiring(Policy(rules=(RULE,)), Phrase(("I'm sorry",)), records.append, {})


def wrap_from_birth(cls: Any) -> None:
    made = cls.__init__

    @functools.wraps(made)
    def init(self: Any, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        if "_demur_plain" not in vars(type(self)):
            self.__class__ = _wrapped_class(type(self))
        vars(self)[_WIRING] = wiring

    cls.__init__ = init


for client_class in (openai.OpenAI, openai.AsyncOpenAI):
    wrap_from_birth(client_class)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    fell_back = sum(record.fell_back for record in records)
    terminalreporter.write_line(f"demur: {len(records)} requests judged, {fell_back} fell back")
