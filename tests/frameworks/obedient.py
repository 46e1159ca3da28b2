"""A model that does as it is asked: it calls the tool, fills the schema, and else it talks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from demur.testing import Reply, ToolCall

REFUSAL = "I'm sorry, but I can't help with that. Please ask me about something else entirely."
ANSWER = "Sure. First you take the red one, then the blue one, and then you are nearly done."
CITY = {"name": "Paris", "people": 7}

_FILLERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "object": lambda schema, defs: {
        name: _filled(of, defs) for name, of in schema.get("properties", {}).items()
    },
    "array": lambda schema, defs: [_filled(schema["items"], defs)] * 2,
    "integer": lambda schema, defs: 7,
    "boolean": lambda schema, defs: True,
}


def scripts(*, refuses: bool, wrapped: bool) -> dict[str, Callable[[Mapping[str, Any]], Reply]]:
    """What an upstream serves: ``primary`` refuses or answers, ``second`` answers.

    Instead of a refusal a plain client gets the answer under the name of the fallback: that is what
    demur is to make of it.
    """
    instead = _refusing if wrapped else _as_second
    return {"primary": instead if refuses else answering, "second": answering}


def answering(request: Mapping[str, Any]) -> Reply:
    tool = _tool(request)
    if tool is not None:
        filled = _filled(tool["parameters"], tool["parameters"].get("$defs", {}))
        return Reply(tool_calls=(ToolCall(tool["name"], json.dumps(filled)),))
    schema = _schema(request)
    if schema is not None:
        return Reply(json.dumps(_filled(schema, schema.get("$defs", {}))))
    prompt = str(request.get("messages") or request.get("input"))
    if "[[ ## answer ## ]]" in prompt:
        return Reply(f"[[ ## answer ## ]]\n{ANSWER}\n\n[[ ## completed ## ]]")
    if request.get("response_format"):
        return Reply(json.dumps(CITY))
    if "json" in prompt.lower():
        return Reply(f"```json\n{json.dumps(CITY)}\n```")
    return Reply(ANSWER)


def _as_second(request: Mapping[str, Any]) -> Reply:
    return replace(answering(request), model="second")


def _refusing(request: Mapping[str, Any]) -> Reply:
    return Reply(REFUSAL)


def _tool(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first tool on offer, as long as none has been called."""
    said = request.get("messages") or request.get("input") or ()
    called = any(
        "tool" in (item.get("role"), item.get("type")) or item.get("type") == "function_call_output"
        for item in said
        if isinstance(item, Mapping)
    )
    if called or not request.get("tools"):
        return None
    tool: Mapping[str, Any] = request["tools"][0]
    named: Mapping[str, Any] = tool.get("function", tool)
    return named


def _schema(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    chat = request.get("response_format") or {}
    responses = (request.get("text") or {}).get("format") or {}
    return chat.get("json_schema", {}).get("schema") or responses.get("schema")


def _filled(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _filled(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return _filled(schema["anyOf"][0], defs)
    fill = _FILLERS.get(schema.get("type", "string"))
    return fill(schema, defs) if fill else "Paris"
