"""Foreign keys after a merge: only violations that the merge made, found by looking at changed rows only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apsw

from b2m.sqlite.connect import quote_name
from b2m.sqlite.decide import Plan
from b2m.sqlite.rowsql import column, qualified
from b2m.sqlite.schema import Schema, Table, folded
from b2m.sqlite.values import Value


@dataclass(frozen=True)
class ForeignKey:
    """A reference of `child` columns to `parent` columns, numbered as PRAGMA foreign_key_list does."""

    child: str
    number: int
    parent: str
    child_columns: tuple[str, ...]
    parent_columns: tuple[str, ...]


class Unchecked(Exception):
    """SQLite cannot check a foreign key as it is declared; the text says which."""


@dataclass(frozen=True)
class Violation:
    """A row of `table` whose parent row is missing; rowid is None in tables without, `key` is known if asked for."""

    table: str
    rowid: int | None
    parent: str
    number: int
    columns: tuple[str, ...] = ()
    key: tuple[Value, ...] = ()

    def __str__(self) -> str:
        row = "a row" if self.rowid is None else f"row {self.rowid}"
        return f"{row} of {self.table} has no parent in {self.parent}"


def violations(conn: apsw.Connection) -> Iterator[Violation]:
    """Check all tables. Raises Unchecked."""
    yield from _check(conn, "PRAGMA main.foreign_key_check")


def violations_in(
    conn: apsw.Connection, tables: Iterable[Table], keys: list[ForeignKey], schema: Schema
) -> Iterator[Violation]:
    """Check whole tables, and tell each row from any other. Raises Unchecked."""
    for table in tables:
        found = _check(conn, f"PRAGMA main.foreign_key_check({quote_name(table.name)})")
        if table.rowid:
            yield from found
            continue
        # SQLite says how many, and not which.
        broken = {each.number for each in found}
        for key in keys:
            if key.child == table.name and key.number in broken:
                what = ", ".join(column("y", name) for name in table.key)
                sql = f"SELECT {what} FROM {qualified('main', table.name)} AS y WHERE {_missing(key, 'y', schema)}"
                for row in conn.execute(sql):
                    yield Violation(table.name, None, key.parent, key.number, table.key, tuple(row))


def _check(conn: apsw.Connection, sql: str) -> Iterator[Violation]:
    try:
        rows = iter(conn.execute(sql))
    except apsw.SQLError as error:
        if "foreign key mismatch" not in str(error):
            raise
        raise Unchecked(f"its foreign keys cannot be checked: {error}") from None
    for table, rowid, parent, number in rows:
        yield Violation(str(table), None if rowid is None else int(str(rowid)), str(parent), int(str(number)))


def foreign_keys(conn: apsw.Connection, schema: Schema) -> list[ForeignKey]:
    """List every foreign key of the main database whose columns can be named."""
    found = []
    by_name = {folded(name): table for name, table in schema.tables.items()}
    for table in schema.tables.values():
        if table.virtual:
            continue
        rows = conn.execute(f"PRAGMA main.foreign_key_list({quote_name(table.name)})").fetchall()
        for number in sorted({int(str(row[0])) for row in rows}):
            parts = sorted((row for row in rows if row[0] == number), key=lambda row: int(str(row[1])))
            parent = by_name.get(folded(str(parts[0][2])))
            named = tuple(str(row[4]) for row in parts if row[4] is not None)
            target = named or (parent.key if parent else ())
            columns = tuple(str(row[3]) for row in parts)
            found.append(ForeignKey(table.name, number, parent.name if parent else str(parts[0][2]), columns, target))
    return found


def suspects(conn: apsw.Connection, keys: list[ForeignKey], plans: list[Plan], schema: Schema) -> list[str]:
    """Name the tables in which the changed rows may have broken a foreign key; usually none."""
    by_table = {plan.spooled.table.name: plan for plan in plans}
    found = set()
    for key in keys:
        as_child, as_parent = by_table.get(key.child), by_table.get(key.parent)
        if as_child is None and as_parent is None:
            continue
        if (
            not _nameable(key, schema)
            or (as_child and _orphans(conn, key, as_child, schema))
            or (as_parent and _left_behind(conn, key, as_parent, schema))
        ):
            found.add(key.child)
    return sorted(found)


def _nameable(key: ForeignKey, schema: Schema) -> bool:
    """Whether the parent's columns can be asked for."""
    if key.parent not in schema.tables or len(key.parent_columns) != len(key.child_columns):
        return False
    return {folded(name) for name in key.parent_columns} <= {
        folded(each.name) for each in schema.tables[key.parent].columns
    }


