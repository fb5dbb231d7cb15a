"""The three-way decision for each changed row: base (b), ours (o), candidate (c), and what the row becomes (f).

All of it is one INSERT ... SELECT for a table: the plan lies beside the change list, on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import apsw

from b2m.sqlite.rowsql import all_same, column, joined, match, qualified, same
from b2m.sqlite.rules import Rule
from b2m.sqlite.spool import Spooled
from b2m.sqlite.values import Value, decode, encodings, read, shown

MAX_LISTED = 100


@dataclass(frozen=True)
class RowConflict:
    """One row that both sides changed, or that cannot be stored; None where a side has no such row."""

    table: str
    key: tuple[Value, ...]
    kind: str
    columns: tuple[str, ...]
    base: tuple[Value, ...] | None = None
    ours: tuple[Value, ...] | None = None
    theirs: tuple[Value, ...] | None = None
    detail: str = ""
    undecided: str = ""  # why the table's rule could not settle it

    @property
    def where(self) -> str:
        """The row by its key, as ``episodes[id=2]``."""
        return f"{self.table}[{', '.join(self.columns[: len(self.key)]) or 'row'}={shown(self.key)}]"

    def __str__(self) -> str:
        if self.detail:
            return f"{self.where}: {self.detail}"
        why = f" ({self.undecided})" if self.undecided else ""
        return f"{self.where}: ours {self._side(self.ours)}, theirs {self._side(self.theirs)}{why}"

    def _side(self, row: tuple[Value, ...] | None) -> str:
        if row is None:
            return "deleted it"
        other = self.theirs if row is self.ours else self.ours
        if other is None:
            return "changed it"
        pairs = zip(self.columns[len(self.key) :], row, other, strict=True)
        apart = [f"{name}={shown((value,))}" for name, value, against in pairs if value != against]
        return " ".join(apart[:3]) or "the same value of another type"


@dataclass(frozen=True)
class Plan:
    """What is to be done to one table: `place` is its plan, row by row, in the scratch database."""

    spooled: Spooled
    place: str
    identical: int
    merged: int
    resolved: int
    conflicts: int


class _Sides:
    """SQL names of the values of each side, for one table."""

    def __init__(self, spooled: Spooled) -> None:
        self.table = spooled.table
        names = self.table.values
        self.width = range(len(names))
        self.b = [f"s.b{i}" for i in self.width]
        self.o = [f"s.o{i}" for i in self.width]
        self.c = [column("c", name) for name in names]
        self.key = [names.index(name) for name in self.table.key]
        self.gone = f"{self.c[self.key[0]]} IS NULL"

    def join(self) -> str:
        spooled_key = (f"iif(s.op = 'insert', {self.o[i]}, {self.b[i]})" for i in self.key)
        pairs = zip((self.c[i] for i in self.key), spooled_key, strict=True)
        return match(pairs, self.table.key_collations)


def decide(conn: apsw.Connection, spooled: Spooled, rule: Rule) -> Plan:
    """Plan the changes of one table against the database that `conn` has as main; nothing in it is changed yet."""
    place = f"{spooled.place}_plan"
    sides = _Sides(spooled)
    conn.execute(f"DROP TABLE IF EXISTS {place}")
    conn.execute(_create(place, sides))
    conn.execute(_fill(place, spooled, sides))
    resolved = _resolve(conn, place, spooled, rule)
    row = conn.execute(
        f"SELECT count(*) FILTER (WHERE act = 'none' AND rule IS NULL), total(merged), "
        f"count(*) FILTER (WHERE act = 'conflict') FROM {place}"
    ).fetchone()
    assert row is not None
    identical, merged, conflicts = (int(float(str(value))) for value in row)
    return Plan(spooled, place, identical, merged, resolved, conflicts)


def _create(place: str, sides: _Sides) -> str:
    stored = ", ".join(f"{side}{i}" for side in "cf" for i in sides.width)
    return f"CREATE TABLE {place}(id INTEGER PRIMARY KEY, op, act, rule, merged, there, rid, {stored})"


def _fill(place: str, spooled: Spooled, sides: _Sides) -> str:
    b, o, c = sides.b, sides.o, sides.c
    same_co = all_same(zip(c, o, strict=True))
    same_cb = all_same(zip(c, b, strict=True))
    # Nothing to do if each column that ours changed is so already, whatever else theirs changed.
    done = joined("AND", (f"({same(o[i], b[i])} OR {same(c[i], o[i])})" for i in sides.width))
    # A column is in conflict if ours changed it, theirs changed it, and not to the same value.
    settled = (f"{same(o[i], b[i])} OR {same(c[i], b[i])} OR {same(c[i], o[i])}" for i in sides.width)
    clash = joined("OR", (f"NOT ({each})" for each in settled))
    act = (
        f"CASE WHEN {sides.gone} THEN CASE s.op WHEN 'insert' THEN 'insert' WHEN 'delete' THEN 'none' "
        f"ELSE 'conflict' END "
        f"WHEN s.op = 'insert' THEN iif({same_co}, 'none', 'conflict') "
        f"WHEN s.op = 'delete' THEN iif({same_cb}, 'delete', 'conflict') "
        f"WHEN {done} THEN 'none' WHEN {clash} THEN 'conflict' ELSE 'update' END"
    )
    merged = f"s.op = 'update' AND NOT ({sides.gone}) AND NOT {same_cb} AND NOT ({done}) AND NOT ({clash})"
    final = [f"iif(s.op = 'update' AND NOT ({sides.gone}) AND {same(o[i], b[i])}, {c[i]}, {o[i]})" for i in sides.width]
    hidden = sides.table.rowid_name
    rid = f"c.{hidden}" if hidden else "NULL"
    return (
        f"INSERT INTO {place} SELECT s.id, s.op, {act}, NULL, {merged}, NOT ({sides.gone}), {rid}, "
        f"{', '.join(c)}, {', '.join(final)} FROM {spooled.place} AS s "
        f"LEFT JOIN {qualified('main', sides.table.name)} AS c ON {sides.join()}"
    )


def _resolve(conn: apsw.Connection, place: str, spooled: Spooled, rule: Rule) -> int:
    """Settle conflicts by the rule, whole rows at a time: a mix of two versions that clash would be nobody's."""
    names = spooled.table.values
    if rule.on_conflict == "fail":
        return 0
    if rule.on_conflict == "newest":
        if rule.by not in names:
            return 0
        number = names.index(rule.by)
        # Both rows must exist. A tie or a NULL proves nothing, so that stays a conflict.
        both = "p.act = 'conflict' AND p.there AND p.op <> 'delete'"
        newer = f"{both} AND s.o{number} > p.c{number} COLLATE BINARY"
        older = f"{both} AND s.o{number} < p.c{number} COLLATE BINARY"
        return _take_ours(conn, place, spooled, newer) + _keep_theirs(conn, place, spooled, older)
    settle = _take_ours if rule.on_conflict == "ours" else _keep_theirs
    return settle(conn, place, spooled, "p.act = 'conflict'")


