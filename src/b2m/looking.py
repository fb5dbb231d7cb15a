"""How a live file differs from its anchor, for people."""

from __future__ import annotations

from dataclasses import dataclass

from b2m import errors
from b2m.events import Events
from b2m.hosts import anchor as anchors
from b2m.opening import opened
from b2m.project import Target
from b2m.sqlite import diff as diffs
from b2m.sqlite.diff import Changes, RowChange


@dataclass(frozen=True)
class Difference:
    """What live has and the anchor lacks: counts of all tables, and the first rows of each."""

    db: str
    host: str
    version: int
    changes: Changes
    rows: list[RowChange]


def diff(target: Target, events: Events, limit: int) -> Difference:
    """Compare live with its anchor; at most ``limit`` rows a table are returned."""
    with opened(target, events) as found:
        session = found.session
        path = session.place.live()
        anchor = anchors.load(session.place)
        if not path.exists():
            if anchor is not None:
                raise errors.LiveMissing(db=target.db, host=target.host, path=path, version=anchor.number)
            raise errors.NothingHere(db=target.db, host=target.host, path=path)
        if anchor is None:
            raise errors.NoBase(db=target.db, host=target.host, path=path, head="?")
        base = anchors.check(session.place, anchor)
        live = session.live.file()
        changes = diffs.compare(base, live)
        rows = [row for table in changes.tables for row in diffs.rows(base, live, table, limit)]
        return Difference(target.db, target.host, anchor.number, changes, rows)
