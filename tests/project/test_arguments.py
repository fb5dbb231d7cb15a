"""What a role declares to take, what an include gives it, and what a run then makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from b2m.errors import InvalidProject, UsageError
from b2m.project import Target, Task, walk
from b2m.project.overrides import read_overrides, typed
from tests.project.samples import INVENTORY, PLAYBOOK, ROLE, arguments, load

FACTS: dict[str, Any] = {"live": {"dirty": True}, "head": {"version": 7}, "state": "ready_to_upload"}
SPECS = """\
argument_specs:
  word: {type: str, required: true}
  times: {type: int, default: 3, choices: [1, 3, 7]}
  pause: {type: duration, default: 5s}
"""
DECLARED = ROLE.replace("defaults:\n  word: done\n", SPECS).replace("{{ word }}", "{{ word }} {{ times }} {{ pause }}")


def included(given: str) -> str:
    return PLAYBOOK.replace("- role: publish", f"- role: publish\n      vars: {given}")


def message(target: Target) -> object:
    task = next(task for task, _ in walk(target.tasks("ready_to_upload")) if task.module == "message")
    return arguments(target.render(task, FACTS))["text"]


def include(target: Target) -> Task:
    return target.tasks("ready_to_upload")[0]


def test_a_role_gets_what_it_declares_and_its_defaults(tmp_path: Path) -> None:
    target = load(tmp_path, role=DECLARED, playbook=included("{word: hello, times: 7}")).target("ipm", "prod")
    target.check_arguments(include(target), FACTS)
    assert message(target) == "hello 7 5s"


def test_a_variable_of_any_level_is_an_argument_too(tmp_path: Path) -> None:
    inventory = INVENTORY.replace("team: ops", "team: ops\n      word: of the group")
    target = load(tmp_path, role=DECLARED, inventory=inventory).target("ipm", "prod")
    assert message(target) == "of the group 3 5s"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("{}", "13:13: role publish needs word: give it under vars"),
        ("{word: 5}", "14:20: word of role publish: expected text, not the number 5"),
        ("{word: a, times: 2}", "14:30: times of role publish: expected 1 or 3 or 7, not the number 2"),
        ("{word: a, times: 1.0}", "14:30: times of role publish: expected a whole number, not the number 1.0"),
        ("{word: a, times: true}", "14:30: times of role publish: expected a whole number, not true"),
        (
            "{word: a, pause: 5}",
            "14:30: pause of role publish: expected a duration such as 250ms, 5s, 30m or 2h, not the number 5",
        ),
        ("{word: null}", "14:20: word of role publish: expected text, not nothing"),
        (
            "{word: a, tims: 3}",
            "14:23: role publish has no argument tims, did you mean times? it takes: pause, times, word",
        ),
    ],
)
def test_an_include_is_checked_where_it_stands(tmp_path: Path, given: str, line: str) -> None:
    with pytest.raises(InvalidProject) as caught:
        load(tmp_path, role=DECLARED, playbook=included(given))
    assert caught.value.problems == [f"playbooks/ipm.yaml:{line}"]


def test_a_value_that_only_a_run_knows_is_checked_then_before_the_first_task_of_the_role(tmp_path: Path) -> None:
    playbook = included('{word: "{{ state }}", times: "{{ head.version }}"}')
    target = load(tmp_path, role=DECLARED, playbook=playbook).target("ipm", "prod")
    target.check_arguments(include(target), FACTS)
    with pytest.raises(InvalidProject) as caught:
        target.check_arguments(include(target), FACTS | {"head": {"version": 8}})
    assert caught.value.problems == [
        "playbooks/ipm.yaml:14:42: times of role publish: expected 1 or 3 or 7, not the number 8"
    ]


def test_a_host_that_lacks_a_needed_variable_is_named(tmp_path: Path) -> None:
    other = "  more:\n    hosts:\n      spare: {folder: x, databases: {ipm: {}}}\n"
    inventory = INVENTORY.replace("team: ops", "word: a") + other
    playbook = PLAYBOOK.replace("[servers]", "[servers, spare]").replace("{{ team }}: ", "")
    with pytest.raises(InvalidProject) as caught:
        load(tmp_path, role=DECLARED, inventory=inventory, playbook=playbook)
    assert caught.value.problems == [
        "playbooks/ipm.yaml:13:13: role publish needs word, and host spare has none: give it under vars"
    ]


# -- the command line ----------------------------------------------------------------------------------------------


def test_the_command_line_stands_above_every_level(tmp_path: Path) -> None:
    project = load(tmp_path, role=DECLARED, playbook=included("{word: hello}"))
    target = project.target("ipm", "prod", read_overrides(["word=bye", "times=7", "team=night"]))
    assert message(target) == "bye 7 5s"
    assert target.vars["team"] == "night"


def test_the_command_line_reaches_the_commands_of_a_service_as_quoted_words(tmp_path: Path) -> None:
    inventory = INVENTORY.replace("stop {{ db.name }}", "stop {{ team }}")
    target = load(tmp_path, inventory=inventory).target("ipm", "prod", read_overrides(["team=a; b"]))
    assert target.service is not None
    assert target.service.away == "stop 'a; b'"


def test_a_value_of_the_command_line_that_a_role_does_not_take_is_refused(tmp_path: Path) -> None:
    project = load(tmp_path, role=DECLARED, playbook=included("{word: hello}"))
    with pytest.raises(InvalidProject) as caught:
        project.target("ipm", "prod", read_overrides(["times=many"]))
    assert caught.value.problems == ['-e times: times of role publish: expected a whole number, not the text "many"']


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-0.5", -0.5), ("true", True), ("no", "no"), ("0755", "0755"), ("null", None), ("", None),
        ("'7'", "7"), ('"true"', "true"), ("a: b", "a: b"), ("[1]", "[1]"), ("12:30", "12:30"), ("'", "'"),
    ],
)  # fmt: skip
def test_a_value_of_the_command_line_has_the_type_of_a_plain_scalar(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (["word"], "-e word: write name=value"),
        (["=x"], "-e =x: '' is no name for a variable: letters, digits and _ only"),
        (["my-word=x"], "-e my-word=x: 'my-word' is no name for a variable: letters, digits and _ only"),
        (["db=x"], "-e db=x: db is a built-in name, it cannot be set"),
        (["word=a", "word=b"], "-e word=b: word is given twice"),
    ],
)
def test_a_wrong_variable_on_the_command_line_is_told_in_one_line(given: list[str], what: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_overrides(given)
    assert str(caught.value) == what


def test_a_value_that_is_fed_by_a_variable_is_checked_before_a_run(tmp_path: Path) -> None:
    specs = SPECS + "  cache: {type: bool, default: true}\n"
    role = DECLARED.replace(SPECS, specs)
    given = included('{word: hello, cache: "{{ page_cache }}"}')
    playbook = given.replace("color: red", "page_cache: no")
    with pytest.raises(InvalidProject) as caught:
        load(tmp_path, role=role, playbook=playbook)
    line = 'cache of role publish: expected true or false, not the text "no"'
    assert caught.value.problems == [f"playbooks/ipm.yaml:14:34: {line}"]
    project = load(tmp_path, role=role, playbook=given.replace("color: red", "page_cache: false"))
    with pytest.raises(InvalidProject) as caught:
        project.target("ipm", "prod", read_overrides(["page_cache=no"]))
    assert caught.value.problems == [f"playbooks/ipm.yaml:14:34: {line}"]
    assert project.target("ipm", "prod", read_overrides(["page_cache=true"])).vars["page_cache"] is True


def test_a_value_with_a_fact_in_it_is_left_to_the_run(tmp_path: Path) -> None:
    for value in ("{{ head.version | default('x') }}", "{{ later }}", "{{ nowhere | default('x') }}"):
        playbook = included(f'{{word: a, times: "{value}"}}').replace("color: red", 'later: "{{ head.version }}"')
        load(tmp_path, role=DECLARED, playbook=playbook)
