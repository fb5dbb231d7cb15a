"""Proof that a candidate may go live: sound, and with every row of both sides in it.

Nothing here believes the merge: rows are looked up again, in four files, by statements of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from b2m.errors import VerifyFailed
from b2m.sqlite.connect import explained, open_scratch, open_static, quote_name, static_uri
from b2m.sqlite.foreign import Unchecked, Violation, violations
from b2m.sqlite.header import require_header
from b2m.sqlite.pages import SCHEMA_TABLE, changed_tables
from b2m.sqlite.rowsql import (
    column,
    columns,
    has_key,
    joined,
    match,
    multiset,
    qualified,
    same,
    same_key,
    same_row,
    scan,
)
from b2m.sqlite.schema import Schema, Table, differences, read_schema
from b2m.sqlite.values import decode, encoded, shown

MAX_PROBLEMS = 100
_BASE, _OURS, _HEAD, _CANDIDATE = "base", "ours", "head", "candidate"


def check_integrity(path: Path, *, quick: bool = False, db: str = "") -> list[str]:
    """List what SQLite's own check finds, empty if sound; `quick` leaves out index content and UNIQUE."""
    conn = open_static(path, db)
    try:
        with explained(db or path.stem, path):
            pragma = "quick_check" if quick else "integrity_check"
            try:
                found = [str(row[0]) for row in conn.execute(f"PRAGMA {pragma}({MAX_PROBLEMS})")]
            except apsw.CorruptError as error:
                # So damaged that the check itself cannot go on.
                return [str(error)]
            return [] if found == ["ok"] else found
    finally:
        conn.close()


def check_foreign_keys(path: Path, *, db: str = "") -> list[Violation]:
    """List rows whose parent row is missing, at most 100; empty if there are none."""
    conn = open_static(path, db)
    try:
        with explained(db or path.stem, path):
            return [found for found, _ in zip(violations(conn), range(MAX_PROBLEMS), strict=False)]
    except Unchecked as error:
        raise VerifyFailed(db=db or path.stem, file=path.name, what=error) from None
    finally:
        conn.close()


def verify_rows(
    base: Path, ours: Path, head: Path, candidate: Path, resolved_ok: bool = False, *, db: str = ""
) -> None:
    """Check that `candidate` is `head` plus what changed from `base` to `ours`, row by row and by count.

    A row that one side changed is there as that side has it; one that both changed has each column from the side that
    changed it. `resolved_ok`: where both sides changed the same, either side's row or value will do, as a merge rule
    said. Memory does not grow with the files. Raises VerifyFailed, Unreadable.
    """
    db = db or candidate.stem
    files = {_BASE: base, _OURS: ours, _HEAD: head, _CANDIDATE: candidate}
    for path in files.values():
        require_header(path, db)
    touched = _touched(changed_tables(base, ours), changed_tables(head, candidate))
    with _all_attached(db, files) as conn:
        schemas = {name: read_schema(conn, name) for name in files}
        detail = differences(schemas[_HEAD], schemas[_CANDIDATE])
        if detail:
            raise VerifyFailed(db=db, file=candidate.name, what=f"its schema is not the newest version's: {detail[0]}")
        for name, table in schemas[_CANDIDATE].tables.items():
            if (touched is None or name in touched) and not table.virtual and table.values:
                problem = _problem(conn, table, schemas, resolved_ok)
                if problem:
                    raise VerifyFailed(db=db, file=candidate.name, what=problem)


def _touched(ours: set[str] | None, candidate: set[str] | None) -> set[str] | None:
    if ours is None or candidate is None:
        return None
    return (ours | candidate) - {SCHEMA_TABLE}


@contextmanager
def _all_attached(db: str, files: dict[str, Path]) -> Iterator[apsw.Connection]:
    conn = open_scratch(require_header(files[_CANDIDATE], db).encoding)
    try:
        for name, path in files.items():
            with explained(db, path):
                conn.execute(f"ATTACH ? AS {name}", (static_uri(path),))
        with explained(db, files[_CANDIDATE]):
            yield conn
    finally:
        conn.close()


def _problem(conn: apsw.Connection, table: Table, schemas: dict[str, Schema], resolved_ok: bool) -> str | None:
    before, after = schemas[_BASE].tables.get(table.name), schemas[_OURS].tables.get(table.name)
    keyed = table.comparable and not table.shadow_of
    if not keyed or before != table or after != table:
        return _as_head(conn, table)
    if table.nullable_key:
        unkeyed = _as_head(conn, table)
        if unkeyed:
            return unkeyed
    return _wrong_row(conn, table, schemas[_CANDIDATE].encoding, resolved_ok) or _wrong_count(conn, table, resolved_ok)


def _as_head(conn: apsw.Connection, table: Table) -> str | None:
    """A table that cannot be merged must be as the newest version has it."""
    sql = multiset(qualified(_HEAD, table.name), qualified(_CANDIDATE, table.name), table, table.values)
    if conn.execute(f"SELECT 1 FROM ({sql}) LIMIT 1").fetchone():
        return f"rows of {table.name} are not those of the newest version"
    return None


def _changed(old: str, new: str, table: Table) -> str:
    """Select the keys of rows of `new` that are not the same, or not there, in `old`."""
    return (
        f"SELECT {columns('x', table.key)} FROM {qualified(new, table.name)} AS x "
        f"LEFT JOIN {qualified(old, table.name)} AS y ON {same_key('y', 'x', table)} "
        f"WHERE {has_key('x', table)} AND NOT {same_row('x', 'y', table.values)}"
    )