def _take_ours(conn: apsw.Connection, place: str, spooled: Spooled, where: str) -> int:
    final = ", ".join(f"f{i} = s.o{i}" for i in range(len(spooled.table.values)))
    conn.execute(
        f"UPDATE {place} AS p SET rule = 'ours', act = CASE WHEN p.op = 'delete' THEN 'delete' "
        f"WHEN p.there THEN 'update' ELSE 'insert' END, {final} "
        f"FROM {spooled.place} AS s WHERE s.id = p.id AND {where}"
    )
    return conn.changes()


def _keep_theirs(conn: apsw.Connection, place: str, spooled: Spooled, where: str) -> int:
    conn.execute(
        f"UPDATE {place} AS p SET rule = 'theirs', act = 'none' FROM {spooled.place} AS s WHERE s.id = p.id AND {where}"
    )
    return conn.changes()


def conflict_rows(
    conn: apsw.Connection, plan: Plan, encoding: str, rule: Rule, limit: int = MAX_LISTED
) -> list[RowConflict]:
    """List a plan's conflicts with the three versions of each row, and why the table's rule did not settle it."""
    found = _read(conn, plan, encoding, f"p.act = 'conflict' ORDER BY p.id LIMIT {limit}", "")
    return [replace(row, undecided=_undecided(row, rule)) for row in found]


def _undecided(row: RowConflict, rule: Rule) -> str:
    if rule.on_conflict != "newest":
        return ""
    if row.ours is None or row.theirs is None:
        return "newest cannot compare with a row that is gone"
    if rule.by not in row.columns:
        return f"newest cannot decide: there is no column {rule.by}"
    return f"newest cannot decide: {rule.by} is the same on both sides, or NULL"


def settled_rows(conn: apsw.Connection, plan: Plan, encoding: str, limit: int = 3) -> list[RowConflict]:
    """List the first conflicts of a plan that its table's rule settled."""
    return _read(conn, plan, encoding, f"p.rule IS NOT NULL ORDER BY p.id LIMIT {limit}", "")


def refused_row(conn: apsw.Connection, plan: Plan, encoding: str, number: int, detail: str) -> RowConflict:
    """Describe the row of a plan that the database did not accept."""
    return _read(conn, plan, encoding, f"p.id = {number}", detail)[0]


def _read(conn: apsw.Connection, plan: Plan, encoding: str, where: str, detail: str) -> list[RowConflict]:
    table, size = plan.spooled.table, len(plan.spooled.table.values)
    sides = (("s", "b"), ("s", "o"), ("p", "c"))
    parts = [part for alias, side in sides for part in encodings(alias, [f"{side}{i}" for i in range(size)])]
    source = f"FROM {plan.place} AS p JOIN {plan.spooled.place} AS s USING (id) WHERE {where}"
    found = []
    for op, there, *values in read(conn, ["p.op", "p.there", *parts], source, ""):
        row = decode(values, encoding)
        base = row[:size] if op != "insert" else None
        ours = row[size : 2 * size] if op != "delete" else None
        theirs = row[2 * size :] if there else None
        keyed = ours or base or ()
        key = tuple(keyed[table.values.index(name)] for name in table.key)
        kind = f"{op!s}/{'delete' if theirs is None else 'insert' if base is None else 'update'}"
        found.append(RowConflict(table.name, key, kind, table.key + table.values, base, ours, theirs, detail))
    return found
