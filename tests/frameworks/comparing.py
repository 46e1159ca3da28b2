"""What a case gives with a plain client and with a wrapped one, and where the two differ."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import openai
from pydantic_core import to_jsonable_python

import demur
from demur.errors import UnsupportedClientError
from demur.testing import CapturedRecords, Recorded, Upstream

from .obedient import scripts

# What is another at each call, with or without demur.
_NAMES = [
    (re.compile(r"\b(chatcmpl|resp|msg|call|fc|req)([-_])\d+(_\d+)?\b"), r"\1\2N"),
    (re.compile(r"\b\d{8}T\d{12}Z"), "TIME-"),
    (re.compile(r"\b[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b(0x)?[0-9a-f]{12,32}\b"), "HEX"),
    (re.compile(r"127\.0\.0\.1:\d+|localhost:\d+"), "HOST"),
    (re.compile(r"(\"created(_at)?\": ?)\d+(\.\d+)?"), r"\1TIME"),
    (re.compile(r"\btook \d+\.\d+s"), "took TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:?\d\d)?"), "TIME"),
]
_TIMES = re.compile(
    r"created|time(?!out)|duration|latency|elapsed|nano|\bport\b|_at\b|\bpid|^start$|^end$|counter"
)

Case = Callable[[Any], Any]


@dataclass(frozen=True)
class Known:
    """A difference that is meant: in the cases whose title ``cases`` matches, and why.

    ``aside`` takes it out of what a run gave: what is left must be the same with either client.
    Without it the case has nothing to compare: it fails, or nothing is recorded, with either.
    """

    cases: str
    reason: str
    aside: Callable[[Any], Any] | None = None


@dataclass
class Result:
    """What came of one module's cases, each in both worlds.

    ``first`` says what ``wrap`` makes of a client that is instrumented already.
    """

    package: str
    version: str = ""
    first: str = ""
    same: int = 0
    known: dict[str, list[str]] = field(default_factory=dict)
    different: dict[str, list[str]] = field(default_factory=dict)

    @property
    def meant(self) -> int:
        return sum(map(len, self.known.values()))

    @property
    def cases(self) -> int:
        return self.same + self.meant + len(self.different)

    def add(self, title: str, known: Known | None, plain: Any, wrapped: Any) -> None:
        found, empty = list(differences(plain, wrapped)), list(_emptiness(plain))
        if known and empty and not known.aside and not found:
            self.known.setdefault(known.reason, []).append(title)
        elif empty:
            self.different[title] = empty
        elif not found:
            self.same += 1
        elif not known or not known.aside:
            self.different[title] = found
        elif left := list(differences(known.aside(plain), known.aside(wrapped))):
            self.different[title] = left
        else:
            self.known.setdefault(known.reason, []).append(title)


def compared(name: str) -> Result:
    """Run all of a module's cases; made to be the only thing its process does."""
    module: Any = importlib.import_module(f"{__package__}.{name}")
    result = Result(module.PACKAGE, version(module.PACKAGE))
    declared: list[Known] = getattr(module, "KNOWN", [])
    gc.freeze()  # what the framework has loaded is not what a run leaves behind
    with Upstream({}) as upstream:
        for case in module.CASES:
            _ran(module, case, upstream)  # what is said or looked up but once is not compared
            for refuses in (False, True):
                title = f"{case.__name__} {'refused' if refuses else 'answered'}"
                known = next((known for known in declared if re.search(known.cases, title)), None)
                plain, wrapped = (
                    _ran(module, case, upstream, refuses=refuses, wrap=wrap)
                    for wrap in (False, True)
                )
                result.add(title, known, plain, wrapped)
        if hasattr(module, "instrument"):
            result.first = _instrumented_first(module, upstream)
    for known in declared:
        if known.reason not in result.known:
            result.different[known.cases] = [f"declared, and not so: {known.reason}"]
    return result


def _emptiness(ran: Any) -> Iterator[str]:
    """Why there is nothing to compare a run with."""
    if "raised" in ran:
        yield f"fails with a plain client: {ran['raised']}"
    if ran["records"] == []:
        yield "nothing is recorded of it"


def _instrumented_first(module: Any, upstream: Upstream) -> str:
    with openai.OpenAI(base_url=upstream.base_url, api_key="sk-test") as client:
        try:
            demur.wrap(module.instrument(client))
        except UnsupportedClientError:
            return "refused"
    return "wrapped"


