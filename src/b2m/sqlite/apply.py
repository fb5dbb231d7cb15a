"""Carrying out a plan: deletions, updates, insertions of one table, each row checked and counted."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from b2m.errors import CannotReplay, VerifyFailed
from b2m.sqlite.connect import quote_name
from b2m.sqlite.decide import MAX_LISTED, Plan, RowConflict, refused_row
from b2m.sqlite.diff import Counts
from b2m.sqlite.rowsql import column, match, qualified
from b2m.sqlite.schema import Table

_CLASHES = {
    apsw.SQLITE_CONSTRAINT_UNIQUE,
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY,
    apsw.SQLITE_CONSTRAINT_ROWID,
}


class Applier:
    """Applies one plan to the database that `conn` has as main, inside the caller's transaction.

    Every statement says OR ABORT, so that a column declared ON CONFLICT REPLACE or IGNORE cannot drop a row silently.
    """

    def __init__(self, conn: apsw.Connection, plan: Plan, db: str, encoding: str) -> None:
        self.conn, self.plan, self.db, self.encoding = conn, plan, db, encoding
        self.refused: list[RowConflict] = []
        table = plan.spooled.table
        names = table.values
        target = qualified("main", table.name)
        stored = [names.index(name) for name in table.key]
        by_id = f"(SELECT {{}} FROM {plan.place} WHERE id = ?1)"
        key = match(((quote_name(names[i]), by_id.format(f"c{i}")) for i in stored), table.key_collations)
        joined = match(((column("t", names[i]), f"p.c{i}") for i in stored), table.key_collations)
        final = ", ".join(f"f{i}" for i in range(len(names)))
        into = ", ".join(quote_name(name) for name in names)
        assign = ", ".join(f"{quote_name(name)} = p.f{i}" for i, name in enumerate(names))
        self._delete = f"DELETE FROM {target} WHERE {key}"
        self._update = f"UPDATE OR ABORT {target} AS t SET {assign} FROM {plan.place} AS p WHERE p.id = ?1 AND {joined}"
        self._insert = f"INSERT OR ABORT INTO {target}({into}) SELECT {final} FROM {plan.place} WHERE id = ?1"
        self._insert_again = self._insert
        if table.rowid_name:
            # A row that is moved out of the way and back keeps its rowid: an FTS index may refer to it.
            self._insert_again = (
                f"INSERT OR ABORT INTO {target}({table.rowid_name}, {into}) "
                f"SELECT rid, {final} FROM {plan.place} WHERE id = ?1"
            )

    @property
    def table(self) -> Table:
        """The table that is changed."""
        return self.plan.spooled.table

    def prepare(self) -> None:
        """Raise CannotReplay if the table needs a function, collation or module that is not loaded."""
        for sql in (self._delete, self._update, self._insert):
            try:
                self.conn.execute(f"EXPLAIN {sql}", (0,)).fetchall()
            except apsw.SQLError as error:
                raise CannotReplay(db=self.db, what=f"{self.table.name} cannot be written ({error})") from error

    def apply(self) -> Counts:
        """Change the rows; those that a constraint refuses are in `refused`."""
        deleted = sum(self._one(self._delete, number) for number in self._planned("delete"))
        updated = self._update_all()
        inserted = sum(self._attempt(self._insert, number) for number in self._planned("insert"))
        return Counts(inserted, updated, deleted)

    def _planned(self, act: str) -> Iterator[int]:
        for (number,) in self.conn.execute(f"SELECT id FROM {self.plan.place} WHERE act = ? ORDER BY id", (act,)):
            yield int(str(number))

    def _update_all(self) -> int:
        """Update row by row; rows that wait for each other's UNIQUE values are taken out and put in again."""
        done, waiting = 0, []
        for number in self._planned("update"):
            try:
                done += self._one(self._update, number)
            except apsw.ConstraintError as error:
                if getattr(error, "extendedresult", 0) in _CLASHES:
                    waiting.append(number)
                else:
                    self._refuse(number, error)
        for number in waiting:
            self._one(self._delete, number)
        return done + sum(self._attempt(self._insert_again, number) for number in waiting)

    def _attempt(self, sql: str, number: int) -> int:
        try:
            return self._one(sql, number)
        except apsw.ConstraintError as error:
            self._refuse(number, error)
            return 0

    def _one(self, sql: str, number: int) -> int:
        self.conn.execute(sql, (number,))
        if self.conn.changes() != 1:
            what = f"a change of {self.table.name} met {self.conn.changes()} rows instead of one"
            raise VerifyFailed(db=self.db, file="candidate", what=what)
        return 1

    def _refuse(self, number: int, error: apsw.ConstraintError) -> None:
        if len(self.refused) < MAX_LISTED:
            self.refused.append(refused_row(self.conn, self.plan, self.encoding, number, str(error)))
