from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from b2m.errors import CannotReplay, TooManyDeletes
from b2m.sqlite.diff import Changes, Counts
from b2m.sqlite.merge import Rules, check_deletes, replay
from tests.sqlite.conftest import Make
from tests.sqlite.three import T, Three


class TestRefusals:
    @pytest.mark.parametrize(
        ("start", "ours", "theirs", "what"),
        [
            ("SELECT 1", "ALTER TABLE t ADD COLUMN more", "SELECT 1", "the schema changed (table t changed)"),
            ("SELECT 1", "CREATE TABLE added(a)", "SELECT 1", "the schema changed (table added added)"),
            (
                "SELECT 1",
                "UPDATE t SET a = 'x'",
                "ALTER TABLE t ADD COLUMN more",
                "t has changed rows, and the newer version declares it otherwise",
            ),
            (
                "SELECT 1",
                "UPDATE t SET a = 'x'",
                "ALTER TABLE t RENAME TO was_t",
                "t has changed rows, but the newer version dropped it",
            ),
            ("CREATE TABLE k(a)", "INSERT INTO k VALUES (1)", "SELECT 1", "k changed, and it has no primary key"),
            (
                "CREATE TABLE k(a TEXT PRIMARY KEY, b)",
                "INSERT INTO k VALUES (NULL, 1)",
                "SELECT 1",
                "rows of k with NULL in the primary key changed",
            ),
            (
                "CREATE VIRTUAL TABLE docs USING fts5(body)",
                "INSERT INTO docs VALUES ('x')",
                "SELECT 1",
                "the virtual table docs changed",
            ),
        ],
    )
    def test_name_what_stands_in_the_way(self, make: Make, start: str, ours: str, theirs: str, what: str) -> None:
        three = Three(make, *T, start)
        with pytest.raises(CannotReplay) as caught:
            three.merge(ours, theirs)
        assert str(caught.value) == f"ipm: {what}; b2m cannot replay that yet, so nothing was changed"
        assert three.untouched()

    def test_name_a_trigger_that_has_not_seen_the_rows(self, make: Make) -> None:
        """An index for a search, kept by triggers that the newer version brought, would lack the rows for ever."""
        three = Three(make, *T)
        index = "CREATE VIRTUAL TABLE found USING fts5(a, content='t', content_rowid='id')"
        trigger = "CREATE TRIGGER seen AFTER INSERT ON {} BEGIN INSERT INTO found(rowid, a) VALUES (new.id, new.a)"
        made = [index, trigger.format("T") + "; END"]
        ours = make("ours", "INSERT INTO t VALUES (3, 'x', 'y')", copy=three.base)
        onto = make("onto", *made, copy=three.base)
        with pytest.raises(
            CannotReplay, match="t has changed rows, and the newer version has another trigger on it, seen"
        ):
            replay("ipm", three.base, ours, onto, Rules())
        with_it = make("with it", *made, copy=three.base)
        ours = make("ours with it", "INSERT INTO t VALUES (3, 'x', 'y')", copy=with_it)
        onto = make("without it", "DROP TRIGGER seen", copy=with_it)
        with pytest.raises(CannotReplay, match="the virtual table found changed"):
            replay("ipm", with_it, ours, onto, Rules())

    def test_a_trigger_that_the_newer_version_dropped_stands_in_no_way(self, make: Make) -> None:
        trigger = "CREATE TRIGGER seen AFTER INSERT ON t BEGIN INSERT INTO log(what) VALUES (new.a); END"
        base = make("base", *T, "CREATE TABLE log(id INTEGER PRIMARY KEY, what)", trigger)
        ours = make("ours", "INSERT INTO t VALUES (3, 'x', 'y')", copy=base)
        onto = make("onto", "DROP TRIGGER seen", copy=base)
        assert replay("ipm", base, ours, onto, Rules()).total == Counts(inserted=2)

    @pytest.mark.parametrize(
        "start", ["CREATE TABLE k(a)", "CREATE TABLE k(a TEXT PRIMARY KEY)", "CREATE VIRTUAL TABLE k USING fts5(a)"]
    )
    def test_what_did_not_change_stands_in_no_way(self, make: Make, start: str) -> None:
        three = Three(make, *T, start, "INSERT INTO k VALUES (NULL)", "INSERT INTO k VALUES ('x')")
        three.merge("UPDATE t SET a = 'ours' WHERE id = 1", "INSERT INTO k VALUES ('theirs')")
        assert three.rows("SELECT count(*) FROM k") == [(3,)]

    def test_a_missing_function_is_named(self, make: Make, tmp_path: Path) -> None:
        conn = apsw.Connection(str(tmp_path / "base.db"))
        conn.create_scalar_function("german", german, 1, deterministic=True)
        conn.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t(german(a))")
        conn.close()
        for name in ("ours", "candidate"):
            conn = apsw.Connection(str(make(name, copy=tmp_path / "base.db")))
            conn.create_scalar_function("german", german, 1, deterministic=True)
            if name == "ours":
                conn.execute("INSERT INTO t VALUES (1, 'x')")
            conn.close()
        with pytest.raises(CannotReplay, match=r"t cannot be written \(.*german"):
            replay("ipm", tmp_path / "base.db", tmp_path / "ours.db", tmp_path / "candidate.db", Rules())

    def test_another_schema_version_of_the_application_is_a_schema_change(self, make: Make) -> None:
        three = Three(make, *T)
        with pytest.raises(CannotReplay, match="user_version 0 -> 3"):
            three.merge("PRAGMA user_version = 3")


