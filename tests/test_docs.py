"""The documentation cannot drift: its commands are parsed, its links followed, its tables compared with the code."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from invoke.parser.context import ParserContext
from invoke.parser.parser import Parser

from b2m import __version__, api, errors
from b2m.hosts.anchor import Anchor
from b2m.hosts.kept import Kept
from b2m.hosts.switch import Switch
from b2m.journal import SETTLED_BY
from b2m.project.words import database_of
from b2m.tasks import namespace
from b2m.tasks.argv import rewritten

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "bench/README.md", ROOT / "examples/server/README.md", *DOCS]
COMMAND = re.compile(r"(?:\./b2m|invoke)(?: .*)?")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _commands() -> Iterator[tuple[str, str]]:
    """Yield every command line of b2m's: whole lines of sh blocks, and code within a line."""
    for page in PAGES:
        text = _text(page)
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        for line in dict.fromkeys([*lines, *inline]):
            if COMMAND.fullmatch(line) and "COMMAND" not in line:
                yield _name(page), line


def _parsed(line: str) -> ParserContext:
    words = rewritten(shlex.split(line, comments=True), namespace)[1:]
    contexts = Parser(contexts=namespace.to_contexts()).parse_argv(words)
    assert not contexts.unparsed, f"{line}: {contexts.unparsed} is not understood"
    assert len(contexts) == 1, f"{line}: Invoke would run {len(contexts)} tasks"
    found: ParserContext = contexts[0]
    return found


def _check(line: str) -> None:
    """Fail unless Invoke understands a command line, and this project has the databases and hosts that it names."""
    found = _parsed(line)
    project = api.project(str(ROOT))
    given = {name: argument.value for name, argument in found.args.items()}
    host = given.get("host") or "local"
    assert host in project.hosts, f"{line}: unknown host {host}"
    for word in given.get("db") or []:
        db = database_of(project, word, host)
        assert db == "all" or host in project.hosts_of(db), f"{line}: unknown database {db}"


@pytest.mark.parametrize(("page", "line"), list(_commands()))
def test_every_command_line_is_understood_and_names_what_this_project_has(page: str, line: str) -> None:
    if line not in ("./b2m", "invoke"):
        _check(line)


def test_the_command_lines_are_found() -> None:
    found = [line for page, line in _commands() if page == "README.md"]
    assert "./b2m sync --db ipm --host demo" in found
    assert "./b2m test" in found


@pytest.mark.parametrize("line", ["./b2m sync --bd ipm", "./b2m snyc --db ipm", "./b2m sync --db ipm history"])
def test_a_wrong_command_line_would_be_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No idea|unknown|Invoke would run|history"):
        _check(line)


@pytest.mark.parametrize("task", sorted(namespace.task_names))
def test_every_task_is_explained(task: str) -> None:
    assert f"### `{task}`" in _text(ROOT / "docs/commands.md")
    assert re.search(rf"[`, ]{re.escape(task)}`", _text(ROOT / "README.md"))


def _error_classes(kind: type[errors.B2mError] = errors.B2mError) -> Iterator[type[errors.B2mError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _error_classes(child)


@pytest.mark.parametrize("kind", list(_error_classes()), ids=lambda kind: kind.__name__)
def test_every_error_is_listed_with_its_exit_code(kind: type[errors.B2mError]) -> None:
    page = _text(ROOT / "docs/exit-codes.md")
    assert f"| {kind.exit_code} | `{kind.__name__}` |" in page
    assert re.search(rf"^\| (\d+, )*{kind.exit_code}\b", page, re.MULTILINE), "the first table explains the code"


def test_the_generated_parts_are_current() -> None:
    command = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Markdown viewers make them."""
    text = re.sub(r"^```.*?^```", "", _text(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(_text(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{_name(page)}: {link}"
        assert not anchor or anchor in _anchors(target), f"{_name(page)}: {link}"


def test_the_decision_table_has_the_rows_of_the_code_in_their_order() -> None:
    source = _text(ROOT / "src/b2m/state.py").partition("TABLE: ")[2]
    found = re.findall(r'_refuse\(_problem\)|errors\.(\w+)\(|_state\("(\w+)"\)', source)
    reasons = {kind.__name__: kind.reason for kind in _error_classes() if issubclass(kind, errors.Refused)}
    rows = [reasons[error] if error else state or "unreadable" for error, state in found]
    page = _text(ROOT / "docs/states.md").partition("## The decision table")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == rows


def _example(kind: str) -> dict[str, object]:
    found = re.search(rf"```json {kind}\n(.*?)```", _text(ROOT / "docs/formats.md"), re.DOTALL)
    assert found, f"no example of {kind}"
    data: dict[str, object] = json.loads(found[1])
    return data


def test_the_files_of_a_host_are_shown_as_they_are() -> None:
    anchor, kept = _example("anchor"), _example("kept")
    assert Anchor.from_json(anchor).to_json() == anchor
    assert f"`{Anchor.from_json(anchor).file_name}`" in _text(ROOT / "docs/formats.md")
    assert Kept.from_json(kept).to_json() == kept


def test_every_entry_of_the_journal_is_listed_with_its_fields_and_what_settles_it() -> None:
    page = _text(ROOT / "docs/formats.md")
    for act, settled in SETTLED_BY.items():
        row = re.search(rf"^\| `{act}` \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
        assert row, act
        assert re.findall(r"`(\w+)`", row[2]) == list(settled)
        if act == "switch":
            assert re.findall(r"`(\w+)`", row[1]) == [field.name for field in fields(Switch)]


def test_the_changes_name_this_version() -> None:
    assert f"## {__version__}" in _text(ROOT / "CHANGELOG.md")
