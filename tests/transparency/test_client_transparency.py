"""Whatever a server sends reaches the caller of a wrapped client as it reaches a plain one's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from corpus import CORPUS, Shape

import demur

try:
    import httpx2 as httpx  # openai 3.x
except ModuleNotFoundError:
    import httpx  # type: ignore[no-redef]

TAGGING = {"version": 1}
RETRYING = {
    "version": 1,
    "rules": [
        {"name": "r", "actions": ["tag", "log", "retry"], "retry": {"fallbacks": ["second"]}}
    ],
}
SHADOW = {**RETRYING, "mode": "shadow"}

FORMS = ("create", "with_raw_response", "with_streaming_response")
Seen = list[Any]


def shapes() -> Iterator[Any]:
    for shape in CORPUS:
        for name, policy in (("tag", TAGGING), ("retry", RETRYING), ("shadow", SHADOW)):
            if not (shape.refused and name == "retry"):
                yield pytest.param(shape, policy, id=f"{shape.name}-{name}")


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose boundaries are kept: no network merges them."""

    def __init__(self, parts: tuple[bytes, ...]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    async def __aiter__(self) -> Any:
        for part in self._parts:
            await asyncio.sleep(0)
            yield part


def transport(shape: Shape) -> Any:
    def answer(request: Any) -> Any:
        kind = "text/event-stream" if shape.stream else "application/json"
        headers = {"content-type": kind, "x-request-id": "req_1", **shape.headers}
        return httpx.Response(shape.status, headers=headers, stream=Pieces(shape.parts))

    return httpx.MockTransport(answer)


def fields(shape: Shape) -> dict[str, Any]:
    asked: dict[str, Any] = {"model": "m-1", **shape.request}
    if shape.stream:
        asked["stream"] = True
    said = {"input": "How?"} if shape.api == "responses" else {
        "messages": [{"role": "user", "content": "How?"}]
    }  # fmt: skip
    return {**asked, **said}


def resource(client: Any, shape: Shape, form: str) -> Any:
    of_api = client.responses if shape.api == "responses" else client.chat.completions
    return of_api if form == "create" else getattr(of_api, form)


def seen_object(item: Any) -> Any:
    """All there is to an object: its type, what it dumps, what was set on it, how it prints."""
    if not isinstance(item, openai.BaseModel):
        return item
    dumped = item.model_dump(warnings=False), item.model_dump(exclude_unset=True, warnings=False)
    return type(item), dumped, item.model_fields_set, repr(item), getattr(item, "_request_id", None)


def seen_error(error: Exception) -> Any:
    return (
        type(error),
        str(error),
        getattr(error, "body", None),
        getattr(error, "status_code", None),
    )


def ask(client: Any, shape: Shape, form: str) -> Seen:
    """What a blocking caller sees, in order, an exception last."""
    seen: Seen = []
    try:
        create = resource(client, shape, form).create
        if form == "with_streaming_response":
            with create(**fields(shape)) as raw:
                seen += [raw.status_code, dict(raw.headers)]
                seen += list(raw.http_response.iter_raw())
            return seen
        answer = create(**fields(shape))
        if form == "with_raw_response":
            seen += [answer.status_code, dict(answer.headers)]
            seen += [] if shape.stream else [answer.content]
            answer = answer.parse()
        if isinstance(answer, openai.Stream):
            for item in answer:
                seen.append(seen_object(item))
        else:
            seen.append(seen_object(answer))
    except Exception as error:  # noqa: BLE001 - compared with that of the plain client
        seen.append(seen_error(error))
    return seen


async def ask_async(client: Any, shape: Shape, form: str) -> Seen:
    seen: Seen = []
    try:
        create = resource(client, shape, form).create
        if form == "with_streaming_response":
            async with create(**fields(shape)) as raw:
                seen += [raw.status_code, dict(raw.headers)]
                seen += [part async for part in raw.http_response.aiter_raw()]
            return seen
        answer = await create(**fields(shape))
        if form == "with_raw_response":
            seen += [answer.status_code, dict(answer.headers)]
            seen += [] if shape.stream else [answer.content]
            answer = answer.parse()
        if isinstance(answer, openai.AsyncStream):
            async for item in answer:
                seen.append(seen_object(item))
        else:
            seen.append(seen_object(answer))
    except Exception as error:  # noqa: BLE001
        seen.append(seen_error(error))
    return seen


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("shape", "policy"), list(shapes()))
def test_a_blocking_caller_sees_no_difference(shape: Shape, policy: Any, form: str) -> None:
    """Raw bytes and their boundaries, headers, objects and errors are those of the plain client."""
    with openai.OpenAI(
        api_key="k", max_retries=0, http_client=httpx.Client(transport=transport(shape))
    ) as plain:
        wrapped = demur.wrap(plain, policy=policy)
        expected = ask(plain, shape, form)
        assert ask(wrapped, shape, form) == expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("shape", "policy"), list(shapes()))
async def test_an_awaiting_caller_sees_no_difference(shape: Shape, policy: Any, form: str) -> None:
    """The same, asynchronously."""
    async with openai.AsyncOpenAI(
        api_key="k", max_retries=0, http_client=httpx.AsyncClient(transport=transport(shape))
    ) as plain:
        wrapped = demur.wrap(plain, policy=policy)
        expected = await ask_async(plain, shape, form)
        assert await ask_async(wrapped, shape, form) == expected
