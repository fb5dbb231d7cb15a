"""Values keep their types, a command's values stay one word, and an expression cannot leave the sandbox."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2m.project import templates
from b2m.project.templates import TemplateProblem
from b2m.project.units import Seconds, parse_duration, parse_size

NAMES: dict[str, object] = {
    "live": {"dirty": True, "version": 5, "items": "a field", "none": None},
    "tables": ["a", "b"],
    "text": "1_000",
    "count": 3,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ live.version }}", 5),
        ("{{ live.dirty }}", True),
        ("{{ live.none }}", None),
        ("{{ tables }}", ["a", "b"]),
        ("  {{ count }}\n", 3),
        ("{{ text }}", "1_000"),
        ("{{ '0755' }}", "0755"),
        ("{{ live.version + 1 }}", 6),
        ("{{ live.items }}", "a field"),
        ("{{ tables[1] }}", "b"),
        ("{{ {'a': count} }}", {"a": 3}),
        ("{{ missing | default('x') }}", "x"),
        ("{{ live.missing | default(7) }}", 7),
        ("{{ missing is defined }}", False),
        ("{{ minutes(2) }}", 120.0),
        ("{{ hours(1) * 2 }}", 7200.0),
        ("{{ '}}' }}", "}}"),
        ("v{{ live.version }}", "v5"),
        ("{{ count }}{{ count }}", "33"),
        ("{# text #} {{ count }}", "{# text #} 3"),
        ("<b> & {{ text }}", "<b> & 1_000"),
        ("{{ tables | join(', ') }}", "a, b"),
        ("{{ [live, live] | join('-', attribute='version') }}", "5-5"),
        ("{{ 'aaa' | replace('a', 'bb', 2) }}", "bbbba"),
        ("{{ 'ab' | replace('', '-') }}", "-a-b-"),
        ("{{ 2.55 | round(1, 'floor') }}", 2.5),
        ("{{ 1234 | round(-2) }}", 1200),
        ("{{ " + " + ".join(["count"] * 60) + " }}", 180),
    ],
)
def test_a_lone_expression_keeps_its_type_and_anything_else_is_text(text: str, value: object) -> None:
    found = templates.render(text, NAMES)
    assert found == value
    assert isinstance(found, type(value))


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.text())))
def test_any_value_comes_through_an_expression_unchanged(value: object) -> None:
    found = templates.render("{{ it }}", {"it": value})
    assert found == value
    assert type(found) is type(value)


def test_minutes_are_seconds_that_need_no_unit_wherever_they_are_reckoned_with() -> None:
    assert parse_duration(templates.evaluate("minutes(5) * 3", {})) == 900
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration(templates.evaluate("5 * 3", {}))


@pytest.mark.parametrize(
    ("expression", "value"),
    [("live.version > 4 and not live.none", True), ("text in tables", False), ("live.version == count", False)],
)
def test_a_condition_is_an_expression_without_braces(expression: str, value: bool) -> None:
    assert templates.evaluate(expression, NAMES) is value


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{ mising }}", "mising is not defined"),
        ("x {{ mising }}", "mising is not defined"),
        ("{{ mising * 2 }}", "mising is not defined"),
        ("{{ [mising] }}", "mising is not defined"),
        ("{{ {'a': [mising]} }}", "mising is not defined"),
        ("{{ live.vresion }}", "there is no vresion in it"),
        ("{{ live[text] }}", "there is no 1_000 in it"),
        ("{{ live.version / 0 }}", "cannot be computed: division by zero"),
        ("{{ }}", "not an expression: it is empty or ends too early"),
        ("{{ 1 +", "not an expression: it is empty or ends too early"),
        ("{% if x %}y{% endif %}", "statements such as {% if %} are not allowed: use when"),
        ("{% include 'x' %}", "statements such as {% if %} are not allowed: use when"),
        ("{% frob %}", "statements such as {% if %} are not allowed: use when"),
        ("{{ text | uper }}", "unknown filter uper, did you mean upper?"),
        ("{{ text is nmber }}", "unknown test nmber, did you mean number?"),
    ],
)
def test_what_cannot_be_rendered_is_said_in_words(text: str, what: str) -> None:
    with pytest.raises(TemplateProblem) as caught:
        templates.render(text, NAMES)
    assert str(caught.value) == what


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("''.__class__.__mro__[1].__subclasses__()", "only minutes() and hours() may be called"),
        ("''.__class__", "__class__ cannot be read: the name begins with _"),
        ("''['__class__']", "__class__ cannot be read: the name begins with _"),
        ("live['__class__']", "__class__ cannot be read: the name begins with _"),
        ("text['__cl' ~ 'ass__']", "__class__ cannot be read"),
        ("minutes['__glo' ~ 'bals__']", "__globals__ cannot be read"),
        ("minutes.__globals__", "__globals__ cannot be read: the name begins with _"),
        ("text | attr('__class__')", "unknown filter attr; known here: "),
        ("text.format(live)", "only minutes() and hours() may be called"),
        ("'{0.__class__}'.format(text)", "only minutes() and hours() may be called"),
        ("cycler()", "only minutes() and hours() may be called"),
        ("(minutes)(1)(2)", "only minutes() and hours() may be called"),
        ("tables.append('x')", "only minutes() and hours() may be called"),
        ("self.__init__", "__init__ cannot be read: the name begins with _"),
        ("9 ** 9 ** 9", "** is not allowed"),
        ("text * 1000000000", "* works on numbers only"),
        ("'%1000000000d' % 1", "% works on numbers only"),
        ("tables | map('upper')", "unknown filter map, did you mean max?"),
        ("range(1000000)", "only minutes() and hours() may be called"),
        ("lipsum", "lipsum is not defined"),
        ("{{ text }}", "a bare expression stands here: write it without {{ }}"),
        ("", "not an expression: it is empty or ends too early"),
        ("text }} {{ count", "a bare expression stands here: write it without {{ }}"),
        ("text }} x", "not an expression: it ends before the text does"),
        ("(" * 5000 + "1" + ")" * 5000, "not an expression: nested too deeply"),
        ("+".join("1" * 3000), "not an expression: nested too deeply"),
        ("+".join(["count"] * 250), "not an expression: nested too deeply"),
        ("not " * 100 + "count", "not an expression: nested too deeply"),
        ("9" * 5000, "not an expression: a number has too many digits"),
        ("9" * 4000 + " * " + "9" * 4000, "cannot be computed: a number becomes too large"),
        ("0x" + "f" * 5000, "not an expression: a number has too many digits"),
        ("1e999", "cannot be computed: a number becomes too large"),
        ("'x' | replace('', 'y' | replace('y', '" + "z" * 60_000 + "'))", "the text becomes longer than 100000 cha"),
        ("tables | join('" + "x" * 100_000 + "')", "the text becomes longer than 100000 characters"),
        ("1 | round(2000000, 'ceil')", "round takes a precision from -20 to 20"),
        ("1 | round(1000000000, 'floor')", "round takes a precision from -20 to 20"),
        ("count | round(-1000000000)", "round takes a precision from -20 to 20"),
    ],
)
def test_an_expression_cannot_leave_the_sandbox(expression: str, what: str) -> None:
    with pytest.raises(TemplateProblem) as caught:
        templates.evaluate(expression, NAMES)
    assert str(caught.value).startswith(what)


def test_a_text_that_doubles_is_stopped_before_it_fills_the_memory() -> None:
    with pytest.raises(TemplateProblem, match=r"^the text becomes longer than 100000 characters$"):
        templates.evaluate("'xxxxxxxxxx'" + " | replace('x', 'xxxxxxxxxx')" * 30, {})


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_value_in_a_command_is_one_word_to_the_shell(value: str) -> None:
    command = templates.render_command("echo {{ it }} | cat", {"it": value})
    assert shlex.split(command) == ["echo", value, "|", "cat"]


def test_a_hostile_value_reaches_a_real_shell_as_it_is() -> None:
    value = "a; rm -rf $HOME `id` 'x' \"y\"\n*"
    command = templates.render_command("printf %s {{ it }}", {"it": value})
    assert subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout == value


def test_an_undefined_value_does_not_become_an_empty_word() -> None:
    with pytest.raises(TemplateProblem, match=r"^it is not defined$"):
        templates.render_command("rm -r /{{ it }}", {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("30m", 1800), ("2h", 7200), ("1d", 86400), ("1.5h", 5400), ("5 s", 5)],
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["5", 5, 5.0, True, None, "5x", "-5s", "s", "5s 3m", "", "٥s", [], Seconds("nan")])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 250ms, 5s, 30m or 2h"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "count"), [("512B", 512), ("64KiB", 65536), ("20MB", 20_000_000), ("1.5GiB", 1610612736), ("1 kB", 1000)]
)
def test_a_size_has_a_unit(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("value", ["5", 5, "5k", "KiB", "-1MB", None, True, "1e3B"])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 64KiB, 20MB or 1GiB"):
        parse_size(value)
