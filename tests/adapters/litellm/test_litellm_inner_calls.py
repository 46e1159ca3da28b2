"""Requests for which LiteLLM runs tools itself: it calls the model again with what they gave."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mcp_server import McpServer
from proxy_scene import ANSWER, REFUSAL, SECOND, rule
from proxy_stage import Proxy, skip_without_proxy
from test_litellm_operators import ASK, CHAT, Answer

from demur.testing import Reply, ToolCall, Upstream

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
PATHS = pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
GATEWAY = {
    "type": "mcp",
    "server_label": "litellm",
    "server_url": "litellm_proxy",
    "require_approval": "never",
}
OWN = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}

# A callback that runs a tool itself, as LiteLLM's web search does.
_LOOP = """
from litellm.integrations.custom_logger import CustomLogger
from litellm.types.integrations.custom_logger import AgenticLoopPlan, AgenticLoopRequestPatch

class Loop(CustomLogger):
    async def async_should_run_agentic_loop(self, response, **kwargs):
        if isinstance(response, dict):
            ids = [item["id"] for item in response["content"] if item.get("name") == "look_up"]
        else:
            chosen = getattr(response, "choices", None)
            calls = chosen and chosen[0].message.tool_calls or ()
            ids = [call.id for call in calls if call.function.name == "look_up"]
        return bool(ids), {"tool_calls": ids}
    async def async_build_agentic_loop_plan(self, tools, messages, response, **kwargs):
        ids = tools["tool_calls"]
        if isinstance(response, dict):
            told = [{"type": "tool_result", "tool_use_id": i, "content": "x"} for i in ids]
            more = [{"role": "assistant", "content": response["content"]},
                    {"role": "user", "content": told}]
        else:
            told = [{"role": "tool", "tool_call_id": i, "content": "x"} for i in ids]
            more = [response.choices[0].message.model_dump(exclude_none=True), *told]
        patch = AgenticLoopRequestPatch(messages=[*messages, *more], max_tokens=64)
        return AgenticLoopPlan(run_agentic_loop=True, request_patch=patch)

