"""Tasks for whoever writes a project: begin one, check it, ask where a value comes from."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from b2m import errors
from b2m.tasks.frame import FLAGS, VARIABLES, WITH_VARIABLES, emit, for_each, help_of, reported, say, tell, the_project

if TYPE_CHECKING:
    from b2m.project import Target
    from b2m.project.checks import Report
    from b2m.project.origins import Origin


@task(**{**FLAGS, "iterable": VARIABLES}, help=help_of("project", "json", "e", "set"))
def check(c: Context, e: list[str], set_: list[str], project: str = "", json: bool = False) -> None:
    """Check a project's files, all of them at once; needs no host, bucket or secret. Exit 3 if something is wrong."""
    with reported(c, json):
        from b2m import api

        report = api.check(project or None, [*e, *set_])
        _print_json(report) if json else _print(report)
        if report.errors:
            raise Exit(None, errors.InvalidProject.exit_code)


def _print(report: Report) -> None:
    for finding in report.errors:
        tell(finding)
    for finding in report.warnings:
        tell(f"{finding.at}: warning: {finding.what}")
    wrong, odd = len(report.errors), len(report.warnings)
    counted = f"{wrong or 'no'} error{'' if wrong == 1 else 's'}, {odd or 'no'} warning{'' if odd == 1 else 's'}"
    say(f"{len(report.files)} files, {counted}")


def _print_json(report: Report) -> None:
    for severity, findings in (("error", report.errors), ("warning", report.warnings)):
        for found in findings:
            at = found.at
            place = {"file": at.file, "line": at.line or None, "col": at.col or None}
            emit({"type": "finding", "severity": severity, **place, "text": found.what})
    errors_, warnings = len(report.errors), len(report.warnings)
    emit({"type": "check", "files": list(report.files), "errors": errors_, "warnings": warnings})


@task(**WITH_VARIABLES, help=help_of("db", "host", "project", "json", "e", "set"))
def vars(
    c: Context,
    db: list[str],
    e: list[str],
    set_: list[str],
    host: str = "",
    project: str = "",
    json: bool = False,
) -> None:
    """Say what each variable is on a host, which level decides it, and where that stands."""
    with reported(c, json):
        from b2m import api
        from b2m.project.origins import known_in_a_run

        found = the_project(project or None)

        def show(target: Target) -> int:
            every = api.variables(found, target)
            if json:
                for one in every:
                    emit(_variable_json(target, one))
                return 0
            tell(f"{target.db}@{target.host}")
            role = None
            for one in every:
                if one.role != role:
                    role = one.role
                    tell(f"  role {role}")
                tell(f"  {'  ' if one.role else ''}{_variable_line(one)}")
            tell(f"  known in a run: {', '.join(known_in_a_run())}")
            return 0

        # From the files alone: asking where a value comes from must not make the demo, or start its server.
        for_each(api.named(found, db or ["all"], host or "local", [*e, *set_]), json, show)


def _variable_line(one: Origin) -> str:
    import json

    shown = _hidden(one.name, one.written if one.later else one.value)
    value = f"{shown}  (known in a run)" if one.later else json.dumps(shown, ensure_ascii=False)
    place = f"  {one.at}" if one.at is not None and one.at.line else ""
    hides = "".join(f"; hides {level} {at}" for level, at in one.hides)
    return f"{one.name} = {value}  [{one.level}]{place}{hides}"


def _hidden(name: str, value: object) -> object:
    """Return a variable's value, unless it looks like a secret: what a terminal shows may be pasted anywhere."""
    from b2m.project import templates
    from b2m.review.steps import HIDDEN, hidden

    for path, leaf in templates.leaves(value):
        *above, key = [name, *(step for step in path if isinstance(step, str))]
        if isinstance(leaf, str) and hidden(key, leaf, above) == HIDDEN:
            return HIDDEN
    return value


def _variable_json(target: Target, one: Origin) -> dict[str, object]:
    return {
        "type": "variable",
        "db": target.db,
        "host": target.host,
        "role": one.role,
        "name": one.name,
        "value": _hidden(one.name, one.value),
        "written": _hidden(one.name, one.written),
        "later": one.later,
        "level": one.level,
        "at": str(one.at) if one.at is not None else None,
        "hides": [{"level": level, "at": str(at)} for level, at in one.hides],
    }


@task(
    **{**FLAGS, "iterable": ["db"]},
    help={
        "folder": "the new project's folder; it must be empty or not there yet",
        "db": "a database as name=file, as in ipm=ipm-db-v5.db; may be given several times",
        "host": "the host that has them, and its folder: prod=/srv/dbs",
        "bucket": "the folder that keeps the versions",
        "stop": "the command that ends the server that opens them; without it, no server does",
        "start": "the command that starts it again",
        "health": "the address that answers 2xx when it works",
    },
)
def init(
    c: Context,
    db: list[str],
    folder: str = "",
    host: str = "",
    bucket: str = "",
    stop: str = "",
    start: str = "",
    health: str = "",
) -> None:
    """Write a new project: inventory, playbooks, roles, tasks.py, a CI file; asks on a terminal what no flag says."""
    with reported(c):
        from b2m import api
        from b2m.project.create import new_host, new_service

        asks = sys.stdin.isatty() and sys.stderr.isatty()
        folder = folder or (_ask("The new project's folder", "ops") if asks else "")
        if not folder:
            raise errors.UsageError(what="name the new project's folder: b2m init DIR --db name=file")
        dbs = list(db) or (_databases() if asks else [])
        host = host or (_ask("The host that has them, and its folder", "prod=dbs", new_host) if asks else "prod=dbs")
        bucket = bucket or (_ask("The folder that keeps the versions", "bucket") if asks else "bucket")
        if asks and not stop and not start:
            stop = _ask("The command that stops the server that opens them, or nothing if none does", "")
            start = _ask("The command that starts it again", "", _something) if stop else ""
            health = health or (_ask("The address that answers when it works, or nothing", "") if stop else "")
        root = Path(folder).expanduser()
        for name in api.init(root, dbs, host, bucket, new_service(stop, start, health)):
            tell(root / name)
        there = shlex.quote(folder)
        say(f"next: b2m check --project {there}; then set the bucket up: b2m bucket.init --project {there}")


def _databases() -> list[str]:
    from b2m.project.create import new_databases

    found: list[str] = []
    while answer := _ask(
        "A database, as name=file" if not found else "Another one, or nothing",
        "",
        lambda text: new_databases([*found, text]) if text or not found else None,
    ):
        found.append(answer)
    return found


def _something(text: str) -> None:
    if not text:
        raise errors.UsageError(what="write something")


def _ask(question: str, default: str, check: Callable[[str], object] = lambda text: None) -> str:
    """Ask until the answer will do; at the end of the input it is the default."""
    while True:
        say(f"{question}{f' [{default}]' if default else ''}: ")
        try:
            answer = input().strip() or default
        except EOFError:
            return default
        try:
            check(answer)
        except errors.UsageError as error:
            say(f"  {error}")
            continue
        return answer


TASKS = (check, vars, init)
