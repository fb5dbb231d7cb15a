"""SQL text for exact comparison of rows: shared by diff, merge and verify, free of any state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from b2m.sqlite.connect import quote_name
from b2m.sqlite.schema import Table

_CHAIN = 100


def qualified(schema: str, table: str) -> str:
    """Name a table of an attached database."""
    return f"{schema}.{quote_name(table)}"


def scan(schema: str, table: Table, alias: str) -> str:
    """Name a table to be walked in the order of its key.

    For keys alone SQLite would walk some smaller index of a rowid table, and then look up the other side at random:
    3.4 instead of 0.6 s for 1.5 million rows.
    """
    return f"{qualified(schema, table.name)} AS {alias}" + (" NOT INDEXED" if table.integer_key else "")


def column(alias: str, name: str) -> str:
    """Name a column of an aliased table."""
    return f"{alias}.{quote_name(name)}"


def columns(alias: str, names: Iterable[str]) -> str:
    """List columns of an aliased table."""
    return ", ".join(column(alias, name) for name in names)


def joined(operator: str, terms: Iterable[str]) -> str:
    """Join terms by AND, OR or ||, however many: a long list is a tree of short ones.

    SQLite reads a list as a chain, each operator one level deeper, and refuses more than 1,000 levels.
    """
    each = list(terms)
    if len(each) <= _CHAIN:
        return f" {operator} ".join(each)
    half = len(each) // 2
    return f"({joined(operator, each[:half])}) {operator} ({joined(operator, each[half:])})"


def same(left: str, right: str) -> str:
    """Compare two values as stored: NULL equals NULL, but 1 is not 1.0 and 'a' is not 'A' under any collation."""
    return f"({left} IS {right} COLLATE BINARY AND typeof({left}) = typeof({right}))"


def all_same(pairs: Iterable[tuple[str, str]]) -> str:
    """Compare values pair by pair."""
    return "(" + joined("AND", (same(left, right) for left, right in pairs)) + ")"


def same_row(left: str, right: str, names: Iterable[str]) -> str:
    """Compare two aliased rows column by column."""
    return all_same((column(left, name), column(right, name)) for name in names)


def match(pairs: Iterable[tuple[str, str]], collations: Sequence[str]) -> str:
    """Find the row with a key as the key's own index does; "" as collation stands for a rowid."""
    terms = (
        f"{left} = {right}" + (f" COLLATE {quote_name(collation)}" if collation else "")
        for (left, right), collation in zip(pairs, collations, strict=True)
    )
    return joined("AND", terms)


def same_key(left: str, right: str, table: Table) -> str:
    """Match two aliased rows by the table's key."""
    return match(((column(left, name), column(right, name)) for name in table.key), table.key_collations)


def by_key(alias: str, table: Table) -> str:
    """Order rows by their key, whatever its collation: all that differ in it differ as bytes, too."""
    return "ORDER BY " + ", ".join(f"{column(alias, name)} COLLATE BINARY" for name in table.key)


def has_key(alias: str, table: Table) -> str:
    """True for rows without NULL in the key."""
    if not table.nullable_key:
        return "TRUE"
    return "(" + joined("AND", (f"{column(alias, name)} IS NOT NULL" for name in table.key)) + ")"


def has_no_key(alias: str, table: Table) -> str:
    """True for rows with NULL in the key, in the form that an index can answer."""
    if not table.nullable_key:
        return "FALSE"
    return "(" + joined("OR", (f"{column(alias, name)} IS NULL" for name in table.key)) + ")"


def multiset(old: str, new: str, table: Table, names: Sequence[str]) -> str:
    """Select (values..., surplus) for rows that one side has more often; surplus is positive if it is `new`.

    For keyed tables only the rows with NULL in the key are taken, the others have their key. SQLite can do it for
    1,999 columns.
    """
    where = has_no_key("t", table) if table.comparable else "TRUE"
    aliased = ", ".join(f"{column('t', name)} COLLATE BINARY AS v{i}" for i, name in enumerate(names))
    values = ", ".join(f"v{i}" for i in range(len(names)))
    # One term for all types, which is as exact as one for each: no type's name is the start of another's.
    types = joined("||", (f"typeof(v{i})" for i in range(len(names))))
    return (
        f"SELECT {values}, sum(side) AS surplus FROM ("
        f"SELECT {aliased}, 1 AS side FROM {new} AS t WHERE {where} UNION ALL "
        f"SELECT {aliased}, -1 FROM {old} AS t WHERE {where}) GROUP BY {values}, {types} HAVING sum(side) <> 0"
    )
