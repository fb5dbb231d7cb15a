"""The JSON Schemas for editors: current, true of every file that loads, and false of what is misspelt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from b2m.modules import MODULES
from b2m.project.create import new_project, texts
from b2m.project.problems import Problems
from b2m.project.schemas import schemas
from b2m.project.yaml import parse
from tests.project import samples
from tests.project.test_bad_projects import IN_INVENTORY, IN_PLAYBOOK
from tests.project.test_check import GOOD

REPOSITORY = Path(__file__).parents[2]
MADE = schemas(MODULES)


def kind(file: str) -> str:
    """The schema that a file of a project has."""
    folder = file.partition("/")[0]
    return {"playbooks": "playbook", "roles": "role"}.get(folder, "inventory") + ".schema.json"


def wrong(file: str, text: str) -> list[str]:
    document = parse(text, file, Problems())
    assert document is not None
    found = Draft202012Validator(MADE[kind(file)]).iter_errors(document.data)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


@pytest.mark.parametrize("name", MADE)
def test_a_schema_in_docs_is_current_and_a_schema(name: str) -> None:
    assert json.loads((REPOSITORY / "docs" / name).read_text("utf-8")) == MADE[name], (
        "run: python -m b2m.project.schemas"
    )
    Draft202012Validator.check_schema(MADE[name])


FILES = {
    file.relative_to(REPOSITORY).as_posix(): file.read_text("utf-8")
    for file in (
        REPOSITORY / "inventory.yaml",
        *(REPOSITORY / "playbooks").glob("*.yaml"),
        *(REPOSITORY / "roles").glob("*/role.yaml"),
    )
}
NEW = {
    file: text
    for file, text in texts(new_project(["ipm", "notes=notes.db"], "prod", "bucket")).items()
    if file.endswith(".yaml")
}


@pytest.mark.parametrize(
    ("file", "text"), [*FILES.items(), *NEW.items(), *samples.FILES.items(), ("playbooks/ipm.yaml", GOOD)]
)
def test_what_loads_is_valid(file: str, text: str) -> None:
    assert wrong(file, text) == []


# A schema knows shapes, not what a name means: these rows of the table of bad projects are about shapes.
SHAPES = ("unknown key", " is missing", "expected ", "must not be empty", "must be at")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (file, base.replace(old, new, 1))
        for file, base, rows in (
            ("inventory.yaml", samples.INVENTORY, IN_INVENTORY),
            ("playbooks/ipm.yaml", samples.PLAYBOOK, IN_PLAYBOOK),
        )
        for old, new, lines in rows
        if any(shape in line for line in lines for shape in SHAPES) and "a file name is expected" not in lines[0]
    ],
)
def test_what_has_a_wrong_shape_is_invalid(file: str, text: str) -> None:
    assert wrong(file, text) != []


@pytest.mark.parametrize(
    "task",
    [
        "{name: x}",
        "{snapshoot: {}}",
        "{snapshot: {}, verify: {}}",
        "{snapshot: {}, wen: x}",
        "{snapshot: {}, block: []}",
        "{snapshot: {}, vars: {}}",
        "{snapshot: {to: x}}",
        "{download: {version: newest}}",
        "{replay: {onto: x}}",
        "{shell: {run: ls}}",
        "{swap: {}, retries: 2}",
        "{role: publish, timeout: 5s}",
        "{download: {}, timeout: 5}",
        "{hold: {}, block: [{snapshoot: {}}]}",
    ],
)
def test_a_wrong_task_is_invalid(task: str) -> None:
    assert wrong("playbooks/ipm.yaml", samples.PLAYBOOK.replace("up_to_date: []", f"up_to_date: [{task}]")) != []


@pytest.mark.parametrize(
    "task",
    [
        '{download: {version: "{{ wanted }}"}, timeout: 5m, retries: 3}',
        '{verify: {checks: "{{ checks }}"}}',
        '{verify: {checks: [integrity, "{{ more }}"]}, when: true}',
        "{rename: }",
        '{shell: {run: "ls {{ db.name }}", reason: to see}}',
    ],
)
def test_an_expression_may_stand_for_a_value(task: str) -> None:
    assert wrong("playbooks/ipm.yaml", samples.PLAYBOOK.replace("up_to_date: []", f"up_to_date: [{task}]")) == []


def test_every_key_is_explained_in_the_editor() -> None:
    def unexplained(schema: Any, where: str) -> list[str]:
        found = []
        if isinstance(schema, dict):
            for name, inner in schema.get("properties", {}).items():
                if isinstance(inner, dict) and "description" not in inner:
                    found.append(f"{where}.{name}")
            for key, inner in schema.items():
                found += unexplained(inner, f"{where}.{key}")
        return found

    assert [line for name, schema in MADE.items() for line in unexplained(schema, name)] == []
