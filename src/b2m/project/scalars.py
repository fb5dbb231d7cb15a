"""YAML 1.2 scalars on PyYAML's parser: which plain text is a number, a boolean or nothing.

PyYAML speaks YAML 1.1, where ``no`` is false, ``0755`` is 493 and ``12:30`` is 750. Only its parser and composer are
used; this module says what a scalar is and gives the tree of nodes, from libyaml where there is one.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import Node, ScalarNode

TAG = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, STR, MERGE = (TAG + kind for kind in ("null", "bool", "int", "float", "str", "merge"))
MAP, SEQ = TAG + "map", TAG + "seq"

MAX_BITS = 14_000
"""Of a whole number: Python writes out none of more than 4300 digits, not even in a message."""


class _CoreResolver(yaml.resolver.BaseResolver):
    """The scalars of YAML 1.2's core schema, except that a leading zero makes a text: 0755 is a file mode."""


for _tag, _pattern, _first in (
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (INT, r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        FLOAT,
        r"[-+]?((\.[0-9]+|(0|[1-9][0-9]*)\.[0-9]*)([eE][-+]?[0-9]+)?|(0|[1-9][0-9]*)[eE][-+]?[0-9]+"
        r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    (MERGE, r"<<", ["<"]),
):
    _CoreResolver.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class _PlainLoader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, _CoreResolver):
    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        _CoreResolver.__init__(self)


_FastLoader: type[Any] | None = None
if hasattr(yaml, "CLoader"):
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _LibyamlLoader(CParser, _CoreResolver):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            _CoreResolver.__init__(self)

    _FastLoader = _LibyamlLoader


def compose(text: str) -> Node | None:
    """The tree of the one document in ``text``, None if there is none; yaml.YAMLError if it is no YAML."""
    if _FastLoader is not None:
        try:
            return _node(_FastLoader(text))
        except yaml.YAMLError:
            pass  # the parser written in Python says it in the same words everywhere
    return _node(_PlainLoader(text))


def is_deeper(text: str, most: int) -> bool:
    """Whether lists and mappings stand in each other more than ``most`` deep, as far as ``text`` is YAML.

    Asked before ``compose``: libyaml's C code would overflow its stack before Python notices.
    """
    depth = 0
    loader: Any = _FastLoader or _PlainLoader
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > most:
                return True
    except yaml.YAMLError:
        pass  # compose says what is wrong
    return False


def _node(loader: Any) -> Node | None:
    try:
        node: Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def tag_of(text: str) -> str:
    """The tag that a plain scalar of this text has."""
    return str(_CoreResolver().resolve(ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]


def scalar(text: str, tag: str) -> Any:
    """The value of a scalar; ValueError if the text does not fit its tag, LookupError for a tag that is not known."""
    if tag in (STR, MERGE):
        return text
    if tag == NULL:
        return None
    if tag == BOOL:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if tag == INT:
        number = int(text, 0)
        if number.bit_length() > MAX_BITS:
            raise ValueError(text)
        return number
    if tag == FLOAT:
        return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    raise LookupError(tag)
