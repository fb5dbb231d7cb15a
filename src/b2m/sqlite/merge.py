"""Replay: the rows that one side changed, carried onto another version by a three-way merge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from b2m.errors import CannotReplay, Conflict, VerifyFailed
from b2m.sqlite.apply import Applier
from b2m.sqlite.connect import explained, open_private, open_shared
from b2m.sqlite.decide import MAX_LISTED, Plan, RowConflict, conflict_rows, decide, settled_rows
from b2m.sqlite.diff import Counts, counters
from b2m.sqlite.foreign import ForeignKey, Unchecked, Violation, foreign_keys, suspects, violations_in
from b2m.sqlite.live import LiveFile
from b2m.sqlite.pairing import attach_spool
from b2m.sqlite.rules import Rule, Rules, check_deletes
from b2m.sqlite.schema import Entry, Schema, Table, folded, read_schema
from b2m.sqlite.snapshot import discard
from b2m.sqlite.spool import Spool, collect

__all__ = ["Replay", "Rule", "Rules", "check_deletes", "replay"]


@dataclass(frozen=True)
class Replay:
    """What a replay did to the candidate.

    `counts` are rows really changed, by table; `identical` were there already; `merged` are rows whose columns came
    from both sides; `resolved` counts conflicts settled by each rule, `settled` are the
    first of those rows; `data_version` is the state of live consumed; `sequences` names tables whose AUTOINCREMENT
    counter moved in the candidate, with rows or without.
    """

    counts: Mapping[str, Counts]
    identical: int = 0
    merged: int = 0
    resolved: Mapping[str, int] = field(default_factory=dict)
    settled: tuple[RowConflict, ...] = ()
    data_version: int | None = None
    sequences: tuple[str, ...] = ()

    @property
    def total(self) -> Counts:
        """The sum over all tables."""
        return sum(self.counts.values(), Counts())


def replay(
    db: str,
    base: Path,
    ours: Path | LiveFile,
    onto: Path,
    rules: Rules,
    *,
    forward: Path | None = None,
    tables: set[str] | None = None,
    shared: bool = False,
    about_to: Callable[[int], None] | None = None,
    cut_off: int | None = None,
) -> Replay:
    """Apply what changed from `base` to `ours` onto the file `onto`, all or nothing.

    `forward`, a file with the same rows as `base` (often `base` itself), is moved on to the state of `ours`, so that
    the next replay can start there. `shared`: others use `onto`, so this is one durable transaction among theirs.
    If this raises, `onto` is as it was, unless it was done already and only `forward` failed: throw both away.
    `tables` limits which tables are looked at. `about_to` is called right before `onto` is committed, with the number
    of changes that stood there already; if that happened and nobody knows how it ended, `cut_off` is that number, and
    `onto` is left alone if more of the changes stand there now.

    Raises Conflict (with a list `conflicts`), CannotReplay, TooManyDeletes, Unreadable.
    """
    path = onto.with_name(f"{onto.name}.changes")
    discard(path)
    try:
        spool = collect(db, base, ours, path, rules, tables)
        done = _apply(db, spool, onto, rules, shared=shared, about_to=about_to, cut_off=cut_off)
        if forward is not None and (spool.tables or spool.sequences):
            moved = _apply(db, spool, forward, Rules(), verbatim=True)
            if moved.identical or moved.total != sum((each.counts for each in spool.tables), Counts()):
                what = "it did not hold the state that the changes start from"
                raise VerifyFailed(db=db, file=forward.name, what=what)
        return done
    finally:
        discard(path)


def _apply(
    db: str,
    spool: Spool,
    target: Path,
    rules: Rules,
    *,
    shared: bool = False,
    verbatim: bool = False,
    about_to: Callable[[int], None] | None = None,
    cut_off: int | None = None,
) -> Replay:
    if not spool.tables and not spool.sequences:
        return Replay({}, data_version=spool.data_version)
    with _writing(db, target, spool, shared) as conn:
        schema = read_schema(conn)
        _same_tables(db, spool, schema, rules)
        plans = [decide(conn, spooled, rules.of(spooled.table.name)) for spooled in spool.tables]
        already = sum(plan.identical for plan in plans)
        if cut_off is not None and already > cut_off:
            return Replay({}, identical=already, data_version=spool.data_version)
        _refuse_conflicts(db, [row for plan in plans for row in _listed(conn, plan, schema, rules)], plans)
        settled = [row for plan in plans if plan.resolved for row in settled_rows(conn, plan, schema.encoding)]
        before = counters(conn, "main")
        counts = _carry_out(db, conn, plans, schema)
        known = {name: value for name, value in spool.sequences.items() if name in schema.tables}
        _set_sequences(conn, known, verbatim)
        resolved: dict[str, int] = {}
        for plan in plans:
            if plan.resolved:
                rule = rules.of(plan.spooled.table.name).on_conflict
                resolved[rule] = resolved.get(rule, 0) + plan.resolved
        if about_to is not None:
            about_to(already)
        return Replay(
            counts={name: each for name, each in counts.items() if each.total},
            identical=already,
            merged=sum(plan.merged for plan in plans),
            resolved=resolved,
            settled=tuple(settled),
            data_version=spool.data_version,
            sequences=tuple(name for name, value in counters(conn, "main").items() if value != before.get(name)),
        )


@contextmanager
def _writing(db: str, target: Path, spool: Spool, shared: bool) -> Iterator[apsw.Connection]:
    """Open a file for the merge: one transaction, no triggers, no foreign key actions."""
    conn = open_shared(target, db) if shared else open_private(target, db)
    try:
        with explained(db, target):
            conn.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            # Must come before BEGIN: inside a transaction it does nothing.
            conn.pragma("foreign_keys", False)
            attach_spool(conn, spool.path)
            conn.execute("BEGIN IMMEDIATE")
            yield conn
            conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        conn.close()


def _same_tables(db: str, spool: Spool, schema: Schema, rules: Rules) -> None:
    if schema.encoding != spool.schema.encoding:
        raise CannotReplay(db=db, what="the newer version has another text encoding")
    for spooled in spool.tables:
        found = schema.tables.get(spooled.table.name)
        if found is None:
            raise CannotReplay(db=db, what=f"{spooled.table.name} has changed rows, but the newer version dropped it")
        if found != spooled.table:
            what = f"{spooled.table.name} has changed rows, and the newer version declares it otherwise"
            raise CannotReplay(db=db, what=what)
        # What these would have made of the rows, an index for a search perhaps, would be missing.
        added = _triggers_on(found.name, schema) - _triggers_on(found.name, spool.schema)
        if added and not rules.any_triggers:
            first = min(each.name for each in added)
            what = f"{found.name} has changed rows, and the newer version has another trigger on it, {first}"
            raise CannotReplay(db=db, what=what)


def _triggers_on(table: str, schema: Schema) -> set[Entry]:
    return {entry for entry in schema.triggers.values() if folded(entry.table) == folded(table)}


def _listed(conn: apsw.Connection, plan: Plan, schema: Schema, rules: Rules) -> list[RowConflict]:
    rule = rules.of(plan.spooled.table.name)
    return conflict_rows(conn, plan, schema.encoding, rule) if plan.conflicts else []


def _refuse_conflicts(db: str, listed: list[RowConflict], plans: list[Plan]) -> None:
    count = sum(plan.conflicts for plan in plans)
    if count:
        raise conflict(db, count, listed)


def conflict(db: str, count: int, listed: list[RowConflict]) -> Conflict:
    """Make the refusal that carries its rows as `conflicts` (at most 100)."""
    error = Conflict(db=db, count=count, first=str(listed[0]))
    error.conflicts = tuple(listed[:MAX_LISTED])
    return error


def _carry_out(db: str, conn: apsw.Connection, plans: list[Plan], schema: Schema) -> dict[str, Counts]:
    appliers = [Applier(conn, plan, db, schema.encoding) for plan in plans]
    for applier in appliers:
        applier.prepare()
    conn.execute("SAVEPOINT merge")
    counts = _apply_all(db, appliers)
    keys = foreign_keys(conn, schema)
    tables = suspects(conn, keys, plans, schema)
    if tables:
        _refuse_new_violations(db, conn, [schema.tables[name] for name in tables], keys, schema)
        counts = _apply_all(db, appliers)
    conn.execute("RELEASE merge")
    return counts


def _apply_all(db: str, appliers: list[Applier]) -> dict[str, Counts]:
    counts = {applier.table.name: applier.apply() for applier in appliers}
    refused = [row for applier in appliers for row in applier.refused]
    if refused:
        raise conflict(db, len(refused), refused)
    return counts


def _refuse_new_violations(
    db: str, conn: apsw.Connection, tables: list[Table], keys: list[ForeignKey], schema: Schema
) -> None:
    """Compare whole tables with how they were before; leaves the changes undone. Rare, so it may be slow."""
    try:
        after = _tally(violations_in(conn, tables, keys, schema))
        conn.execute("ROLLBACK TO merge")
        before = _tally(violations_in(conn, tables, keys, schema))
    except Unchecked as error:
        raise CannotReplay(db=db, what=error) from None
    new = [each for each, times in after.items() if times > before.get(each, 0)]
    if new:
        raise conflict(db, len(new), [_orphaned(each) for each in new[:MAX_LISTED]])


def _orphaned(found: Violation) -> RowConflict:
    detail = f"its row in {found.parent} is gone"
    key, columns = (found.key, found.columns) if found.columns else ((found.rowid,), ("rowid",))
    return RowConflict(found.table, key, "foreign key", columns, detail=detail)


def _tally(found: Iterator[Violation]) -> dict[Violation, int]:
    counted: dict[Violation, int] = {}
    for each in found:
        counted[each] = counted.get(each, 0) + 1
    return counted


def _set_sequences(conn: apsw.Connection, values: Mapping[str, int | None], verbatim: bool) -> None:
    """Let AUTOINCREMENT go on from the larger counter: an id that one side gave away is never given again."""
    for name, value in values.items():
        if verbatim:
            conn.execute("DELETE FROM main.sqlite_sequence WHERE name = ?", (name,))
        if value is None:
            continue
        conn.execute("UPDATE main.sqlite_sequence SET seq = max(coalesce(seq, 0), ?) WHERE name = ?", (value, name))
        if conn.changes() == 0:
            conn.execute("INSERT INTO main.sqlite_sequence(name, seq) VALUES (?, ?)", (name, value))