def german(*values: apsw.SQLiteValue) -> apsw.SQLiteValue:
    return values[0]


class TestDeletions:
    def start(self, make: Make, rows: int) -> Three:
        fill = f"WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {rows}) SELECT i FROM r"
        return Three(make, "CREATE TABLE t(id INTEGER PRIMARY KEY)", f"INSERT INTO t {fill}")

    @pytest.mark.parametrize(
        ("rows", "deleted", "limit"), [(30, 11, 10), (500, 51, 50), (20_000, 1001, 1000), (11, 11, 10)]
    )
    def test_more_than_the_limit_are_refused(self, make: Make, rows: int, deleted: int, limit: int) -> None:
        three = self.start(make, rows)
        with pytest.raises(TooManyDeletes) as caught:
            three.merge(f"DELETE FROM t WHERE id <= {deleted}")
        assert f"{deleted} of {rows} rows of t are gone" in str(caught.value)
        assert f"({limit})" in str(caught.value)
        assert three.untouched()

    @pytest.mark.parametrize(("rows", "deleted"), [(30, 10), (500, 50), (20_000, 1000), (8, 8)])
    def test_up_to_the_limit_are_believed(self, make: Make, rows: int, deleted: int) -> None:
        done = self.start(make, rows).merge(f"DELETE FROM t WHERE id <= {deleted}")
        assert done.total == Counts(deleted=deleted)

    def test_the_rules_may_say_otherwise(self, make: Make) -> None:
        three = self.start(make, 100)
        three.merge("DELETE FROM t", rules=Rules(max_deletes_share=1.0))
        assert three.rows("SELECT count(*) FROM t") == [(0,)]
        with pytest.raises(TooManyDeletes):
            three.merge("DELETE FROM t WHERE id = 1", rules=Rules(max_deletes_rows=0))

    def test_changes_can_be_judged_without_a_replay(self) -> None:
        gone = Changes({"t": Counts(deleted=11)}, base_rows={"t": 30})
        with pytest.raises(TooManyDeletes):
            check_deletes("ipm", gone, Rules())
        check_deletes("ipm", Changes({"t": Counts(deleted=10)}, base_rows={"t": 30}), Rules())
