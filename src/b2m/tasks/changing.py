"""Tasks that change a host or the bucket."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.tasks import task

from b2m import errors
from b2m.tasks.frame import (
    DBS,
    WITH_VARIABLES,
    chosen,
    emit,
    events,
    for_each,
    help_of,
    quietly,
    reported,
    say,
    seconds,
    tell,
    whole,
)
from b2m.tasks.looking import show_plan

if TYPE_CHECKING:
    from b2m.events import Events
    from b2m.project import Target
    from b2m.report import Recap


@task(
    **WITH_VARIABLES,
    help=help_of(
        "db",
        "host",
        "project",
        "json",
        "wait",
        "e",
        "set",
        check="change nothing; exit 10 if there is work",
        message="a note for the version",
        quiet="print nothing but warnings if all goes well, everything if not: for cron",
    ),
)
def sync(
    c: Context,
    db: list[str],
    e: list[str],
    set_: list[str],
    host: str = "",
    project: str = "",
    check: bool = False,
    json: bool = False,
    wait: str = "",
    message: str = "",
    quiet: bool = False,
) -> None:
    """Bring databases and their bucket in step, as their playbooks say."""
    with quietly(quiet) as anyway, reported(c, json):
        from b2m import api
        from b2m.project import ALL

        patience = seconds(wait or None)
        everywhere = host == ALL
        if everywhere:
            targets = api.fleet(api.project(project, checked=True), db, [*e, *set_])
        else:
            targets = chosen(db, host, project, [*e, *set_], checked=True)
        if check:
            for_each(targets, json, lambda target: show_plan(target, json))
            return
        _recaps(
            targets,
            json,
            lambda target, told: api.sync(target, told, wait=patience, message=message),
            ping=True,
            anyway=anyway,
            fleet=everywhere,
        )


@task(
    **WITH_VARIABLES,
    help=help_of("db", "host", "project", "json", "wait", "e", "set", message="a note for the version"),
)
def upload(
    c: Context,
    db: list[str],
    e: list[str],
    set_: list[str],
    host: str = "",
    project: str = "",
    json: bool = False,
    wait: str = "",
    message: str = "",
) -> None:
    """Publish databases that are ready to upload; an outdated one is refused."""
    with reported(c, json):
        from b2m import api

        patience = seconds(wait or None)
        _recaps(
            chosen(db, host, project, [*e, *set_], checked=True),
            json,
            lambda target, told: api.upload(target, told, wait=patience, message=message),
        )


@task(
    **DBS,
    help=help_of(
        "db",
        "host",
        "project",
        "json",
        version="which version; without it, the newest",
        discard="rows that are in no version are backed up and dropped",
    ),
)
def download(
    c: Context,
    db: list[str],
    host: str = "",
    project: str = "",
    version: str = "",
    discard: bool = False,
    json: bool = False,
) -> None:
    """Put a version of the bucket live; rows that are in no version are never overwritten."""
    with reported(c, json):
        from b2m import api

        number = _version(version)
        _recaps(
            chosen(db, host, project),
            json,
            lambda target, told: api.download(target, told, version=number, discard=discard),
        )


@task(**DBS, help=help_of("db", "host", "project", "json"))
def rollback(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False) -> None:
    """Go back to the file that was live before the last swap, with the rows written since."""
    with reported(c, json):
        from b2m import api

        _recaps(chosen(db, host, project), json, lambda target, told: api.rollback(target, told))


@task(**DBS, help=help_of("db", "host", "project", "json", version="adopt this version, whatever differs"))
def adopt(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False, version: str = "") -> None:
    """Find the version that a file without an anchor started from."""
    with reported(c, json):
        from b2m import api

        number = _version(version)

        def act(target: Target) -> int:
            found = api.adopt(target, events(json), version=number)
            if json:
                emit({"type": "adoption", "db": found.db, "version": found.commit.number, "adopted": found.adopted})
            else:
                tell(found.line())
            return 0 if found.adopted else 8

        for_each(chosen(db, host, project), json, act)


@task(**DBS, help=help_of("db", "host", "project", "json", force="really break it"))
def unlock(
    c: Context, db: list[str], host: str = "", project: str = "", json: bool = False, force: bool = False
) -> None:
    """Break the lease on databases; the run that holds it stops before its next change."""
    with reported(c, json):
        from b2m import api

        def act(target: Target) -> int:
            if not force:
                lease = api.locks(target)
                if lease is None:
                    say(f"{target.db} is free")
                    return 0
                raise errors.UsageError(
                    what=f"{target.db} is held by {lease.owner} since {lease.since}; to break that: "
                    f"b2m unlock --force --db {target.db}"
                )
            broken = api.unlock(target)
            if json:
                emit({"type": "unlock", "db": target.db, "broken": vars(broken) if broken else None})
            else:
                say(f"{target.db} is free" + (f", {broken.owner} no longer holds it" if broken else ""))
            return 0

        for_each(chosen(db, host, project), json, act)


def _recaps(
    targets: list[Target],
    as_json: bool,
    act: Callable[[Target, Events], Any],
    *,
    ping: bool = False,
    anyway: list[str] | None = None,
    fleet: bool = False,
) -> None:
    """Print the recap of what is done with each database; ``anyway`` takes what is to be said even of a success.

    A ``fleet`` stops at the first failure, and ends with a table.
    """
    from b2m import api

    recaps: list[Recap] = []

    def one(target: Target) -> int:
        told = events(as_json)
        with api.telling(target, told, ping=ping):
            recap = act(target, told)
        if anyway is not None:
            anyway.extend(event["text"] for event in told.kept if event["type"] == "warning")
        recaps.append(recap)
        if as_json:
            emit(recap.to_json())
        else:
            tell(recap.line())
            if len(targets) > 1 and not fleet:
                tell(f"{target.db} success")
        return 0

    def overview() -> None:
        from b2m.printing import fleet_table
        from b2m.terminal import coloured, width

        if fleet and not as_json:
            wanted = [(target.db, target.host) for target in targets]
            tell(*fleet_table(wanted, recaps, width(sys.stdout), coloured(sys.stdout)))

    for_each(targets, as_json, one, overview, stop=fleet)


def _version(text: str) -> int | None:
    if not text:
        return None
    number = whole(text.removeprefix("v"))
    if number is None:
        raise errors.UsageError(what=f"{text!r} is no version: write a number, as in v12 or 12")
    return number


TASKS = (sync, upload, download, rollback, adopt, unlock)
