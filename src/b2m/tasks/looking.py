"""Tasks that change nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.tasks import task

from b2m.tasks.frame import (
    DBS,
    WITH_VARIABLES,
    chosen,
    count,
    emit,
    error_json,
    events,
    for_each,
    help_of,
    reported,
    say,
    seconds,
    tell,
)

if TYPE_CHECKING:
    from b2m.overview import Seen
    from b2m.project import Target


@task(
    **DBS,
    help=help_of(
        "db", "host", "project", "json", max_age="exit 8 for what was last in step longer ago: 26h; for monitors"
    ),
)
def status(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False, max_age: str = "") -> None:
    """Say which state databases are in: up_to_date, ready_to_upload, outdated_db, locked, or refused and why."""
    with reported(c, json):
        from b2m import api
        from b2m.overview import too_old
        from b2m.report import status_line

        allowed = seconds(max_age or None)
        targets = chosen(db or ["all"], host, project)
        found: list[Seen] = []

        def look(target: Target) -> int:
            seen = api.seen(target, events(json))
            found.append(seen)
            refusals = [seen.verdict.refusal, too_old(seen, allowed) if max_age else None]
            if json:
                emit(seen.to_json())
            elif len(targets) == 1:
                tell(status_line(seen.facts, seen.verdict))
            for refusal in filter(None, refusals):
                emit(error_json(refusal)) if json and refusal is refusals[1] else said.append(str(refusal))
            return 8 if any(refusals) else 0

        said: list[str] = []
        for_each(targets, json, look, lambda: _overview(found, said, json))


def _overview(found: list[Seen], said: list[str], as_json: bool) -> None:
    """Print the table of several databases, and why some are refused."""
    from b2m.overview import status_table
    from b2m.terminal import coloured, width

    if as_json:
        return
    if len(found) > 1:
        tell(*status_table(found, width(sys.stdout), coloured(sys.stdout)))
    for line in said:
        say(f"b2m: {line}")


@task(
    **WITH_VARIABLES,
    help=help_of(
        "db",
        "host",
        "project",
        "json",
        "e",
        "set",
        rehearse="download, replay and verify in a throwaway folder, and say what would come of it",
    ),
)
def plan(
    c: Context,
    db: list[str],
    e: list[str],
    set_: list[str],
    host: str = "",
    project: str = "",
    json: bool = False,
    rehearse: bool = False,
) -> None:
    """Say what a sync would do, step by step; exit 0 if nothing, 10 if something, 8 if it would be refused.

    Conflicts of rows show with --rehearse only.
    """
    with reported(c, json):
        show = show_rehearsal if rehearse else show_plan
        targets = chosen(db, host, project, [*e, *set_], checked=True)
        for_each(targets, json, lambda target: show(target, json))


def show_plan(target: Target, as_json: bool) -> int:
    """Print the plan of one database; return 0, 8 for a refusal, 4 if it is locked or paused, 10 if there is work."""
    from b2m import api
    from b2m.plan import work_in
    from b2m.report import plan_lines, status_json, status_line
    from b2m.sync import refuse_if_paused

    facts, verdict, steps = api.plan(target, events(as_json))
    work = work_in(steps) and verdict.state != "locked"
    if as_json:
        emit({**status_json(facts, verdict), "type": "plan", "steps": [vars(step) for step in steps], "work": work})
    else:
        tell(status_line(facts, verdict))
        for line in plan_lines(steps):
            tell(f"  {line}")
    if verdict.refusal is not None:
        raise verdict.refusal
    if work:
        refuse_if_paused(facts)
    return {"locked": 4}.get(verdict.state, 10 if work else 0)


def show_rehearsal(target: Target, as_json: bool) -> int:
    """Rehearse a sync of one database, and print what would come of it; return what ``show_plan`` does."""
    from b2m import api
    from b2m.printing import rehearsal_json, rehearsal_lines

    found = api.rehearse(target, events(as_json))
    if as_json:
        emit(rehearsal_json(found))
    else:
        tell(*rehearsal_lines(found))
    if found.refusal is not None:
        raise found.refusal
    return found.exit_code


@task(**DBS, help=help_of("db", "host", "project", "json", limit="how many, newest first; 0 for all"))
def history(
    c: Context, db: list[str], host: str = "", project: str = "", json: bool = False, limit: str = "20"
) -> None:
    """Show the published versions of databases."""
    with reported(c, json):
        from b2m import api
        from b2m.wording import rows, size

        newest = count("limit", limit)

        def show(target: Target) -> int:
            for commit in api.history(target, newest or None):
                if json:
                    emit({"type": "commit", **commit.model_dump(mode="json")})
                    continue
                what = rows(commit.rows) if commit.parent is not None else "first"
                revision = f"  {commit.revision[:10]}{'+' if commit.dirty_tree else ''}" if commit.revision else ""
                note = f"  {' '.join(commit.message.split())}" if commit.message else ""
                tell(
                    f"{target.db} v{commit.number}  {commit.time}  {commit.author} on {commit.host}  {what}  "
                    f"{size(commit.size)}{revision}{note}",
                )
            return 0

        for_each(chosen(db, host, project), json, show)


@task(**DBS, help=help_of("db", "host", "project", "json", rows="how many rows of each table to show"))
def diff(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False, rows: str = "5") -> None:
    """Show how a live file differs from the version it started from: counts and rows."""
    with reported(c, json):
        from b2m import api

        shown = count("rows", rows)

        def show(target: Target) -> int:
            found = api.diff(target, events(json), shown)
            if json:
                emit(_diff_json(found))
                return 0
            tell(f"{found.db}@{found.host}  live against v{found.version}")
            for detail in found.changes.schema_detail:
                tell(f"  schema: {detail}")
            for table, count in found.changes.tables.items():
                tell(f"  {table}  +{count.inserted} ~{count.updated} -{count.deleted}")
                listed = [row for row in found.rows if row.table == table]
                for row in listed:
                    sign = {"insert": "+", "update": "~", "delete": "-"}[row.kind]
                    tell(f"    {sign} {row.old if row.kind == 'delete' else row.new}")
                if count.total > len(listed):
                    tell(f"    {count.total - len(listed)} more; all: --rows {count.total}")
            if not found.changes.dirty:
                tell("  the same rows")
            return 0

        for_each(chosen(db, host, project), json, show)


def _diff_json(found: Any) -> dict[str, Any]:
    return {
        "type": "diff",
        "db": found.db,
        "host": found.host,
        "version": found.version,
        "dirty": found.changes.dirty,
        "schema": found.changes.schema_detail,
        "tables": {
            name: {"inserted": c.inserted, "updated": c.updated, "deleted": c.deleted}
            for name, c in found.changes.tables.items()
        },
        "rows": [
            {"table": row.table, "kind": row.kind, "key": row.key, "old": row.old, "new": row.new} for row in found.rows
        ],
    }


@task(**DBS, help=help_of("db", "host", "project", "json"))
def locks(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False) -> None:
    """Show who holds databases in the bucket."""
    with reported(c, json):
        from b2m import api

        def show(target: Target) -> int:
            lease = api.locks(target)
            if json:
                emit({"type": "lock", "db": target.db, "lease": vars(lease) if lease else None})
            elif lease is None:
                tell(f"{target.db}  free")
            else:
                tell(
                    f"{target.db}  held by {lease.owner} on {lease.host} since {lease.since} for {lease.reason}; "
                    f"if that run is dead: b2m unlock --force --db {target.db}",
                )
            return 0

        for_each(chosen(db or ["all"], host, project), json, show)


TASKS = (status, plan, history, diff, locks)
