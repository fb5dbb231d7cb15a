"""Tasks for whoever looks after a host: what ran, what is wrong, and keeping runners away for a while."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from b2m import errors
from b2m.tasks.frame import (
    DBS,
    FLAGS,
    chosen,
    count,
    emit,
    events,
    for_each,
    help_of,
    reported,
    say,
    seconds,
    tell,
    the_project,
)

ENDING = re.compile(r"[0-9a-f]{4,}")  # of a run's id

if TYPE_CHECKING:
    from b2m.project import Target
    from b2m.records import Record


@task(
    **DBS,
    help=help_of(
        "db",
        "host",
        "project",
        "json",
        id="show this run in full; its last letters will do",
        limit="how many, newest first; 0 for all",
    ),
)
def runs(
    c: Context,
    db: list[str],
    host: str = "",
    project: str = "",
    json: bool = False,
    id: str = "",
    limit: str = "20",
) -> None:
    """Show the runs on a host, newest first, or one of them in full."""
    with reported(c, json):
        from b2m import api
        from b2m.printing import run_json, run_lines, runs_table
        from b2m.terminal import coloured, width

        newest = count("limit", limit) or None
        if not id and len(db) == 1 and ENDING.fullmatch(db[0]) and db[0] not in the_project(project or None).databases:
            id, db = db[0], []
        found: list[Record] = []
        for target in chosen(db or ["all"], host, project):
            found += api.runs(target)
        # An id counts seconds only: runs that began in one second are told apart by their ends.
        found.sort(key=lambda record: (record.began, record.ended), reverse=True)
        if id:
            record = _named(found, id)
            emit(run_json(record, full=True)) if json else tell(*run_lines(record))
        elif json:
            for record in found[:newest]:
                emit(run_json(record))
        elif not found:
            say("no run is remembered here")
        else:
            tell(*runs_table(found[:newest], width(sys.stdout), coloured(sys.stdout)))


def _named(found: list[Record], text: str) -> Record:
    fits = [record for record in found if record.run == text] or [each for each in found if each.run.endswith(text)]
    if len(fits) != 1:
        what = f"{len(fits)} runs here end in {text}" if fits else f"no run {text} is remembered here"
        raise errors.UsageError(what=f"{what}; see: b2m runs")
    return fits[0]


@task(**DBS, help=help_of("db", "host", "project", "json", deep="read the whole anchor too"))
def doctor(
    c: Context, db: list[str], host: str = "", project: str = "", json: bool = False, deep: bool = False
) -> None:
    """Look for what is wrong, change nothing, and say what to type next; exit 0 if all is well, else 8."""
    with reported(c, json):
        from b2m import api

        def show(target: Target) -> int:
            found = api.doctor(target, events(json), deep=deep)
            emit(found.to_json()) if json else tell(*found.lines())
            return 0 if found.healthy else 8

        for_each(chosen(db or ["all"], host, project), json, show)


@task(**DBS, help=help_of("db", "host", "project", "json", for_="how long: 30m, 4h, 2d", reason="why, for the others"))
def pause(
    c: Context,
    db: list[str],
    host: str = "",
    project: str = "",
    json: bool = False,
    for_: str = "",
    reason: str = "",
) -> None:
    """Ask every sync and upload on every host to leave databases alone; download and rollback still work."""
    with reported(c, json):
        from b2m import api

        if not for_:
            raise errors.UsageError(what="say how long: --for 4h")
        length = seconds(for_)

        def act(target: Target) -> int:
            made = api.pause(target, length, reason)
            if json:
                emit({"type": "pause", "db": target.db, "owner": made.owner, "until": made.ends, "reason": made.reason})
            else:
                tell(f"{target.db}  {made.line()}")
            lease = api.locks(target)
            if lease is not None:
                say(f"b2m: {target.db} is held by {lease.owner} since {lease.since}; that run goes on to its end")
            return 0

        for_each(chosen(db, host, project), json, act)


@task(**DBS, help=help_of("db", "host", "project", "json"))
def resume(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False) -> None:
    """End the pause of databases."""
    with reported(c, json):
        from b2m import api

        def act(target: Target) -> int:
            ended = api.resume(target)
            if json:
                emit({"type": "resume", "db": target.db, "was_paused": ended is not None})
            else:
                tell(f"{target.db}  {f'was {ended.line()}' if ended else 'was not paused'}")
            return 0

        for_each(chosen(db, host, project), json, act)


@task(
    **{**FLAGS, "iterable": ["folder"]},
    help=help_of("project", folder="a folder of databases; may be given several times; without it, the project's here"),
)
def recover(c: Context, folder: list[str], project: str = "") -> None:
    """Finish or undo on this machine what a dead run left, without the bucket; for boot, before the server starts."""
    with reported(c):
        from b2m import api

        folders = [Path(each) for each in folder] or api.folders_here(the_project(project))
        found, wrong = api.recover(folders)
        for db, acts in found:
            for act in acts or ["nothing is left to be done without the bucket"]:
                tell(f"{db}  {act}")
        for text in wrong:
            say(f"b2m: {text}")
        if wrong:
            raise Exit(None, 7)


TASKS = (runs, doctor, pause, resume, recover)
