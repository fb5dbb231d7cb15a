"""Values as a review shows them: all that the files tell is put in, the rest stays as it is written."""

from __future__ import annotations

from typing import Any

import pytest

from b2m.project.problems import Problems
from b2m.project.scope import Layer, Source
from b2m.project.yaml import parse
from b2m.review import steps
from b2m.review.expanding import Known

DOCUMENT = parse("{}", "x.yaml", Problems())
assert DOCUMENT is not None
PLACE = Source(DOCUMENT, ())
FACTS = {"db": {"name": "ipm", "service": None}}


def known(**variables: Any) -> Known:
    low = Layer("group", {"team": "ops", "limit": "{{ lease.age }}"}, PLACE)
    return Known(FACTS, (low, Layer("playbook", variables, PLACE)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("{{ db.name }}", "ipm"),
        ("{{ count }}", 3),
        ("{{ list }}", ["a", "b"]),
        ("{{ team }} has {{ lease.owner }}", "ops has {{ lease.owner }}"),
        ("{{ lease.owner ~ team }}", '{{ lease.owner ~ "ops" }}'),
        ("{{ lease.team }}", "{{ lease.team }}"),
        ("{{ limit }}", "{{ (lease.age) }}"),
        ("{{ ours }}", "ops and ours"),
        ("{{ db.rename_due | default(false) }}", "{{ db.rename_due | default(false) }}"),
        ("{{ nobody | default(team) }}", "ops"),
    ],
)
def test_a_value(text: str, shown: object) -> None:
    here = known(count=3, list=["a", "{{ 'b' }}"], ours="{{ team }} and ours")
    assert here.expanded(text, Layer("task", {}, PLACE)) == shown


def test_a_variable_sees_only_what_lies_below_it() -> None:
    here = known(team="{{ team }} of us")
    assert here.expanded("{{ team }}", Layer("task", {}, PLACE)) == "ops of us"


def test_a_value_in_a_shell_command_is_one_quoted_word() -> None:
    here = known(word="a b")
    found = here.expanded({"run": "echo {{ word }}", "reason": "{{ word }}"}, Layer("task", {}, PLACE), {"run"})
    assert found == {"run": "echo 'a b'", "reason": "a b"}
    late = here.expanded({"run": "echo {{ word }} {{ run.id }}"}, Layer("task", {}, PLACE), {"run"})
    assert late == {"run": 'echo {{ "a b" }} {{ run.id }}'}


@pytest.mark.parametrize(
    ("when", "comes_to"),
    [
        ("false", False),
        ('team == "ops"', True),
        ('team != "ops"', False),
        ("live.dirty and on", "live.dirty and true"),
        ("db.rename_due", "db.rename_due"),
        ("lease is defined", "lease is defined"),
        ("db.service", False),
        ("lease.age\n  > minutes(60)", "lease.age > minutes(60)"),
    ],
)
def test_a_condition(when: str, comes_to: bool | str) -> None:
    assert known(on=True).condition(when, Layer("task", {}, PLACE)) == comes_to


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"password": {"a": "hunter22"}}, "{password: {a: (hidden)}}"),
        ({"file": {"a": "hunter22"}}, "{file: {a: hunter22}}"),
        ({f"ghp_{'a1B2' * 9}": 1}, "{(hidden): 1}"),
        ([{"token": [["x1y2z3a4b5"]]}], "[{token: [[(hidden)]]}]"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_at_any_depth(value: Any, text: str) -> None:
    assert steps.shown(value, "args").replace(steps.HIDDEN, "(hidden)") == text
    assert "(hidden)" not in steps.shown(value, "args", hide=False)