def _ran(
    module: Any, case: Case, upstream: Upstream, *, refuses: bool = False, wrap: bool = False
) -> Any:
    """All that one run let out: its result, warnings, logs, records and what the server saw."""
    upstream.script = dict(scripts(refuses=refuses, wrapped=wrap))
    before, captured = len(upstream.requests), CapturedRecords()
    ran: dict[str, Any] = {}
    with _told() as told:
        getattr(module, "begin", lambda: None)()
        client = _client(case, upstream)
        if wrap:
            client = demur.wrap(client, fallbacks=["second"], sinks=[captured])
        try:
            ran["result"] = _called(case, _instrumented(module, client))
        except Exception as error:  # noqa: BLE001 - a framework may raise anything
            ran["raised"] = f"{type(error).__name__}: {error}"
        gc.collect()  # some spans end only as a stream that was left is collected
        if wrap:
            _wait_for_records(captured, upstream.requests[before:])
        ran["records"] = module.records() if hasattr(module, "records") else None
    bodies = [dict(request.body) for request in upstream.requests[before:]]
    sent = [body for body in bodies if body["model"] == "primary"]
    again = [{**body, "model": "primary"} for body in bodies if body["model"] == "second"]
    fell_back = [record.fell_back for record in captured.records]
    if not wrap:
        again, fell_back = sent if refuses else [], [refuses] * len(sent)
    ran |= {"told": told, "sent": sent, "sent again": again, "fell back": fell_back}
    return _steady(to_jsonable_python(ran, fallback=repr))


def _wait_for_records(captured: CapturedRecords, requests: Sequence[Recorded]) -> None:
    """A stream that was collected is closed, and recorded, by a thread of demur's own."""
    wanted, until = sum(r.model == "primary" for r in requests), time.monotonic() + 2
    while len(captured.records) < wanted and time.monotonic() < until:
        time.sleep(0.01)


def _client(case: Case, upstream: Upstream) -> Any:
    kind = openai.AsyncOpenAI if inspect.iscoroutinefunction(case) else openai.OpenAI
    return kind(base_url=upstream.base_url, api_key="sk-test", max_retries=0)


def _instrumented(module: Any, client: Any) -> Any:
    return module.instrument(client) if hasattr(module, "instrument") else client


def _called(case: Case, client: Any) -> Any:
    if not inspect.iscoroutinefunction(case):
        with client:
            return case(client)

    async def called() -> Any:
        async with client:
            return await case(client)

    return asyncio.run(called())


@contextmanager
def _told() -> Iterator[list[str]]:
    """The warnings of a run, those that were logged among them."""
    told: list[str] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(f"{record.name}: {record.getMessage()}")

    handler = Told(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield told
            told += [f"{warned.category.__name__}: {warned.message}" for warned in caught]
    finally:
        logging.getLogger().removeHandler(handler)


def _steady(value: Any, *, timed: bool = False) -> Any:
    """``value`` without what is another at each call; its numbers, too, where it is ``timed``."""
    if isinstance(value, dict):
        return {
            key: _steady(of, timed=timed or bool(_TIMES.search(key))) for key, of in value.items()
        }
    if isinstance(value, list):
        return [_steady(item, timed=timed) for item in value]
    if timed and isinstance(value, int | float):
        return "TIME"
    if isinstance(value, str):
        for pattern, name in _NAMES:
            value = pattern.sub(name, value)
    return value


def differences(plain: Any, wrapped: Any, path: str = "") -> Iterator[str]:
    if isinstance(plain, dict) and isinstance(wrapped, dict):
        for key in {**plain, **wrapped}:
            if key in plain and key in wrapped:
                yield from differences(plain[key], wrapped[key], f"{path}.{key}")
            else:
                only, of = ("plain", plain) if key in plain else ("wrapped", wrapped)
                yield f"{path}.{key}: only {only}, {of[key]!r}"
    elif isinstance(plain, list) and isinstance(wrapped, list):
        if len(plain) != len(wrapped):
            yield f"{path}: {len(plain)} of them plain, {len(wrapped)} wrapped"
        for index, (one, other) in enumerate(zip(plain, wrapped, strict=False)):
            yield from differences(one, other, f"{path}[{index}]")
    elif plain != wrapped:
        yield f"{path}: {plain!r} plain, {wrapped!r} wrapped"
