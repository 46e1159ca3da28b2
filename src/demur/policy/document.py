"""Plain data with the lines it came from: out of a YAML text, or out of a mapping in code.

YAML is only composed to nodes and read here, so nothing is ever constructed that is not a string,
number, boolean, null, list or mapping. As in YAML 1.2, ``on``, ``off``, ``yes`` and ``no`` are
text, which makes ``on`` a key like any other; ``1e-3`` is a number and ``0160`` is 160. Dates are
text too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from ..errors import InputError
from .problem import InvalidPolicyError, Path, Problem

MAX_PARTS = 20_000
MAX_DEPTH = 64

_TAG = "tag:yaml.org,2002:"
_TEXT = {f"{_TAG}str", f"{_TAG}timestamp"}
_PLAIN = {f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float")}
_COLLECTIONS: dict[type[yaml.Node], str] = {
    yaml.MappingNode: f"{_TAG}map",
    yaml.SequenceNode: f"{_TAG}seq",
}
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"
)


class _Loader(yaml.SafeLoader):
    """Knows numbers by the core schema of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag not in (f"{_TAG}int", f"{_TAG}float")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))


@dataclass(slots=True)
class Document:
    """``problems`` holds what was wrong already as data: duplicate keys, unknown tags."""

    source: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(self.source, path, message, self.line(path))

    def line(self, path: Path) -> int | None:
        """The line of the part, or of the nearest part around it that has one."""
        for end in range(len(path), -1, -1):
            if (line := self.lines.get(path[:end])) is not None:
                return line
        return None


def from_yaml(text: str, source: str) -> Document:
    """Read a YAML text. Raises ``InvalidPolicyError`` where it is no YAML or too much of it."""
    document = _read(text, source)
    if not document.lines:
        message = "the policy is empty; the smallest one is the line: version: 1"
        raise InvalidPolicyError([Problem(source, (), message)])
    return document


def from_file(path: FilePath, *, smallest: str) -> Document:
    """Read a YAML file that is no policy. Raises ``InputError``, with ``smallest`` as an example.

    The first of its ``problems`` is raised, too.
    """
    try:
        document = _read(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error
    except InvalidPolicyError as error:
        raise InputError(str(error)) from error
    if not document.lines:
        raise InputError(f"{path}: is empty; it may be as short as the line: {smallest}")
    if document.problems:
        raise InputError(str(document.problems[0]))
    return document


def from_mapping(mapping: Mapping[Any, Any], source: str = "policy") -> Document:
    """Read a mapping from code, down to lists and dictionaries of plain values."""
    document = Document(source)
    document.data = _MappingReader(document).read(mapping, ())
    return document


def _read(text: str, source: str) -> Document:
    """What stands in a YAML text; no line is known of an empty one."""
    document = Document(source)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InvalidPolicyError([_syntax_problem(error, text, source)]) from None
    except RecursionError:
        raise InvalidPolicyError([Problem(source, (), "nested too deeply to be read")]) from None
    if node is not None:
        document.data = _YamlReader(document).read(node, ())
    return document


class _Reader:
    """What both readers share: a budget, so that aliases and cycles cannot run away."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.parts = 0

    def complain(self, path: Path, message: str) -> None:
        self.document.problems.append(self.document.problem(path, message))

    def count(self, path: Path) -> None:
        self.parts += 1
        if self.parts > MAX_PARTS:
            message = f"more than {MAX_PARTS} parts, aliases spelled out; make it smaller"
            raise InvalidPolicyError([self.document.problem((), message)])
        if len(path) > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} deep, or inside itself"
            raise InvalidPolicyError([self.document.problem(path[:4], message)])

    def text(self, value: str, path: Path) -> str:
        if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
            return value
        self.complain(path, "holds half of a surrogate pair, which no text encoding can carry")
        return ""


class _YamlReader(_Reader):
    def read(self, node: yaml.Node, path: Path) -> Any:
        self.count(path)
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag != _COLLECTIONS.get(type(node), node.tag):
            self._complain_of_tag(node, path)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain(path, f"line {line} has a list or mapping as a key; keys are text")
                continue
            key = self.text(key_node.value, path)
            place = (*path, key)
            if key_node.tag == f"{_TAG}merge":
                self.complain(path, "merge keys (<<) are not read; alias whole sections instead")
            elif key in data:
                message = f"given twice, first on line {first[key]}; remove one"
                self.document.problems.append(Problem(self.document.source, place, message, line))
            else:
                first[key] = self.document.lines[place] = line
                data[key] = self.read(value_node, place)
        return data

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        word = node.tag == f"{_TAG}bool" and node.value.lower() not in ("true", "false")
        if node.tag in _TEXT or word:
            return self.text(node.value, path)
        if node.tag not in _PLAIN:
            self._complain_of_tag(node, path)
            return None
        try:
            return _value(node)
        except (ValueError, LookupError, ArithmeticError):
            self.complain(path, f"{node.value[:40]!r} cannot be read as {node.tag[len(_TAG) :]}")
            return None

    def _complain_of_tag(self, node: yaml.Node, path: Path) -> None:
        tag = str(node.tag).replace(_TAG, "!!")
        self.complain(path, f"the tag {tag[:60]} is not read; write plain YAML")


def _value(node: yaml.Node) -> Any:
    kind, text = node.tag[len(_TAG) :], node.value
    if kind == "int":
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    if kind == "float":
        special = re.fullmatch(r"([-+]?)\.(inf|nan)", text.lower())
        return float("".join(special.groups()) if special else text)
    return text.lower() == "true" if kind == "bool" else None


class _MappingReader(_Reader):
    def read(self, value: Any, path: Path) -> Any:
        self.count(path)
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, (list, tuple)):
            return [self.read(item, (*path, i)) for i, item in enumerate(value)]
        if isinstance(value, str):
            return self.text(value, path)
        if value is not None and not isinstance(value, (bool, int, float)):
            kind = type(value).__name__
            self.complain(path, f"an object of type {kind} is no plain data; give text or numbers")
            return None
        return value

    def _mapping(self, mapping: Mapping[Any, Any], path: Path) -> dict[str, Any]:
        data = {}
        for key, value in mapping.items():
            if isinstance(key, str):
                key = self.text(key, path)
                data[key] = self.read(value, (*path, key))
            else:
                self.complain(path, f"keys are text, not {type(key).__name__}")
        return data


def _syntax_problem(error: yaml.YAMLError, text: str, source: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(source, (), "holds a control character that YAML does not allow", line)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        remedy = "; indent with spaces, not tabs" if "'\\t'" in what else ""
        line_found = None if mark is None else mark.line + 1
        return Problem(source, (), f"not valid YAML: {what}{remedy}", line_found)
    return Problem(source, (), f"not valid YAML: {error}")
