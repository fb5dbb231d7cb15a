"""Many databases at a glance: one line each, and whether the last sync is too long ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from b2m import errors
from b2m.facts import Facts
from b2m.records import Record
from b2m.report import notes, status_json, version
from b2m.state import Verdict
from b2m.terminal import Column, Row, table

COLUMNS = (
    Column("DATABASE"),
    Column("HOST", drop=1),
    Column("STATE"),
    Column("LIVE", drop=2),
    Column("BUCKET", drop=3),
    Column("LAST SYNC", drop=4),
)
COLOURS = {"up_to_date": "32", "ready_to_upload": "33", "outdated_db": "33", "locked": "35", "refused": "31"}


@dataclass(frozen=True)
class Seen:
    """A database's facts and verdict, and the last run here that brought it in step with its bucket."""

    facts: Facts
    verdict: Verdict
    last: Record | None

    def to_json(self) -> dict[str, object]:
        found = status_json(self.facts, self.verdict)
        return {**found, "last_sync": self.last.began.isoformat() if self.last else None}


def status_table(seen: Sequence[Seen], room: int | None, colours: bool) -> list[str]:
    """Return the lines of a table of databases."""
    now = datetime.now(UTC)
    rows = [
        Row(
            cells=(
                each.facts.db,
                each.facts.host,
                each.verdict.state + (f" ({each.verdict.reason})" if each.verdict.reason else ""),
                _live(each.facts),
                version(each.facts.head.number if each.facts.head else None),
                ago((now - each.last.began).total_seconds()) if each.last else "never",
            ),
            colour=COLOURS[each.verdict.state],
            note="; ".join(notes(each.facts)),
        )
        for each in seen
    ]
    return table(COLUMNS, rows, room, colours)


def too_old(seen: Seen, allowed: float) -> errors.TooOld | None:
    """Return the refusal for a database that was last in step longer ago than ``allowed`` seconds.

    What counts is the last successful sync on this host; where none is remembered, the time of the newest version.
    """
    facts, now = seen.facts, datetime.now(UTC)
    if seen.last is not None:
        when, what = seen.last.began, "the last successful sync here was"
    elif facts.head is not None:
        when = datetime.fromisoformat(facts.head.time)
        what = f"no sync is remembered here, and v{facts.head.number} was published"
    else:
        return errors.TooOld(db=facts.db, host=facts.host, what="it was never synced", allowed=_span(allowed))
    age = (now - when).total_seconds()
    if age <= allowed:
        return None
    return errors.TooOld(db=facts.db, host=facts.host, what=f"{what} {ago(age)}", allowed=_span(allowed))


def ago(seconds: float) -> str:
    """Return an age in one unit: ``5s ago``, ``3h ago``."""
    return f"{_span(seconds)} ago"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length or (seconds >= length and seconds % length == 0):
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def _live(facts: Facts) -> str:
    if not facts.live.exists:
        return "-"
    number = facts.anchor.number if facts.anchor else facts.live.file_version
    return version(number) + ("*" if facts.live.dirty else "")