loop = Loop()
"""


def looks_up(then: str) -> Any:
    """Calls the tool that it is given, if any, and says the text once it knows the result."""

    def reply(asked: Mapping[str, Any]) -> Reply:
        tools = asked.get("tools")
        said = json.dumps(asked.get("messages") or asked["input"])
        if not tools or any(kind in said for kind in ('"tool"', "tool_result", "call_output")):
            return Reply(then)
        name = tools[0].get("name") or tools[0]["function"]["name"]
        return Reply(tool_calls=(ToolCall(name, '{"city": "Lisbon"}'),))

    return reply


SCRIPT: dict[str, Any] = {
    "m-refusing": Reply(REFUSAL),
    "m-finding": looks_up(ANSWER),
    "m-finding-too": looks_up(SECOND),
    "m-shy": looks_up(REFUSAL),
    "m-also-refusing": Reply("I'm sorry, I can't do that either."),
}
GROUPS = {
    "finding": "m-finding",
    "primary": "m-refusing",
    "shy": "m-shy",
    "both": "m-shy",
    "second": "m-finding-too",
    "stubborn": "m-also-refusing",
    "claude": "anthropic/m-shy",
    "claude-too": "anthropic/m-finding-too",
}
POLICY = {
    "version": 1,
    "rules": [
        rule(["finding", "primary", "shy"], "second"),
        rule("both", "stubborn"),
        rule("claude", "claude-too"),
    ],
}
CASES = pytest.mark.parametrize(
    ("model", "called", "text", "label"),
    [
        ("finding", ["m-finding"] * 2, ANSWER, "normal"),
        ("primary", ["m-refusing", *["m-finding-too"] * 2], SECOND, "normal"),
        ("shy", ["m-shy", "m-shy", *["m-finding-too"] * 2], SECOND, "normal"),
        ("both", ["m-shy", "m-shy", "m-also-refusing"], REFUSAL, "refusal"),
    ],
)


@pytest.fixture(scope="module")
def tooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Upstream, Proxy]]:
    skip_without_proxy()
    folder: Path = tmp_path_factory.mktemp("tooled")
    (folder / "loops.py").write_text(_LOOP)
    with Upstream(SCRIPT) as upstream, McpServer() as maps:
        server = {"url": maps.url, "transport": "http", "allow_all_keys": True}
        with Proxy(
            folder,
            base_url=upstream.base_url,
            models=GROUPS,
            addresses={"anthropic": {"api_base": upstream.origin}},
            policy=POLICY,
            callbacks=["loops.loop"],
            parts={"mcp_servers": {"maps": server}, "router_settings": {"num_retries": 0}},
        ) as proxy:
            yield upstream, proxy.wait_until_up()


def ask(tooled: tuple[Upstream, Proxy], path: str, model: str, tool: Any) -> tuple[Answer, str]:
    asked: dict[str, Any] = {"input" if path == RESPONSES else "messages": ASK}
    answer = Answer(*tooled, path, {"model": model, "max_tokens": 64, "tools": [tool], **asked})
    body = json.loads(answer.body)
    if path == CHAT:
        return answer, body["choices"][0]["message"]["content"]
    if path == MESSAGES:
        return answer, body["content"][0]["text"]
    texts = [item["content"][0]["text"] for item in body["output"] if item["type"] == "message"]
    return answer, "".join(texts)


@PATHS
@CASES
def test_tools_of_the_proxys_mcp_gateway(
    tooled: tuple[Upstream, Proxy],
    path: str,
    model: str,
    called: list[str],
    text: str,
    label: str,
) -> None:
    """The answer is judged, and not the call of a tool before it; a fallback may use them too."""
    answer, told = ask(tooled, path, model, GATEWAY)
    assert (answer.status, answer.called, told) == (200, called, text)
    assert answer.headers["x-demur-label"] == label


@CASES
def test_a_tool_that_a_callback_runs(
    tooled: tuple[Upstream, Proxy], model: str, called: list[str], text: str, label: str
) -> None:
    """As for those of the gateway."""
    answer, told = ask(tooled, CHAT, model, OWN)
    assert (answer.status, answer.called, told) == (200, called, text)
    assert answer.headers["x-demur-label"] == label


def test_a_tool_that_a_callback_runs_for_messages(tooled: tuple[Upstream, Proxy]) -> None:
    """As on chat, where the provider speaks the API that was asked."""
    own = {"name": "look_up", "input_schema": {"type": "object"}}
    answer, told = ask(tooled, MESSAGES, "claude", own)
    assert (answer.status, told) == (200, SECOND)
    assert answer.called == ["m-shy", "m-shy", "m-finding-too", "m-finding-too"]
    assert answer.headers["x-demur-attempts"] == "2"


@PATHS
def test_rows_of_the_log(tooled: tuple[Upstream, Proxy], path: str) -> None:
    """One an attempt, whatever LiteLLM calls within it: the refused one's is tagged as such."""
    _, proxy = tooled
    before = proxy.count_records()
    ask(tooled, path, "shy", GATEWAY)
    rows = [
        (row["status"], row["model_group"], [t for t in row["request_tags"] if "demur" in t])
        for row in proxy.records_after(before, 4)
        if row["model_group"]
    ]
    assert sorted(rows, reverse=True) == [
        ("success", "shy", ["demur:refusal"]),
        ("success", "second", ["demur:refusal", "demur:served:second"]),
    ]


@PATHS
@pytest.mark.parametrize("mark", ["_skip_mcp_handler", "_agentic_loop_depth"])
def test_a_mark_of_the_callers_own(tooled: tuple[Upstream, Proxy], path: str, mark: str) -> None:
    """It says nothing: nobody slips past the policy by what LiteLLM marks its own calls with."""
    asked: dict[str, Any] = {"input" if path == RESPONSES else "messages": ASK}
    answer = Answer(*tooled, path, {"model": "primary", "max_tokens": 64, mark: 1, **asked})
    assert (answer.status, answer.called) == (200, ["m-refusing", "m-finding-too"])
    assert answer.headers["x-litellm-attempted-fallbacks"] == "1"
    assert answer.headers["x-litellm-model-group"] == "second"
    assert SECOND in answer.body
