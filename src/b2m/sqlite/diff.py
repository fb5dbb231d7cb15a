"""What changed between two states of a database, row by row."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import apsw

from b2m.sqlite.live import LiveFile
from b2m.sqlite.pairing import Pair, paired
from b2m.sqlite.rowsql import by_key, column, has_key, multiset, qualified, same_key, same_row, scan
from b2m.sqlite.schema import Table, differences
from b2m.sqlite.values import Value, decode, encodings, read

Kind = Literal["insert", "update", "delete"]


@dataclass(frozen=True)
class Counts:
    """Rows inserted, updated and deleted."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def total(self) -> int:
        """Rows changed in any way."""
        return self.inserted + self.updated + self.deleted

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.inserted + other.inserted, self.updated + other.updated, self.deleted + other.deleted)


@dataclass(frozen=True)
class Changes:
    """Changed tables with their counts; shadow tables are counted under their virtual table.

    `base_rows` has the number of rows before, for tables that lost some. `sequences` names tables whose AUTOINCREMENT
    counter moved: such a database is dirty even if no row changed. `data_version` is the state of live that was read.
    """

    tables: Mapping[str, Counts]
    schema_changed: bool = False
    schema_detail: list[str] = field(default_factory=list)
    base_rows: Mapping[str, int] = field(default_factory=dict)
    sequences: tuple[str, ...] = ()
    data_version: int | None = field(default=None, compare=False)

    @property
    def dirty(self) -> bool:
        """Whether the new state has anything that the old one lacks, or the reverse."""
        return bool(self.tables or self.schema_changed or self.sequences)

    @property
    def counts(self) -> Counts:
        """The sum over all tables."""
        return sum(self.tables.values(), Counts())


@dataclass(frozen=True)
class RowChange:
    """One changed row; `old` and `new` are the stored (not generated) columns, None where the row is absent.

    `key` is empty for rows that have none: of a table without primary key, or with NULL in it.
    """

    table: str
    kind: Kind
    key: tuple[Value, ...]
    old: tuple[Value, ...] | None
    new: tuple[Value, ...] | None


def compare(base: Path, new: Path | LiveFile, *, tables: set[str] | None = None, db: str = "") -> Changes:
    """Compare two states exactly; live is read in one transaction.

    `tables` limits the comparison to those names; without it changed pages tell which tables to look at.
    VACUUM, ANALYZE and a copy by the backup API are no changes. Raises Unreadable.
    """
    with paired(base, new, db, touched=tables) as pair:
        return changes_of(pair)


def changes_of(pair: Pair) -> Changes:
    """Compare an open pair."""
    found: dict[str, Counts] = {}
    rows: dict[str, int] = {}
    for name in touched_tables(pair):
        before, after = pair.old_schema.tables.get(name), pair.new_schema.tables.get(name)
        table = after or before
        if table is None or table.virtual or not table.values:
            continue
        counts, base_rows = _table_changes(pair, before, after)
        if counts.total:
            found[table.label] = found.get(table.label, Counts()) + counts
        if counts.deleted:
            rows[table.label] = rows.get(table.label, 0) + base_rows
    detail = differences(pair.old_schema, pair.new_schema)
    return Changes(found, bool(detail), detail, rows, tuple(sequences(pair)), pair.data_version)


def touched_tables(pair: Pair) -> list[str]:
    """Name the tables of either side that may differ, in a fixed order."""
    names = {*pair.old_schema.tables, *pair.new_schema.tables}
    return sorted(names if pair.touched is None else names & pair.touched)


def count_rows(pair: Pair, schema: str, table: Table) -> int:
    """Count the rows of a table."""
    return _numbers(pair, f"SELECT count(*) FROM {qualified(schema, table.name)}")[0]


def surplus(pair: Pair, table: Table, names: tuple[str, ...]) -> Counts:
    """Count rows that have no key as a multiset: a changed one is one deleted and one inserted."""
    sql = multiset(qualified(pair.old, table.name), qualified(pair.new, table.name), table, names)
    more, fewer = _numbers(pair, f"SELECT total(max(surplus, 0)), total(max(-surplus, 0)) FROM ({sql})")
    return Counts(inserted=more, deleted=fewer)


def _numbers(pair: Pair, sql: str) -> list[int]:
    row = pair.conn.execute(sql).fetchone() or ()
    return [int(float(str(value))) for value in row]


def _table_changes(pair: Pair, before: Table | None, after: Table | None) -> tuple[Counts, int]:
    if before is None or after is None:
        if after is not None:
            return Counts(inserted=count_rows(pair, pair.new, after)), 0
        assert before is not None
        rows = count_rows(pair, pair.old, before)
        return Counts(deleted=rows), rows
    names = tuple(name for name in after.values if name in before.values)
    if not names:
        rows = count_rows(pair, pair.old, before)
        return Counts(inserted=count_rows(pair, pair.new, after), deleted=rows), rows
    if not before.comparable or not after.comparable or before.key != after.key:
        counts = surplus(pair, replace(after, key=(), key_collations=()), names)
    else:
        counts = _keyed(pair, after, names)
        if after.nullable_key:
            counts += surplus(pair, after, names)
    return counts, count_rows(pair, pair.old, before) if counts.deleted else 0


