"""What the strict YAML reader takes a scalar for, where it says things stand, and what it refuses."""

from __future__ import annotations

import math

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from b2m.project import scalars
from b2m.project.problems import Problems
from b2m.project.yaml import Document, parse


def read(text: str) -> Document:
    problems = Problems()
    document = parse(text, "f.yaml", problems)
    assert problems.lines() == []
    assert document is not None
    return document


def wrong(text: str) -> list[str]:
    problems = Problems()
    parse(text, "f.yaml", problems)
    return problems.lines()


@pytest.mark.parametrize(
    "text",
    [
        *("no", "No", "yes", "on", "off", "y", "n", "0755", "-012", "00", "12:30", "1:2:3", "2026-09-21", "1_000"),
        *("2026-09-21T18:00:04Z", "0b101", "0x", "0o8", "1e", "e5", "1.2.3", ".", "+", "=", "nulls", "truely"),
        *("5s", "30m", "inf", "NaN", "ipm-db-v{version}.db", "007.5"),
    ],
)
def test_a_text_that_yaml_1_1_would_change_stays_the_text(text: str) -> None:
    assert read(f"a: {text}\n").data == {"a": text}
    assert type(read(f"a: {text}\n").data["a"]) is str


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("null", None), ("~", None), ("", None), ("true", True), ("false", False), ("True", True), ("FALSE", False)),
        *(("0", 0), ("5", 5), ("-7", -7), ("+3", 3), ("0o17", 15), ("0x1F", 31)),
        *(("1.5", 1.5), ("-0.25", -0.25), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("2.5E-1", 0.25)),
        *((".inf", math.inf), ("-.INF", -math.inf), ("'5'", "5"), ('"true"', "true"), ("!!str 5", "5")),
    ],
)
def test_the_core_schema_of_yaml_1_2_is_read(text: str, value: object) -> None:
    found = read(f"a: {text}\n").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(read("a: .nan").data["a"])


@given(st.text(alphabet="0123456789+-.eExob_:natrufls~ ", min_size=1, max_size=12))
def test_a_plain_scalar_becomes_what_the_patterns_of_the_specification_say(text: str) -> None:
    try:
        events = list(pyyaml.parse(f"[{text}]", Loader=pyyaml.SafeLoader))
    except pyyaml.YAMLError:
        return
    values = [event.value for event in events if isinstance(event, pyyaml.ScalarEvent)]
    if len(values) != 1 or len(events) != 7:
        return
    found, value = values[0], read(f"[{text}]").data[0]
    if value is None:
        assert found in ("", "~", "null")
    elif isinstance(value, bool):
        assert found == str(value).lower()
    elif isinstance(value, int):
        assert int(found, 0) == value
        assert ":" not in found
        assert "_" not in found
    elif isinstance(value, float):
        assert found.lower().strip("+-.") in ("inf", "nan") or float(found) == value
        assert any(mark in found for mark in ".eE")
    else:
        assert value == found


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1, max_size=6), PLAIN, min_size=1, max_size=4), st.booleans())
def test_what_another_writer_quotes_is_read_back_as_it_was(data: dict[str, object], flow: bool) -> None:
    # Quoted, because that writer knows YAML 1.1: it leaves 0E0 bare, which is a number in 1.2.
    assert read(pyyaml.safe_dump(data, default_flow_style=flow, default_style='"')).data == data


@pytest.mark.skipif(not hasattr(pyyaml, "CLoader"), reason="PyYAML was built without libyaml")
@given(st.dictionaries(st.text(min_size=1, max_size=6), PLAIN, min_size=1, max_size=4))
def test_libyaml_and_the_python_parser_tell_the_same_positions(data: dict[str, object]) -> None:
    text = pyyaml.safe_dump(data, default_style='"')
    fast, fast_loader = read(text), scalars._FastLoader
    try:
        scalars._FastLoader = None
        slow = read(text)
    finally:
        scalars._FastLoader = fast_loader
    assert (fast.data, fast.keys, fast.values) == (slow.data, slow.keys, slow.values)


def test_every_key_and_value_has_its_line_and_column() -> None:
    document = read("a: 1\nb:\n  - c: x\n    d: {e: [2, 3]}\n")
    assert str(document.key_at(("b",))) == "f.yaml:2:1"
    assert str(document.at(("b", 0))) == "f.yaml:3:5"
    assert str(document.at(("b", 0, "c"))) == "f.yaml:3:8"
    assert str(document.key_at(("b", 0, "d", "e"))) == "f.yaml:4:9"
    assert str(document.at(("b", 0, "d", "e", 1))) == "f.yaml:4:16"
    assert str(document.at(("b", 0, "missing", 7))) == "f.yaml:3:5"


def test_a_merged_mapping_gives_what_is_not_set_and_keeps_its_own_positions() -> None:
    document = read("base: &b {x: 1, y: {z: 2}}\nmine:\n  <<: *b\n  x: 3\n")
    assert document.data["mine"] == {"x": 3, "y": {"z": 2}}
    assert str(document.at(("mine", "x"))) == "f.yaml:4:6"
    assert str(document.at(("mine", "y", "z"))) == "f.yaml:1:24"