def _gone(old: str, new: str, table: Table) -> str:
    """Select the keys of rows of `old` that are not in `new`."""
    return (
        f"SELECT {columns('x', table.key)} FROM {scan(old, table, 'x')} WHERE {has_key('x', table)} "
        f"AND NOT EXISTS (SELECT 1 FROM {qualified(new, table.name)} AS y WHERE {same_key('y', 'x', table)})"
    )


def _wrong_row(conn: apsw.Connection, table: Table, encoding: str, resolved_ok: bool) -> str | None:
    """Look up every row that either step changed; the others are as they were on both sides."""
    _list_moved(conn, table)
    keys = [f"k{i}" for i in range(len(table.key))]
    row = conn.execute(
        f"SELECT {encoded('m', keys)} FROM temp.moved AS m {_joins(table)} "
        f"WHERE NOT ({_right(table, resolved_ok)}) LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    return f"{table.name}[{', '.join(table.key)}={shown(decode(row, encoding))}] is not what both sides made of it"


def _list_moved(conn: apsw.Connection, table: Table) -> None:
    keys = [f"k{i}" for i in range(len(table.key))]
    collations = (f" COLLATE {quote_name(collation)}" if collation else "" for collation in table.key_collations)
    declared = ", ".join(f"{key}{collation}" for key, collation in zip(keys, collations, strict=True))
    conn.execute("DROP TABLE IF EXISTS temp.moved")
    conn.execute(f"CREATE TEMP TABLE moved({declared}, PRIMARY KEY({', '.join(keys)})) WITHOUT ROWID")
    for old, new in ((_BASE, _OURS), (_HEAD, _CANDIDATE)):
        conn.execute(f"INSERT OR IGNORE INTO moved {_changed(old, new, table)}")
        conn.execute(f"INSERT OR IGNORE INTO moved {_gone(old, new, table)}")


def _joins(table: Table) -> str:
    """Join row m's four versions: b base, o ours, h head, c candidate."""
    keys = [f"m.k{i}" for i in range(len(table.key))]
    return " ".join(
        f"LEFT JOIN {qualified(schema, table.name)} AS {alias} ON "
        + match(zip((column(alias, name) for name in table.key), keys, strict=True), table.key_collations)
        for alias, schema in (("b", _BASE), ("o", _OURS), ("h", _HEAD), ("c", _CANDIDATE))
    )


def _there(alias: str, table: Table) -> str:
    return f"{column(alias, table.key[0])} IS NOT NULL"


def _right(table: Table, resolved_ok: bool) -> str:
    """True if row c is what rows b, o and h say it must be."""

    def equal(left: str, right: str) -> str:
        return same_row(left, right, table.values)

    merged, mixed = [], []
    for name in table.values:
        b, o, h, c = (column(alias, name) for alias in "bohc")
        merged.append(
            f"CASE WHEN {same(o, b)} THEN {same(c, h)} WHEN {same(h, b)} OR {same(h, o)} THEN {same(c, o)} "
            f"ELSE FALSE END"
        )
        mixed.append(f"({same(c, o)} OR {same(c, h)})")
    all_there = " AND ".join(_there(alias, table) for alias in "bohc")
    # Several replays may have settled some columns by a rule and merged the others.
    settled = f"{equal('c', 'o')} OR {equal('c', 'h')} OR ({all_there} AND ({joined('AND', mixed)}))"
    return (
        f"CASE WHEN {equal('o', 'b')} THEN {equal('c', 'h')} "
        f"WHEN {equal('h', 'b')} OR {equal('h', 'o')} THEN {equal('c', 'o')} "
        f"WHEN {all_there} AND ({joined('AND', merged)}) THEN TRUE ELSE {settled if resolved_ok else 'FALSE'} END"
    )


def _wrong_count(conn: apsw.Connection, table: Table, resolved_ok: bool) -> str | None:
    """Count: head's rows, plus those that ours added, less those that ours removed, must be the candidate's."""
    b, o, h, c = (_there(alias, table) for alias in "bohc")
    both = f"NOT {same_row('o', 'b', table.values)} AND NOT {same_row('h', 'b', table.values)}"
    # LIMIT -1 keeps the inner statement one of its own: an aggregate may not see more than 2,000 columns.
    row = conn.execute(
        f"SELECT count(*) FILTER (WHERE added), count(*) FILTER (WHERE removed), count(*) FILTER (WHERE kept) FROM ("
        f"SELECT {o} AND NOT ({b}) AND NOT ({h}) AS added, {b} AND NOT ({o}) AND {h} AS removed, "
        f"{both} AND {b} AND ({o}) <> ({h}) AND {c} AS kept FROM temp.moved AS m {_joins(table)} LIMIT -1)"
    ).fetchone()
    assert row is not None
    added, removed, kept = (int(str(value)) for value in row)
    before, after = (
        int(str(conn.execute(f"SELECT count(*) FROM {qualified(schema, table.name)}").get))
        for schema in (_HEAD, _CANDIDATE)
    )
    # Rows that one side removed and the other changed are there only if a rule kept them.
    expected = before + added - removed + (kept if resolved_ok else 0)
    if after == expected:
        return None
    return f"{table.name} has {after} rows, and {expected} were expected ({before} + {added} - {removed})"