def _keyed(pair: Pair, table: Table, names: tuple[str, ...]) -> Counts:
    old, new = qualified(pair.old, table.name), qualified(pair.new, table.name)
    absent = f"{column('o', table.key[0])} IS NULL"
    inserted, updated = _numbers(
        pair,
        f"SELECT count(*) FILTER (WHERE {absent}), count(*) FILTER (WHERE NOT ({absent})) "
        f"FROM {new} AS n LEFT JOIN {old} AS o ON {same_key('o', 'n', table)} "
        f"WHERE {has_key('n', table)} AND NOT {same_row('o', 'n', names)}",
    )
    before, after = (
        _numbers(pair, f"SELECT count(*) FROM {side} AS t WHERE {has_key('t', table)}")[0] for side in (old, new)
    )
    # What is neither new nor still there has gone: no second join needed.
    return Counts(inserted, updated, before - (after - inserted))


def sequences(pair: Pair) -> dict[str, tuple[int | None, int | None]]:
    """AUTOINCREMENT counters that differ, old and new; None where the table has none yet."""
    old, new = (counters(pair.conn, schema) for schema in (pair.old, pair.new))
    return {name: (old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name)}


def counters(conn: apsw.Connection, schema: str) -> dict[str, int]:
    """Return the AUTOINCREMENT counter of each table that has one."""
    if not conn.execute(f"SELECT 1 FROM {schema}.sqlite_schema WHERE name = 'sqlite_sequence'").fetchone():
        return {}
    # Anybody may write any value there; SQLite itself goes on from it as an integer.
    rows = conn.execute(
        f"SELECT name, max(CAST(seq AS INTEGER)) FROM {schema}.sqlite_sequence WHERE seq IS NOT NULL GROUP BY name"
    ).fetchall()
    return {str(name): int(str(seq)) for name, seq in rows}


def rows(
    base: Path, new: Path | LiveFile, table: str, limit: int | None = None, *, db: str = ""
) -> Iterator[RowChange]:
    """Yield the changed rows of one table (for a virtual table: of its shadow tables), at most `limit`."""
    # The inner one is closed before the pair is: a half-read statement would keep the base file attached.
    with paired(base, new, db) as pair, closing(_rows_of(pair, table)) as found:
        yield from islice(found, limit)


def _rows_of(pair: Pair, label: str) -> Generator[RowChange, None, None]:
    for name in touched_tables(pair):
        before, after = pair.old_schema.tables.get(name), pair.new_schema.tables.get(name)
        if before is None or after is None or after.label != label or after.virtual:
            continue
        names = tuple(each for each in after.values if each in before.values)
        if not names:
            continue
        if after.comparable and before.comparable and before.key == after.key:
            yield from _keyed_rows(pair, after, names)
        else:
            after = replace(after, key=(), key_collations=())
        if not after.key or after.nullable_key:
            yield from _keyless_rows(pair, after, names)


def _keyed_rows(pair: Pair, table: Table, names: tuple[str, ...]) -> Iterator[RowChange]:
    old, new = qualified(pair.old, table.name), qualified(pair.new, table.name)
    encoding, width, size = pair.new_schema.encoding, 2 * len(table.key), 2 * len(names)
    for row in read(
        pair.conn,
        [f"{column('o', table.key[0])} IS NULL"]
        + [part for alias, each in (("n", table.key), ("n", names), ("o", names)) for part in encodings(alias, each)],
        f"FROM {new} AS n LEFT JOIN {old} AS o ON {same_key('o', 'n', table)} "
        f"WHERE {has_key('n', table)} AND NOT {same_row('o', 'n', names)}",
        by_key("n", table),
    ):
        values = row[1 + width :]
        key, after = decode(row[1 : 1 + width], encoding), decode(values[:size], encoding)
        if row[0]:
            yield RowChange(table.name, "insert", key, None, after)
        else:
            yield RowChange(table.name, "update", key, decode(values[size:], encoding), after)
    for row in read(
        pair.conn,
        [*encodings("o", table.key), *encodings("o", names)],
        f"FROM {scan(pair.old, table, 'o')} "
        f"WHERE {has_key('o', table)} AND NOT EXISTS (SELECT 1 FROM {new} AS n WHERE {same_key('n', 'o', table)})",
        by_key("o", table),
    ):
        key, before = decode(row[:width], encoding), decode(row[width:], encoding)
        yield RowChange(table.name, "delete", key, before, None)


def _keyless_rows(pair: Pair, table: Table, names: tuple[str, ...]) -> Iterator[RowChange]:
    sql = multiset(qualified(pair.old, table.name), qualified(pair.new, table.name), table, names)
    places = [f"v{i}" for i in range(len(names))]
    # No order needed: the groups come sorted.
    for row in read(pair.conn, ["surplus", *encodings("m", places)], f"FROM ({sql}) AS m", ""):
        times, values = int(str(row[0])), decode(row[1:], pair.new_schema.encoding)
        for _ in range(abs(times)):
            if times > 0:
                yield RowChange(table.name, "insert", (), None, values)
            else:
                yield RowChange(table.name, "delete", (), values, None)
