"""Items of a Responses output beside messages: what of them is the answer, and what leads to it."""

from __future__ import annotations

import json

import pytest
from openai_stage import ANSWER, REFUSAL, sse

import demur
from demur.testing import Reply

SEARCH = {"type": "tool_search_call", "id": "ts_1", "call_id": "call_1", "arguments": {"q": "a"}}
COMPACTION = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}
HERE = {"type": "container_reference", "container_id": "cntr_1"}
SHELL = {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "action": {"commands": ["ls"]}}


def reply(*items, stream):
    """An output of these items and, where one is a text, a message."""
    output = [item if isinstance(item, dict) else message(item) for item in items]
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": "primary"}
    whole = {**body, "output": [{"status": "completed", **item} for item in output]}
    if not stream:
        return Reply(body=json.dumps(whole).encode())
    events = [{"type": "response.created", "response": {**body, "output": []}}]
    for index, item in enumerate(output):
        opened = {**item, **({"content": []} if item["type"] == "message" else {})}
        where = {"output_index": index, "content_index": 0, "item_id": item["id"]}
        events.append({"type": "response.output_item.added", **where, "item": opened})
        texts = [part["text"] for part in item.get("content", ())]
        kind = "response.output_text.delta"
        events.extend({"type": kind, **where, "delta": text} for text in texts)
    events.append({"type": "response.completed", "response": whole})
    return Reply(body=sse(*map(json.dumps, events)))


def message(text):
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


def ask(caller, serve, *items, stream):
    """The types that the caller gets, and how that came about."""
    upstream = serve(primary=reply(*items, stream=stream), second=Reply(ANSWER))
    client = caller.wrap(upstream)
    response = caller.wait(client.responses.create(model="primary", input="How?", stream=stream))
    said = caller.items(response)[-1].response if stream else response
    return [item.type for item in said.output], demur.outcome_of(response).ending


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "items",
    [
        [REASONING, {**SEARCH, "execution": "client"}],
        [REASONING, COMPACTION],
        [{**SHELL, "environment": {"type": "local"}}],
    ],
)
def test_what_is_the_callers_to_work_with_is_delivered(caller, serve, stream, items):
    """A tool's search that the caller makes, or a compaction that was all it asked for."""
    got = ask(caller, serve, *items, stream=stream)
    assert got == ([item["type"] for item in items], "accepted")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "items",
    [
        [{**SEARCH, "execution": "server"}],
        [COMPACTION],
        [{**SHELL, "environment": HERE}, {"type": "shell_call_output", "id": "so_1"}],
        [{"type": "multi_agent_call", "id": "ma_1"}, {"type": "agent_message", "id": "am_1"}],
        [{"type": "multi_agent_call_output", "id": "mo_1", "output": []}],
    ],
)
def test_a_refusal_after_the_providers_own_work_is_one(caller, serve, stream, items):
    """Whatever the provider has searched, run or compacted, the text behind it is the answer."""
    assert ask(caller, serve, *items, REFUSAL, stream=stream) == (["message"], "fell_back")