def test_the_first_of_several_merged_mappings_wins() -> None:
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: [*a, *b]\n"
    assert read(text).data["c"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["f.yaml:1:1: the file is empty"]),
        ("# nothing\n", ["f.yaml:1:1: the file is empty"]),
        ("a: {b: 1\n", ["f.yaml:2:1: the file ends before a bracket is closed"]),
        ("a: 'b\n", ["f.yaml:2:1: the file ends before a quote is closed"]),
        ("a:\n\t- b\n", ["f.yaml:2:1: a tab: YAML is indented with spaces"]),
        ("a: b: c\n", ['f.yaml:1:5: a ": " where none may stand: quote the text, or mend the indentation']),
        ("a: 1\n b: 2\n", ['f.yaml:2:3: a ": " where none may stand: quote the text, or mend the indentation']),
        ("- a\nb: 1\n", ["f.yaml:2:1: this fits neither the indentation nor the kind of the lines before it"]),
        ("a: 1\n---\nb: 1\n", ["f.yaml:2:1: a second document begins here; a file holds one"]),
        ("a: *b\n", ["f.yaml:1:4: not YAML: found undefined alias 'b'"]),
        ("a: &x 1\nb: &x 2\n", ["f.yaml:2:4: this anchor's name is taken already"]),
        ("a: &x [*x]\n", ["f.yaml:1:4: an alias that contains itself"]),
        ("a: @b\n", ["f.yaml:1:4: not YAML: found character '@' that cannot start any token"]),
        ("a: b\x07\n", ["f.yaml:1:5: the character U+0007 is not allowed"]),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            ["f.yaml:1:4: the tag !!python/object/apply:os.system is not allowed"],
        ),
        ("a: !secret b\n", ["f.yaml:1:4: the tag !secret is not allowed"]),
        ("a: !!int b\n", ["f.yaml:1:4: b is no int"]),
        ("a: !!bool 1\n", ["f.yaml:1:4: 1 is no bool"]),
        ("1: a\n", ["f.yaml:1:1: a key must be text: write it in quotes"]),
        ("? [a]\n: b\n", ["f.yaml:1:3: a key must be text: write it in quotes"]),
        ("<<: 1\n", ["f.yaml:1:5: << needs a mapping, or a list of mappings"]),
        (
            "a: 1\nb: {c: 1, c: 2}\na: 2\n",
            [
                "f.yaml:2:11: duplicate key c, first in line 2",
                "f.yaml:3:1: duplicate key a, first in line 1",
            ],
        ),
        ("a: " + "[" * 100_000, ["f.yaml:1:1: nested deeper than 64 levels"]),
        ("x-a:\n  " + "- " * 30_000 + "b\n", ["f.yaml:1:1: nested deeper than 64 levels"]),
        ("? " * 30_000 + "b\n", ["f.yaml:1:1: nested deeper than 64 levels"]),
        ("- " * 30_000 + "'b\n", ["f.yaml:1:1: nested deeper than 64 levels"]),
        ("a: 0x" + "f" * 5000, ["f.yaml:1:4: 0x" + "f" * 38 + " is no int"]),
        ("a: " + "9" * 5000, ["f.yaml:1:4: " + "9" * 40 + " is no int"]),
    ],
)
def test_what_is_refused_is_said_in_one_line_with_its_place(text: str, lines: list[str]) -> None:
    assert wrong(text) == lines


def test_aliases_that_multiply_are_stopped() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert wrong("a0: &a0 [x, x, x]\n" + "\n".join(levels)) == [
        "f.yaml:1:13: the aliases unfold to more than 100000 values"
    ]


@pytest.mark.parametrize("libyaml", [True, False])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ("- ", "")])
def test_lists_may_be_as_deep_as_it_is_said(
    begin: str, end: str, libyaml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not libyaml:
        monkeypatch.setattr(scalars, "_FastLoader", None)
    assert wrong(begin * 64 + end * 64) == []
    assert wrong(begin * 65 + end * 65) == ["f.yaml:1:1: nested deeper than 64 levels"]
    assert read(f"a: '{'[' * 65}' # {'[' * 65}\n").data == {"a": "[" * 65}


def test_mappings_that_bring_in_each_other_without_end_are_refused_and_not_a_crash() -> None:
    chain = [f"a{number}: &a{number} {{<<: *a{number - 1}}}" for number in range(1, 600)]
    assert wrong("a0: &a0 {x: 1}\n" + "\n".join(chain))[0].endswith("nested deeper than 64 levels")


def test_mappings_that_bring_in_each_other_and_multiply_are_stopped() -> None:
    levels = [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 50)]
    (line,) = wrong("a0: &a0 {x: 1}\n" + "\n".join(levels))
    assert line.endswith("the aliases unfold to more than 100000 values")


def test_block_nesting_beyond_reason_is_refused_and_not_a_crash() -> None:
    assert wrong("\n".join(" " * depth + "a:" for depth in range(3000)))[0].endswith("nested deeper than 64 levels")
