from __future__ import annotations

import pytest

from b2m.errors import CannotReplay, Conflict, VerifyFailed
from b2m.sqlite.diff import Counts, compare
from b2m.sqlite.merge import Rule, Rules
from b2m.sqlite.rules import OnConflict
from b2m.sqlite.verify import check_foreign_keys
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import query
from tests.sqlite.three import T, Three


class TestUniqueValues:
    START = (
        "CREATE TABLE u(id INTEGER PRIMARY KEY, v UNIQUE)",
        "INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )

    @pytest.mark.parametrize(
        "ours",
        [
            "UPDATE u SET v = 'x' WHERE id = 1; UPDATE u SET v = 'a' WHERE id = 2; UPDATE u SET v = 'b' WHERE id = 1",
            "UPDATE u SET v = id; UPDATE u SET v = 'b' WHERE id = 1; UPDATE u SET v = 'c' WHERE id = 2; "
            "UPDATE u SET v = 'a' WHERE id = 3",
            "UPDATE u SET v = 'z' WHERE id = 2; UPDATE u SET v = 'b' WHERE id = 1",
            "DELETE FROM u WHERE id = 1; INSERT INTO u VALUES (4, 'a')",
            "DELETE FROM u WHERE id = 1; UPDATE u SET v = 'a' WHERE id = 3",
            "UPDATE u SET v = 'z' WHERE id = 1; INSERT INTO u VALUES (4, 'a')",
        ],
        ids=["swap", "ring", "chain", "reused by insert", "reused by update", "freed for insert"],
    )
    def test_may_move_between_rows(self, make: Make, ours: str) -> None:
        three = Three(make, *self.START)
        done = three.merge(ours, "INSERT INTO u VALUES (9, 'theirs')")
        wanted = [*query(three.ours, "SELECT id, v FROM u"), (9, "theirs")]
        assert three.rows("SELECT id, v FROM u ORDER BY id") == sorted(wanted)
        assert done.total == compare(three.head, three.candidate).counts

    @pytest.mark.parametrize("ours", ["INSERT INTO u VALUES (4, 'new')", "UPDATE u SET v = 'new' WHERE id = 1"])
    @pytest.mark.parametrize("rule", ["fail", "ours", "theirs"])
    def test_taken_by_another_row_are_a_conflict_under_any_rule(self, make: Make, ours: str, rule: OnConflict) -> None:
        three = Three(make, *self.START)
        with pytest.raises(Conflict, match=r"u\[id=[14]\]: UNIQUE constraint failed: u\.v"):
            three.merge(ours, "INSERT INTO u VALUES (9, 'new')", Rules(Rule(rule)))
        assert three.untouched()

    @pytest.mark.parametrize("clause", ["REPLACE", "IGNORE", "FAIL", "ROLLBACK"])
    def test_a_declared_conflict_clause_loses_no_row(self, make: Make, clause: str) -> None:
        three = Three(make, f"CREATE TABLE u(id INTEGER PRIMARY KEY, v UNIQUE ON CONFLICT {clause})")
        with pytest.raises(Conflict, match="UNIQUE constraint failed"):
            three.merge("INSERT INTO u VALUES (1, 'new')", "INSERT INTO u VALUES (9, 'new')")
        assert three.untouched()

    def test_rows_taken_out_and_put_back_keep_their_rowid(self, make: Make) -> None:
        three = Three(
            make,
            "CREATE TABLE u(k TEXT PRIMARY KEY NOT NULL, v UNIQUE)",
            "INSERT INTO u(rowid, k, v) VALUES (70, 'p', 'a'), (80, 'q', 'b')",
        )
        three.merge(
            "UPDATE u SET v = 'x' WHERE k = 'p'; UPDATE u SET v = 'a' WHERE k = 'q'; UPDATE u SET v = 'b' WHERE k = 'p'"
        )
        assert three.rows("SELECT rowid, k, v FROM u ORDER BY k") == [(70, "p", "b"), (80, "q", "a")]


class TestConstraints:
    def test_a_check_that_the_merged_row_breaks_is_a_conflict(self, make: Make) -> None:
        three = Three(
            make, "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, CHECK (a + b < 10))", "INSERT INTO t VALUES (1, 4, 4)"
        )
        with pytest.raises(Conflict, match="CHECK constraint failed"):
            three.merge("UPDATE t SET a = 5", "UPDATE t SET b = 5")
        assert three.untouched()

    def test_generated_columns_are_made_anew(self, make: Make) -> None:
        three = Three(
            make,
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, v AS (a || b), s AS (a || b) STORED)",
            "INSERT INTO t(id, a, b) VALUES (1, 'a', 'b')",
        )
        three.merge("UPDATE t SET a = 'A'; INSERT INTO t(id, a, b) VALUES (2, 'p', 'q')", "UPDATE t SET b = 'B'")
        assert three.rows("SELECT v, s FROM t") == [("AB", "AB"), ("pq", "pq")]

    def test_strict_tables_keep_their_types(self, make: Make) -> None:
        three = Three(make, "CREATE TABLE t(id INTEGER PRIMARY KEY, r REAL, x ANY) STRICT")
        three.merge("INSERT INTO t VALUES (1, 1.0, '1'), (2, 2, 2.0)")
        assert three.rows("SELECT typeof(r), typeof(x) FROM t") == [("real", "text"), ("real", "real")]

    def test_triggers_do_not_fire(self, make: Make) -> None:
        three = Three(
            make,
            *T,
            "CREATE TABLE log(id INTEGER PRIMARY KEY, what)",
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log(what) VALUES (new.a); END",
        )
        done = three.merge("INSERT INTO t VALUES (3, 'x', 'y')")
        assert three.rows("SELECT what FROM log") == [("x",)]
        assert done.counts == {"log": Counts(inserted=1), "t": Counts(inserted=1)}

    def test_autoincrement_goes_on_from_the_larger_counter(self, make: Make) -> None:
        three = Three(make, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)", "INSERT INTO t(a) VALUES (1)")
        done = three.merge("INSERT INTO t VALUES (50, 1); DELETE FROM t WHERE id = 50", "INSERT INTO t VALUES (20, 2)")
        assert three.rows("SELECT seq FROM sqlite_sequence WHERE name = 't'") == [(50,)]
        assert (done.counts, done.sequences) == ({}, ("t",))
        done = three.merge("INSERT INTO t VALUES (50, 1); DELETE FROM t WHERE id = 50", "INSERT INTO t VALUES (90, 2)")
        assert three.rows("SELECT seq FROM sqlite_sequence WHERE name = 't'") == [(90,)]
        assert (done.counts, done.sequences) == ({}, ())

    def test_values_pass_through_whatever_they_contain(self, make: Make) -> None:
        three = Three(make, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)")
        odd = (
            "INSERT INTO t VALUES (1, 'it''s ? :x'), (2, CAST(x'ff00fe' AS TEXT)), (3, 'a' || char(0) || 'b'), "
            "(4, char(128578))"
        )
        three.merge(odd)
        assert three.rows("SELECT hex(a), length(a) FROM t") == query(three.ours, "SELECT hex(a), length(a) FROM t")

    @pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
    def test_other_text_encodings_merge_too(self, make: Make, encoding: str) -> None:
        three = Three(make, f"PRAGMA encoding = '{encoding}'", *T)
        three.merge("UPDATE t SET a = 'Zoë' WHERE id = 1", "UPDATE t SET b = 'ß' WHERE id = 1")
        assert three.rows("SELECT a, b FROM t WHERE id = 1") == [("Zoë", "ß")]