def _alike(key: ForeignKey, schema: Schema) -> bool:
    """Whether the values of both sides compare alike: else what refers to a value is not all that equals it here."""
    child, parent = (
        {folded(each.name): (_affinity(each.type), folded(each.collation)) for each in schema.tables[name].columns}
        for name in (key.child, key.parent)
    )
    pairs = zip(key.child_columns, key.parent_columns, strict=True)
    return all(child.get(folded(one)) == parent.get(folded(other)) for one, other in pairs)


def _affinity(declared: str) -> str:
    """Return the affinity of a declared type, those of numbers as one (https://sqlite.org/datatype3.html)."""
    type_ = folded(declared)
    if "int" in type_:
        return "number"
    if any(word in type_ for word in ("char", "clob", "text")):
        return "text"
    # ANY, in a strict table, takes values as they are; elsewhere two columns of that type are alike all the same.
    return "blob" if not type_ or "blob" in type_ or type_ == "any" else "number"


def _missing(key: ForeignKey, child: str, schema: Schema) -> str:
    """True if a row aliased `child` refers to a parent that is not there, by the rules of the parent's columns."""
    full = " AND ".join(f"{column(child, name)} IS NOT NULL" for name in key.child_columns)
    if key.parent not in schema.tables:
        return full
    pairs = zip(key.parent_columns, key.child_columns, strict=True)
    # Without an affinity of its own the child's value takes the parent's.
    found = " AND ".join(f"{column('x', to)} = +{column(child, name)}" for to, name in pairs)
    return f"{full} AND NOT EXISTS (SELECT 1 FROM {qualified('main', key.parent)} AS x WHERE {found})"


def _orphans(conn: apsw.Connection, key: ForeignKey, plan: Plan, schema: Schema) -> bool:
    """Whether an inserted or updated row lacks its parent."""
    table = plan.spooled.table
    here = " AND ".join(
        f"{column('y', name)} = p.f{table.values.index(name)}"
        + (f" COLLATE {quote_name(collation)}" if collation else "")
        for name, collation in zip(table.key, table.key_collations, strict=True)
    )
    sql = (
        f"SELECT 1 FROM {plan.place} AS p CROSS JOIN {qualified('main', key.child)} AS y ON {here} "
        f"WHERE p.act IN ('insert', 'update') AND {_missing(key, 'y', schema)} LIMIT 1"
    )
    return conn.execute(sql).fetchone() is not None


def _left_behind(conn: apsw.Connection, key: ForeignKey, plan: Plan, schema: Schema) -> bool:
    """Whether a row still refers to a parent that was deleted or got another key."""
    table = plan.spooled.table
    if not set(key.parent_columns) <= set(table.values):
        return True
    old = ", ".join(f"c{table.values.index(name)}" for name in key.parent_columns)
    changed = " OR ".join(
        f"c{i} IS NOT f{i} COLLATE BINARY" for i in (table.values.index(name) for name in key.parent_columns)
    )
    where = f"act = 'delete' OR (act = 'update' AND ({changed}))"
    if conn.execute(f"SELECT 1 FROM {plan.place} WHERE {where} LIMIT 1").fetchone() is None:
        return False
    refers = f"({', '.join(column('y', name) for name in key.child_columns)})"
    to_these = f"{refers} IN (SELECT {old} FROM {plan.place} WHERE {where}) AND " if _alike(key, schema) else ""
    sql = f"SELECT 1 FROM {qualified('main', key.child)} AS y WHERE {to_these}{_missing(key, 'y', schema)} LIMIT 1"
    return conn.execute(sql).fetchone() is not None
