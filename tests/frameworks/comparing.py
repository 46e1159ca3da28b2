"""What a case gives with a plain client and with a wrapped one, and where the two differ."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import openai
from pydantic_core import to_jsonable_python

import demur
from demur.testing import CapturedRecords, Upstream

from .obedient import as_second, scripts

# What is another at each call, with or without demur.
_NAMES = [
    (re.compile(r"\b(chatcmpl|resp|msg|call|fc|req)([-_])\d+(_\d+)?\b"), r"\1\2N"),
    (re.compile(r"\b[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b(0x)?[0-9a-f]{12,32}\b"), "HEX"),
    (re.compile(r"127\.0\.0\.1:\d+|localhost:\d+"), "HOST"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:?\d\d)?"), "TIME"),
]
_TIMES = re.compile(
    r"created|time|date|duration|latency|elapsed|nano|port\b|\bts\b|_at\b|process|thread"
)

Case = Callable[[Any], Any]


@dataclass(frozen=True)
class Known:
    """A difference that is meant: in which cases (part of the name), and why.

    ``seen`` takes what a wrapped client gave and gives what must equal the plain one's; without
    it the case is expected to fail, wrapped or not.
    """

    case: str
    reason: str
    seen: Callable[[Any], Any] | None = None


@dataclass
class Result:
    """What came of one module's cases, each in both worlds."""

    package: str
    version: str = ""
    same: int = 0
    known: dict[str, list[str]] = field(default_factory=dict)
    different: dict[str, list[str]] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        return self.same + sum(map(len, self.known.values())) + len(self.different)


def compared(name: str) -> Result:
    """Run all of a module's cases; made to be the only thing its process does."""
    module: Any = importlib.import_module(f"{__package__}.{name}")
    result = Result(module.PACKAGE, version(module.PACKAGE))
    unseen = set(module.KNOWN) if hasattr(module, "KNOWN") else set()
    for case in module.CASES:
        _ran(module, case, False, False)  # what is said or looked up but once is not compared
        for refuses in (False, True):
            title = f"{case.__name__}, {'refused' if refuses else 'answered'}"
            plain, wrapped = (_ran(module, case, refuses, w) for w in (False, True))
            known = next((k for k in getattr(module, "KNOWN", ()) if k.case in title), None)
            found = _found(plain, wrapped, known)
            if found:
                result.different[title] = found
            elif known:
                result.known.setdefault(known.reason, []).append(title)
                unseen.discard(known)
            else:
                result.same += 1
    for known in unseen:
        result.different[known.case] = [f"declared, and not seen: {known.reason}"]
    return result


def _found(plain: Any, wrapped: Any, known: Known | None) -> list[str]:
    if "raised" in plain:
        as_said = known is not None and known.seen is None and plain["raised"] == wrapped["raised"]
        return [] if as_said else [f"fails plain: {plain['raised']}"]
    if known is None:
        return list(differences(plain, wrapped))
    if known.seen is None or not list(differences(plain, wrapped)):
        return [f"declared, and not seen: {known.reason}"]
    return list(differences(plain, known.seen(wrapped)))


def _ran(module: Any, case: Case, refuses: bool, wrap: bool) -> Any:
    """All that one run let out: its result, warnings, logs, records and what the server saw."""
    captured = CapturedRecords()
    script = scripts(refuses=refuses) if wrap else {"primary": as_second}
    if not refuses:
        script = scripts(refuses=False)
    with Upstream(script) as upstream, _told() as told:
        given = _client(case, upstream)
        client = demur.wrap(given, fallbacks=["second"], sinks=[captured]) if wrap else given
        seen: dict[str, Any] = {}
        try:
            outcome = getattr(module, "instrument", lambda same: same)(client)
            seen["result"] = _called(case, outcome)
        except Exception as error:
            seen["raised"] = f"{type(error).__name__}: {error}"
        if hasattr(module, "records"):
            seen["records"] = module.records()
        seen["told"] = told
        seen["sent"] = [r.body for r in upstream.calls("primary")]
        seen["again"] = [{**r.body, "model": "primary"} for r in upstream.calls("second")]
        if not wrap:
            seen["again"] = seen["sent"] if refuses else []
        seen["judged"] = [r.fell_back for r in captured.records] or "nothing"
        if not wrap:
            seen["judged"] = [refuses] * len(seen["sent"])
    return _steady(to_jsonable_python(seen, fallback=repr))


def _client(case: Case, upstream: Upstream) -> Any:
    kind = openai.AsyncOpenAI if inspect.iscoroutinefunction(case) else openai.OpenAI
    return kind(base_url=upstream.base_url, api_key="sk-test", max_retries=0)


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
    """The warnings and logged warnings of a run."""
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(f"{record.name}: {record.getMessage()}")  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield told
            told += [f"{w.category.__name__}: {w.message}" for w in caught]
    finally:
        logging.getLogger().removeHandler(handler)


def _steady(value: Any) -> Any:
    """``value`` without what is another at each call."""
    if isinstance(value, dict):
        return {
            str(k): "TIME" if _TIMES.search(str(k)) and isinstance(v, int | float) else _steady(v)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [_steady(item) for item in value]
    if isinstance(value, str):
        for pattern, name in _NAMES:
            value = pattern.sub(name, value)
    return value


def differences(plain: Any, wrapped: Any, path: str = "") -> Iterator[str]:
    if isinstance(plain, dict) and isinstance(wrapped, dict):
        for key in {**plain, **wrapped}:
            gone = object()
            one, other = plain.get(key, gone), wrapped.get(key, gone)
            if one is gone or other is gone:
                yield f"{path}.{key}: only {'wrapped' if one is gone else 'plain'}"
            else:
                yield from differences(one, other, f"{path}.{key}")
    elif isinstance(plain, list) and isinstance(wrapped, list) and len(plain) == len(wrapped):
        for index, (one, other) in enumerate(zip(plain, wrapped, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif plain != wrapped:
        yield f"{path}: {plain!r} plain, {wrapped!r} wrapped"