class TestForeignKeys:
    START = (
        "CREATE TABLE parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE)",
        "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE, c REFERENCES parent(code))",
        "INSERT INTO parent VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO child VALUES (10, 1, 'one')",
    )

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("INSERT INTO child VALUES (11, 2, NULL)", "DELETE FROM parent WHERE id = 2"),
            ("UPDATE child SET p = 2", "DELETE FROM parent WHERE id = 2"),
            ("DELETE FROM parent WHERE id = 2", "INSERT INTO child VALUES (11, 2, NULL)"),
            ("UPDATE parent SET code = 'TWO' WHERE id = 2", "INSERT INTO child VALUES (11, NULL, 'two')"),
        ],
        ids=["child inserted", "child moved", "parent deleted", "parent renamed"],
    )
    def test_a_child_without_parent_is_a_conflict(self, make: Make, ours: str, theirs: str) -> None:
        three = Three(make, *self.START)
        with pytest.raises(Conflict, match=r"child\[rowid=\d+\]: its row in parent is gone"):
            three.merge(ours, theirs)
        assert three.untouched()

    def test_no_cascade_runs(self, make: Make) -> None:
        three = Three(make, *self.START)
        # Moving the value between two rows makes the merge take the parent out and put it in again.
        three.merge(
            "UPDATE parent SET code = 'x' WHERE id = 1; UPDATE parent SET code = 'one' WHERE id = 2; "
            "UPDATE parent SET code = 'two' WHERE id = 1"
        )
        assert three.rows("SELECT * FROM child") == [(10, 1, "one")]
        assert three.rows("SELECT * FROM parent") == [(1, "two"), (2, "one")]

    def test_violations_that_were_there_before_do_not_matter(self, make: Make) -> None:
        three = Three(make, *self.START, "INSERT INTO child VALUES (12, 77, NULL)")
        three.merge("UPDATE child SET c = 'two' WHERE id = 12; INSERT INTO child VALUES (13, 2, 'two')")
        assert three.rows("SELECT id, p, c FROM child") == [(10, 1, "one"), (12, 77, "two"), (13, 2, "two")]

    def test_parents_and_children_that_come_together_are_fine(self, make: Make) -> None:
        three = Three(make, *self.START)
        done = three.merge("INSERT INTO child VALUES (11, 3, 'three'); INSERT INTO parent VALUES (3, 'three')")
        assert done.total == Counts(inserted=2)

    @pytest.mark.parametrize(
        ("start", "ours", "theirs"),
        [
            (
                "CREATE TABLE p(n TEXT PRIMARY KEY COLLATE NOCASE); CREATE TABLE c(id INTEGER PRIMARY KEY, "
                "r TEXT REFERENCES p); INSERT INTO p VALUES ('a'), ('b')",
                "DELETE FROM p WHERE n = 'a'",
                "INSERT INTO c VALUES (1, 'A')",
            ),
            (
                "CREATE TABLE p(n TEXT PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, r INTEGER REFERENCES p); "
                "INSERT INTO p VALUES ('01'), ('1')",
                "DELETE FROM p WHERE n = '1'",
                "INSERT INTO c VALUES (1, 1)",
            ),
            (
                "CREATE TABLE p(n INTEGER PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, r REFERENCES p); "
                "INSERT INTO p VALUES (1), (2)",
                "DELETE FROM p WHERE n = 1",
                "INSERT INTO c VALUES (1, '1')",
            ),
            (
                "CREATE TABLE p(n INTEGER PRIMARY KEY); CREATE TABLE c(k TEXT PRIMARY KEY, r INT REFERENCES p) "
                "WITHOUT ROWID; INSERT INTO p VALUES (1); INSERT INTO c VALUES ('old', 77)",
                "DELETE FROM c WHERE k = 'old'; INSERT INTO c VALUES ('new', 1)",
                "DELETE FROM p",
            ),
            (
                'CREATE TABLE "Ä"(n INTEGER PRIMARY KEY); CREATE TABLE "ä"(n INTEGER PRIMARY KEY); '
                'CREATE TABLE c(id INTEGER PRIMARY KEY, r INT REFERENCES "Ä"); INSERT INTO "Ä" VALUES (1); '
                'INSERT INTO "ä" VALUES (1)',
                'DELETE FROM "Ä"',
                "INSERT INTO c VALUES (1, 1)",
            ),
        ],
        ids=["a collation", "a text as number", "a number as text", "rows without rowid", "letters beyond ASCII"],
    )
    def test_a_parent_is_what_sqlite_takes_for_one(self, make: Make, start: str, ours: str, theirs: str) -> None:
        three = Three(make, *start.split("; "))
        with pytest.raises(Conflict, match=r"its row in . is gone"):
            three.merge(ours, theirs)
        assert three.untouched()

    @pytest.mark.parametrize("to", ["gone", "gone(id)"])
    @pytest.mark.parametrize("kind", ["", "WITHOUT ROWID"])
    def test_a_parent_table_that_never_was_stands_in_no_way_of_other_rows(self, make: Make, to: str, kind: str) -> None:
        child = f"CREATE TABLE c(k TEXT PRIMARY KEY, v, g REFERENCES {to}) {kind}"
        three = Three(make, child, "INSERT INTO c VALUES ('a', 1, 1)")
        three.merge("UPDATE c SET v = 2; INSERT INTO c VALUES ('b', 1, NULL)")
        assert three.rows("SELECT * FROM c ORDER BY k") == [("a", 2, 1), ("b", 1, None)]
        with pytest.raises(Conflict, match="its row in gone is gone"):
            three.merge("INSERT INTO c VALUES ('c', 1, 7)")

    @pytest.mark.parametrize("to", ["a", "no"], ids=["not unique", "no such column"])
    def test_keys_that_sqlite_cannot_check_are_refused(self, make: Make, to: str) -> None:
        three = Three(make, "CREATE TABLE p(a)", f"CREATE TABLE c(id INTEGER PRIMARY KEY, r REFERENCES p({to}))")
        with pytest.raises(CannotReplay, match=r"its foreign keys cannot be checked: .*foreign key mismatch"):
            three.merge("INSERT INTO c VALUES (1, 1)")
        with pytest.raises(VerifyFailed, match=r"its foreign keys cannot be checked: .*foreign key mismatch"):
            check_foreign_keys(three.base)
