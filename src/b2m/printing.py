"""Runs of the past, and rehearsals of the next one, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from b2m.overview import ago
from b2m.records import Record
from b2m.rehearsal import Rehearsed
from b2m.report import Recap, status_json, status_line, version
from b2m.terminal import Column, Row, table
from b2m.wording import size

RUNS = (
    Column("RUN"),
    Column("DATABASE", drop=1),
    Column("COMMAND", drop=3),
    Column("STATE", drop=2),
    Column("VERSION"),
    Column("ROWS", drop=4),
    Column("EXIT"),
    Column("WHEN", drop=5),
)


FLEET = (Column("HOST"), Column("DATABASE"), Column("STATE"), Column("VERSION"), Column("DOWNTIME", drop=1))


def fleet_table(
    wanted: Sequence[tuple[str, str]], recaps: Sequence[Recap], room: int | None, colours: bool
) -> list[str]:
    """Return the lines of a table of databases on hosts, in the order in which they were taken.

    The first without a recap failed; those after it were left alone.
    """
    rows = [
        Row((each.host, each.db, each.after, version(each.to_version), f"{each.downtime_ms / 1000:.1f}s"))
        for each in recaps
    ]
    for index, (db, host) in enumerate(wanted[len(recaps) :]):
        rows.append(Row((host, db, "left alone" if index else "failed", "-", "-"), colour="31"))
    return table(FLEET, rows, room, colours)


def runs_table(found: Sequence[Record], room: int | None, colours: bool) -> list[str]:
    """Return the lines of a table of runs."""
    now = datetime.now(UTC)
    rows = [
        Row(
            cells=(
                each.run,
                f"{each.db}@{each.host}",
                each.command,
                f"{each.before} -> {each.after}" + (f" ({each.reason})" if each.reason else ""),
                f"{version(each.from_version)} -> {version(each.to_version)}",
                _rows(each.rows),
                str(each.exit_code),
                ago((now - each.began).total_seconds()),
            ),
            colour="31" if each.exit_code not in (0, 4) else "",
        )
        for each in found
    ]
    return table(RUNS, rows, room, colours)


def run_json(record: Record, *, full: bool = False) -> dict[str, Any]:
    """Return a run in the fields of ``--json``; ``full`` adds what it told while it worked."""
    found = {"type": "run", **asdict(record), "began": record.began.isoformat(), "ended": record.ended.isoformat()}
    events = found.pop("events")
    return {**found, "events": events} if full else found


def run_lines(record: Record) -> list[str]:
    """Return all that a run's record says."""
    found = [
        f"run       {record.run}",
        f"database  {record.db}@{record.host}",
        f"command   {record.command}, exit code {record.exit_code}",
        f"began     {record.began.isoformat()}",
        f"took      {record.total_ms / 1000:.1f}s, downtime {record.downtime_ms / 1000:.1f}s in {record.holds} holds",
        f"state     {record.before} -> {record.after}",
        f"version   {version(record.from_version)} -> {version(record.to_version)}, rows {_rows(record.rows)}",
    ]
    if record.error:
        found.append(f"error     {record.error}")
    found += [f"  {line}" for event in record.events if (line := _event(event))]
    return found


def rehearsal_json(found: Rehearsed) -> dict[str, Any]:
    """Return a rehearsal in the fields of ``--json``."""
    return {
        **status_json(found.facts, found.verdict),
        "type": "rehearsal",
        "work": found.work,
        "refused": getattr(found.refusal, "reason", None),
        "conflicts": list(found.conflicts),
        "rows": found.rows,
        "upload_bytes": found.upload,
        "download_bytes": found.bytes_down,
        "holds": found.holds,
        "downtime": asdict(found.downtime) if found.downtime else None,
        "exit_code": found.exit_code,
    }


def rehearsal_lines(found: Rehearsed) -> list[str]:
    """Return what a sync would come to."""
    lines = [status_line(found.facts, found.verdict)]
    if found.refusal is not None:
        return [*lines, *(f"  conflict  {each}" for each in found.conflicts), "  a sync would be refused"]
    if not found.work:
        return [*lines, "  a sync would do nothing"]
    if found.upload is not None:
        lines.append(f"  rows      {_rows(found.rows)}, no conflict that stops it")
        lines.append(f"  upload    {size(found.upload)}")
    else:
        lines.append("  upload    nothing")
    lines.append(f"  download  {size(found.bytes_down)}")
    if found.downtime is None:
        return [*lines, "  downtime  none: no server is held"]
    parts = [f"late rows about {found.downtime.late_rows_ms / 1000:.2f}s"]
    if found.downtime.last_ms is None:
        parts.append("swap and server not known yet, since no run here held it before")
    else:
        parts.append(f"in all {found.downtime.last_ms / 1000:.2f}s the last time (run {found.downtime.last_run})")
    return [*lines, f"  downtime  {'; '.join(parts)}"]


def _event(event: Mapping[str, Any]) -> str | None:
    kind = event.get("type")
    if kind == "task" and event.get("module") == "message" and event.get("status") == "ok":
        return None  # what it said is an event of its own
    if kind == "task" and event.get("status") != "started":
        return f"{event.get('status', ''):8}  {event.get('name')}  {event.get('detail') or ''}".rstrip()
    if kind in ("warning", "message", "recovered", "kept"):
        return f"{kind:8}  {event.get('text')}"
    if kind in ("undone", "undo_failed"):
        return f"{kind:8}  {event.get('name')}  {event.get('text', '')}".rstrip()
    return None


def _rows(rows: Mapping[str, int]) -> str:
    return f"+{rows['inserted']} ~{rows['updated']} -{rows['deleted']}"
