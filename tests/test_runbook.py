"""The runbook has an entry for whatever b2m can end with, and every entry answers the same four questions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2m import errors
from b2m.tasks.frame import error_json
from tests.support.world import World

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUESTIONS = ("Site", "Data", "Can it wait", "Type")
OVER = ("--discard", "--force")  # flags that give something up


def entries() -> dict[str, str]:
    """Return the runbook's entries by their anchors."""
    found = {}
    for part in re.split(r"^### ", (DOCS / "runbook.md").read_text("utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        assert anchor not in found, f"two entries are called {heading}"
        found[anchor] = text.partition("\n## ")[0]
    return found


def kinds(kind: type[errors.B2mError] = errors.B2mError) -> Iterator[type[errors.B2mError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from kinds(child)


def anchor(kind: type[errors.B2mError]) -> str:
    """Return the anchor that ``--json`` and ``doctor`` print for an error."""
    made = kind.__new__(kind)
    page, _, found = made.help.partition("#")
    assert page == "docs/runbook.md"
    return found


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_error_leads_to_an_entry(kind: type[errors.B2mError]) -> None:
    assert anchor(kind) in entries()


def test_every_refusal_has_an_entry_of_its_own() -> None:
    refusals = [kind for kind in kinds() if issubclass(kind, errors.Refused)]
    assert len(refusals) > 20
    assert {anchor(kind) for kind in refusals} == {kind.reason for kind in refusals}
    assert len({kind.reason for kind in refusals}) == len(refusals)


def test_every_exit_code_has_an_entry() -> None:
    page = (DOCS / "exit-codes.md").read_text("utf-8").partition("## Every error")[0]
    codes = {code for row in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for code in row.split(", ")}
    assert {f"exit-code-{code}" for code in codes - {"143"}} <= entries().keys()


@pytest.mark.parametrize(("name", "text"), list(entries().items()), ids=lambda each: str(each)[:30])
def test_every_entry_answers_the_four_questions_once(name: str, text: str) -> None:
    assert re.findall(rf"\*\*({'|'.join(QUESTIONS)}):\*\*", text) == list(QUESTIONS), name


def test_no_entry_is_about_something_that_does_not_exist() -> None:
    known = {anchor(kind) for kind in kinds()} | {
        "exit-code-0",
        "exit-code-8",
        "exit-code-130",
        "killed",
        "a-bad-version-was-published",
    }
    assert entries().keys() == known


@pytest.mark.parametrize("flag", OVER)
def test_what_gives_something_up_is_never_the_only_thing_to_type(flag: str) -> None:
    """Whoever is called at night must not be led to drop rows before having looked at them."""
    for name, text in entries().items():
        typed = text.partition("**Type:**")[2]
        before = typed.partition(flag)[0]
        assert flag not in typed or before.count("`./b2m") > 1, name


def test_the_entry_stands_in_the_json_of_an_error() -> None:
    refused = errors.NothingKept(db="ipm", host="demo")
    assert error_json(refused)["help"] == "docs/runbook.md#nothing_kept"
    assert error_json(errors.TaskFailed(what="it broke"))["help"] == "docs/runbook.md#exit-code-6"


def test_the_doctor_prints_the_entry(world: World) -> None:
    (world.root / "bucket").rename(world.root / "unmounted")
    done = world.b2m("doctor", "ipm", "--host", "prod-stop", "--json")
    (found,) = [line for line in done.json if line["type"] == "doctor"]
    helps = {each["name"]: each["help"] for each in found["findings"]}
    assert helps["bucket"] == helps["state"] == "docs/runbook.md#bucket_lost"
    with world.serving():
        assert world.b2m("doctor", "ipm", "--host", "prod").out.endswith("see: docs/runbook.md#bucket_lost\n")
