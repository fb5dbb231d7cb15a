"""The change list: what happened between two states, in a scratch database on disk.

One table for each changed table, with the row before (b0, b1, ...) and after (o0, o1, ...). The columns have no type,
so every value keeps its storage class; nothing of it goes through Python, so nothing has to fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from b2m.errors import CannotReplay
from b2m.sqlite.diff import Counts, sequences, surplus, touched_tables
from b2m.sqlite.live import LiveFile
from b2m.sqlite.pairing import SPOOL, Pair, paired
from b2m.sqlite.rowsql import column, columns, has_key, qualified, same_key, same_row, scan
from b2m.sqlite.rules import Rules, check_table_deletes
from b2m.sqlite.schema import Schema, Table, differences

MAX_COLUMNS = 400


@dataclass(frozen=True)
class Spooled:
    """The changes of one table: `place` is the qualified name of its list in the scratch database."""

    table: Table
    place: str
    counts: Counts


@dataclass(frozen=True)
class Spool:
    """A complete change list; `sequences` are AUTOINCREMENT counters that moved, at their new value
    (None: removed)."""

    path: Path
    tables: tuple[Spooled, ...]
    sequences: Mapping[str, int | None]
    schema: Schema
    data_version: int | None


def collect(
    db: str, base: Path, ours: Path | LiveFile, path: Path, rules: Rules, tables: set[str] | None = None
) -> Spool:
    """Write what changed from `base` to `ours` into a new file at `path`.

    Raises CannotReplay for what has no key to find it by, TooManyDeletes, Unreadable.
    """
    with paired(base, ours, db, touched=tables, spool=path) as pair:
        changed_schema = differences(pair.old_schema, pair.new_schema)
        if changed_schema:
            raise CannotReplay(db=db, what=f"the schema changed ({', '.join(changed_schema[:3])})")
        found = []
        for number, name in enumerate(touched_tables(pair)):
            table = pair.new_schema.tables[name]
            counts = _collect(db, pair, table, f"{SPOOL}.s{number}", rules)
            if counts.total:
                found.append(Spooled(table, f"{SPOOL}.s{number}", counts))
        moved = {name: new for name, (_, new) in sequences(pair).items()}
        return Spool(path, tuple(found), moved, pair.new_schema, pair.data_version)


def _collect(db: str, pair: Pair, table: Table, place: str, rules: Rules) -> Counts:
    if table.virtual or not table.values:
        return Counts()
    if table.shadow_of or not table.comparable:
        if _differs(pair, table):
            raise CannotReplay(db=db, what=_unkeyed(table))
        return Counts()
    if table.nullable_key and surplus(pair, table, table.values).total:
        raise CannotReplay(db=db, what=f"rows of {table.name} with NULL in the primary key changed")
    if len(table.values) > MAX_COLUMNS:
        raise CannotReplay(db=db, what=f"{table.name} has more than {MAX_COLUMNS} columns")
    return _spool_rows(db, pair, table, place, rules)


def _unkeyed(table: Table) -> str:
    if table.shadow_of:
        return f"the virtual table {table.shadow_of} changed"
    if table.unknown:
        return f"{table.name} changed, and its key needs the collation {table.unknown[0]}"
    return f"{table.name} changed, and it has no primary key"


def _differs(pair: Pair, table: Table) -> bool:
    if table.comparable:
        old, new = qualified(pair.old, table.name), qualified(pair.new, table.name)
        sql = (
            f"SELECT 1 FROM {{0}} AS x WHERE NOT EXISTS (SELECT 1 FROM {{1}} AS y WHERE {same_key('y', 'x', table)} "
            f"AND {same_row('x', 'y', table.values)}) LIMIT 1"
        )
        return any(pair.conn.execute(sql.format(*sides)).fetchone() for sides in ((new, old), (old, new)))
    return surplus(pair, table, table.values).total > 0


def _spool_rows(db: str, pair: Pair, table: Table, place: str, rules: Rules) -> Counts:
    old, new, names = qualified(pair.old, table.name), qualified(pair.new, table.name), table.values
    befores, afters = (", ".join(f"{side}{i}" for i in range(len(names))) for side in "bo")
    pair.conn.execute(f"CREATE TABLE {place}(id INTEGER PRIMARY KEY, op, {befores}, {afters})")
    pair.conn.execute(
        f"INSERT INTO {place} SELECT NULL, iif({column('o', table.key[0])} IS NULL, 'insert', 'update'), "
        f"{columns('o', names)}, {columns('n', names)} "
        f"FROM {new} AS n LEFT JOIN {old} AS o ON {same_key('o', 'n', table)} "
        f"WHERE {has_key('n', table)} AND NOT {same_row('o', 'n', names)}"
    )
    inserted, updated = _ops(pair, place)
    rows, left = (
        int(str(pair.conn.execute(f"SELECT count(*) FROM {side} AS t WHERE {has_key('t', table)}").get))
        for side in (old, new)
    )
    deleted = rows - (left - inserted)
    if deleted:
        check_table_deletes(db, table.name, deleted, rows, rules)
        pair.conn.execute(
            f"INSERT INTO {place} SELECT NULL, 'delete', {columns('o', names)}, {', '.join(['NULL'] * len(names))} "
            f"FROM {scan(pair.old, table, 'o')} WHERE {has_key('o', table)} "
            f"AND NOT EXISTS (SELECT 1 FROM {new} AS n WHERE {same_key('n', 'o', table)})"
        )
    return Counts(inserted, updated, deleted)


def _ops(pair: Pair, place: str) -> tuple[int, int]:
    row = pair.conn.execute(
        f"SELECT count(*) FILTER (WHERE op = 'insert'), count(*) FILTER (WHERE op = 'update') FROM {place}"
    ).fetchone()
    assert row is not None
    return int(str(row[0])), int(str(row[1]))
