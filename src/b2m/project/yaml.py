"""Strict YAML: plain data with a position for every key and value, and everything that is wrong at once.

Duplicate keys, tags and keys that are not text are refused; anchors and ``<<`` are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from b2m.project import scalars
from b2m.project.problems import Position, Problems

YamlPath: TypeAlias = tuple[str | int, ...]

# An alias may be used many times; a file that unfolds to more than this is a mistake or an attack.
MAX_NODES = 100_000
MAX_DEPTH = 64


@dataclass(frozen=True)
class Document:
    """One file: its plain data, and where each key and value stands."""

    file: str
    data: Any
    keys: Mapping[YamlPath, Position] = field(repr=False)
    values: Mapping[YamlPath, Position] = field(repr=False)

    def at(self, path: YamlPath) -> Position:
        """Where the value at ``path`` begins; of a path that is not there, its nearest parent."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path) or Position(self.file, 1, 1)

    def without(self, prefix: str) -> Document:
        """The same document without the top-level keys that begin with ``prefix``; everything keeps its position."""
        if not isinstance(self.data, Mapping) or not any(key.startswith(prefix) for key in self.data):
            return self
        return replace(self, data={key: value for key, value in self.data.items() if not key.startswith(prefix)})

    def key_at(self, path: YamlPath) -> Position:
        """Where the last key of ``path`` stands; for an item of a list, where the item begins."""
        return self.keys.get(path) or self.at(path)


def parse(text: str, file: str, problems: Problems) -> Document | None:
    """Read one YAML document; what is wrong goes to ``problems``, and a text that is no YAML gives None."""
    try:
        if scalars.is_deeper(text, MAX_DEPTH):
            raise RecursionError
        root = scalars.compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.add(Position(file, line, col), _in_words(error))
        return None
    except yaml.reader.ReaderError as error:
        before = text[: int(error.position)]
        line, col = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        problems.add(Position(file, line, col), f"the character U+{int(error.character):04X} is not allowed")
        return None
    except RecursionError:
        problems.add(Position(file, 1, 1), f"nested deeper than {MAX_DEPTH} levels")
        return None
    if root is None:
        problems.add(Position(file, 1, 1), "the file is empty")
        return None
    builder = _Builder(file, problems)
    data = builder.build(root, (), ())
    return Document(file, data, MappingProxyType(builder.keys), MappingProxyType(builder.values))


def _in_words(error: yaml.MarkedYAMLError) -> str:
    what = error.problem or error.context or "this is no YAML"
    if r"'\t'" in what:
        return "a tab: YAML is indented with spaces"
    if what == "but found another document":
        return "a second document begins here; a file holds one"
    if what.startswith("mapping values are not allowed"):
        return 'a ": " where none may stand: quote the text, or mend the indentation'
    if what == "second occurrence":
        return "this anchor's name is taken already"
    if what.startswith("expected <block end>"):
        return "this fits neither the indentation nor the kind of the lines before it"
    if "end of stream" in what or "<stream end>" in what:
        return f"the file ends before a {'quote' if 'quoted' in str(error.context) else 'bracket'} is closed"
    return f"not YAML: {what}"


class _Builder:
    """Turns nodes into plain data and notes where everything stands."""

    def __init__(self, file: str, problems: Problems) -> None:
        self.file = file
        self.problems = problems
        self.keys: dict[YamlPath, Position] = {}
        self.values: dict[YamlPath, Position] = {}
        self._count = 0

    def build(self, node: Node, path: YamlPath, parents: tuple[Node, ...]) -> Any:
        self.values.setdefault(path, self._position(node))
        if any(node is parent for parent in parents):
            return self._wrong(node, "an alias that contains itself")
        if len(parents) > MAX_DEPTH:
            return self._wrong(node, f"nested deeper than {MAX_DEPTH} levels")
        if self._too_many(node):
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, path, (*parents, node))
        if isinstance(node, SequenceNode):
            if node.tag != scalars.SEQ:
                return self._wrong(node, f"the tag {_short(node.tag)} is not allowed")
            return [self.build(item, (*path, index), (*parents, node)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _too_many(self, node: Node) -> bool:
        """Count one more value; whether the file unfolds to more of them than it may, which is said once."""
        self._count += 1
        if self._count == MAX_NODES + 1:
            self._wrong(node, f"the aliases unfold to more than {MAX_NODES} values")
        return self._count > MAX_NODES

    def _mapping(self, node: MappingNode, path: YamlPath, parents: tuple[Node, ...]) -> Any:
        if node.tag != scalars.MAP:
            return self._wrong(node, f"the tag {_short(node.tag)} is not allowed")
        result: dict[str, Any] = {}
        first: dict[str, Position] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == scalars.MERGE:
                merged.append(value_node)
                continue
            if not isinstance(key_node, ScalarNode) or key_node.tag != scalars.STR:
                self._wrong(key_node, "a key must be text: write it in quotes")
                continue
            key, at = key_node.value, self._position(key_node)
            if key in first:
                self.problems.add(at, f"duplicate key {key}, first in line {first[key].line}")
                continue
            first[key] = at
            self.keys[(*path, key)] = at
            result[key] = self.build(value_node, (*path, key), parents)
        for value_node in merged:
            for key, value in self._merge(value_node, path, parents, result).items():
                result.setdefault(key, value)
        return result

    def _merge(self, node: Node, path: YamlPath, parents: tuple[Node, ...], own: dict[str, Any]) -> dict[str, Any]:
        """What ``<<`` brings in; the mapping's own keys win, then the first of several."""
        result: dict[str, Any] = {}
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(source, MappingNode) or source in parents:
                self._wrong(source, "<< needs a mapping, or a list of mappings")
                continue
            if len(parents) > MAX_DEPTH:
                self._wrong(source, f"nested deeper than {MAX_DEPTH} levels")
                continue
            if self._too_many(source):
                break
            inner = _Builder(self.file, self.problems)
            inner._count = self._count
            brought = inner._mapping(source, path, (*parents, source)) or {}
            self._count = inner._count
            mine = {key: value for key, value in brought.items() if key not in own and key not in result}
            result.update(mine)
            for ours, theirs in ((self.keys, inner.keys), (self.values, inner.values)):
                ours.update({p: at for p, at in theirs.items() if p[len(path)] in mine})
        return result

    def _scalar(self, node: Node) -> Any:
        try:
            return scalars.scalar(str(node.value), node.tag)
        except ValueError:
            return self._wrong(node, f"{str(node.value)[:40]} is no {node.tag.removeprefix(scalars.TAG)}")
        except LookupError:
            return self._wrong(node, f"the tag {_short(node.tag)} is not allowed")

    def _position(self, node: Node) -> Position:
        return Position(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _wrong(self, node: Node, what: str) -> None:
        self.problems.add(self._position(node), what)


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(scalars.TAG) if tag.startswith(scalars.TAG) else tag
