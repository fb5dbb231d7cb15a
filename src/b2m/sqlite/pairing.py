"""Two states of one database in one connection, so that SQL itself can compare them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from b2m.errors import CannotReplay
from b2m.sqlite.connect import explained, open_scratch, static_uri, uri
from b2m.sqlite.header import require_header
from b2m.sqlite.live import LiveFile, require_writable
from b2m.sqlite.pages import changed_tables, changed_tables_live
from b2m.sqlite.schema import Schema, read_schema

OLD, NEW, SPOOL = "b2m_old", "b2m_new", "b2m_spool"


@dataclass(frozen=True)
class Pair:
    """An open comparison: `old` and `new` are the schema names of the two states in `conn`.

    `touched` names the tables that may differ, None means any; `data_version` is set if the new state is live.
    """

    conn: apsw.Connection
    old: str
    new: str
    old_schema: Schema
    new_schema: Schema
    touched: set[str] | None
    data_version: int | None


@contextmanager
def paired(
    base: Path, new: Path | LiveFile, db: str, *, touched: set[str] | None = None, spool: Path | None = None
) -> Iterator[Pair]:
    """Open two states for comparison; live is read in one transaction.

    `spool` is a new file, attached as b2m_spool and committed when the bracket ends well. Raises Unreadable, and
    CannotReplay if the two differ in text encoding.
    """
    if isinstance(new, LiveFile):
        with _with_live(base, new, db or new.db, touched, spool) as pair:
            yield pair
        return
    db = db or new.stem
    header = require_header(new, db)
    if require_header(base, db).encoding != header.encoding:
        raise CannotReplay(db=db, what=f"{base} and {new} differ in text encoding")
    conn = open_scratch(header.encoding)
    try:
        with explained(db, new):
            _attach(conn, static_uri(new), NEW)
            _attach(conn, static_uri(base), OLD)
            if spool:
                attach_spool(conn, spool)
            touched = changed_tables(base, new) if touched is None else touched
            conn.execute("BEGIN")
            yield Pair(conn, OLD, NEW, read_schema(conn, OLD), read_schema(conn, NEW), touched, None)
            conn.execute("COMMIT")
    finally:
        conn.close()


@contextmanager
def _with_live(base: Path, live: LiveFile, db: str, touched: set[str] | None, spool: Path | None) -> Iterator[Pair]:
    if live.is_reading:
        raise RuntimeError("a comparison reads live in a bracket of its own: call it outside reading()")
    conn = live.conn
    attached: list[str] = []
    if require_header(base, db).encoding != conn.pragma("encoding"):
        raise CannotReplay(db=db, what=f"{base} and {live.path} differ in text encoding")
    # What failed in an earlier comparison may have kept its base attached.
    _detach(conn, [str(row[1]) for row in conn.execute("PRAGMA database_list").fetchall() if row[1] in (OLD, SPOOL)])
    try:
        with explained(db, base):
            _attach(conn, static_uri(base), OLD)
        attached.append(OLD)
        if spool:
            require_writable(live)
            attach_spool(conn, spool)
            attached.append(SPOOL)
        with live.reading():
            touched = changed_tables_live(base, live) if touched is None else touched
            schemas = read_schema(conn, OLD), read_schema(conn, "main")
            yield Pair(conn, OLD, "main", *schemas, touched, live.version())
            if spool:
                conn.execute("COMMIT")
    except BaseException:
        # A half-read statement of what failed keeps a file attached; that is not what the caller has to hear of.
        with suppress(apsw.Error):
            _detach(conn, attached)
        raise
    _detach(conn, attached)


def _detach(conn: apsw.Connection, names: Iterable[str]) -> None:
    for name in names:
        conn.execute(f"DETACH {name}")


def _attach(conn: apsw.Connection, name: str, schema: str) -> None:
    conn.execute(f"ATTACH ? AS {schema}", (name,))


def attach_spool(conn: apsw.Connection, path: Path) -> None:
    """Attach a scratch file that is thrown away on any failure: it needs neither journal nor sync."""
    # SQLite refuses mode=rwc on a connection that was itself opened without it, so the file is made first.
    path.touch(mode=0o600)
    _attach(conn, uri(path, mode="rw"), SPOOL)
    conn.execute(f"PRAGMA {SPOOL}.journal_mode = OFF")
    conn.execute(f"PRAGMA {SPOOL}.synchronous = OFF")
