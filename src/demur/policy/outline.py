"""Which keys a policy knows where, read off its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from .problem import Path, dotted
from .schema import Policy


def json_schema() -> dict[str, Any]:
    """The policy's JSON Schema, for editors and other validators."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Policy.model_json_schema(),
        "title": "demur policy",
    }


def known_keys(path: Path) -> tuple[str, ...]:
    """The keys that the section at ``path`` may have; empty where any key goes."""
    return tuple(key for section in _sections(path) for key in section.get("properties", ()))


def homes(key: str, path: Path) -> list[str]:
    """The sections inside, else around, the one at ``path`` that know ``key``."""
    inside = [name for name in known_keys(path) if key in known_keys((*path, name))]
    around = [path[:depth] for depth in range(len(path)) if key in known_keys(path[:depth])]
    return inside or [dotted(section) or "the top level" for section in around]


def _sections(path: Path) -> list[Mapping[str, Any]]:
    found = list(_members(_schema()))
    for part in path:
        found = [
            member
            for section in found
            for child in _children(section, part)
            for member in _members(child)
        ]
    return found


def _children(section: Mapping[str, Any], part: str | int) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        child = section.get("items")
    else:
        child = section.get("properties", {}).get(part) or section.get("additionalProperties")
        yield from section.get("patternProperties", {}).values()
    if isinstance(child, Mapping):
        yield child


def _members(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The node itself, or what it refers to, or each member of its union."""
    if "$ref" in node:
        yield from _members(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
        return
    unions = [member for kind in ("anyOf", "oneOf", "allOf") for member in node.get(kind, ())]
    for member in unions:
        yield from _members(member)
    if not unions:
        yield node


@cache
def _schema() -> dict[str, Any]:
    return json_schema()
