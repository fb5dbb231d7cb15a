from __future__ import annotations

import pytest

from b2m.errors import Conflict
from b2m.sqlite.diff import Counts
from b2m.sqlite.merge import Rule, Rules
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import query
from tests.sqlite.three import T, Three


def test_columns_from_both_sides_make_one_row(make: Make) -> None:
    three = Three(make, *T)
    done = three.merge("UPDATE t SET a = 'ours' WHERE id = 1", "UPDATE t SET b = 'theirs' WHERE id = 1")
    assert three.rows("SELECT a, b FROM t WHERE id = 1") == [("ours", "theirs")]
    assert (done.counts, done.merged, done.identical) == ({"t": Counts(updated=1)}, 1, 0)


def test_the_same_change_on_both_sides_is_there_already(make: Make) -> None:
    three = Three(make, *T)
    change = "UPDATE t SET a = 'x' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 1, 1)"
    done = three.merge(change, change)
    assert (done.counts, done.identical) == ({}, 3)
    assert three.untouched()


def test_a_change_that_others_made_as_part_of_theirs_is_there_already(make: Make) -> None:
    three = Three(make, *T)
    done = three.merge("UPDATE t SET a = 'x' WHERE id = 1", "UPDATE t SET a = 'x', b = 'y' WHERE id = 1")
    assert (done.counts, done.identical, done.merged) == ({}, 1, 0)
    assert three.untouched()


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "text"),
    [
        (
            "UPDATE t SET a = 'ours' WHERE id = 1",
            "UPDATE t SET a = 'theirs' WHERE id = 1",
            "update/update",
            "t[id=1]: ours a='ours', theirs a='theirs'",
        ),
        (
            "UPDATE t SET a = 1 WHERE id = 1",
            "UPDATE t SET a = 1.0 WHERE id = 1",
            "update/update",
            "t[id=1]: ours the same value of another type, theirs the same value of another type",
        ),
        (
            "INSERT INTO t VALUES (3, 1, 1)",
            "INSERT INTO t VALUES (3, 2, 1)",
            "insert/insert",
            "t[id=3]: ours a=1, theirs a=2",
        ),
        (
            "UPDATE t SET a = 'ours' WHERE id = 1",
            "DELETE FROM t WHERE id = 1",
            "update/delete",
            "t[id=1]: ours changed it, theirs deleted it",
        ),
        (
            "DELETE FROM t WHERE id = 1",
            "UPDATE t SET a = 'theirs' WHERE id = 1",
            "delete/update",
            "t[id=1]: ours deleted it, theirs changed it",
        ),
    ],
)
class TestConflicts:
    def test_fail_names_the_row_and_changes_nothing(
        self, make: Make, ours: str, theirs: str, kind: str, text: str
    ) -> None:
        three = Three(make, *T)
        with pytest.raises(Conflict) as caught:
            three.merge(f"{ours}; UPDATE t SET b = 'fine' WHERE id = 2", theirs)
        (row,) = caught.value.conflicts
        assert getattr(row, "kind", "") == kind
        assert str(row) == text
        assert text in str(caught.value)
        assert three.untouched()

    def test_ours_takes_the_whole_row(self, make: Make, ours: str, theirs: str, kind: str, text: str) -> None:
        three = Three(make, *T)
        done = three.merge(ours, theirs, Rules(Rule("ours")))
        assert done.resolved == {"ours": 1}
        assert three.rows("SELECT * FROM t") == query(three.ours, "SELECT * FROM t")

    def test_theirs_keeps_the_candidate(self, make: Make, ours: str, theirs: str, kind: str, text: str) -> None:
        three = Three(make, *T)
        done = three.merge(ours, theirs, Rules(tables={"t": Rule("theirs")}))
        assert (done.resolved, done.counts) == ({"theirs": 1}, {})
        assert three.rows("SELECT * FROM t") == query(three.head, "SELECT * FROM t")


@pytest.mark.parametrize(
    ("our_b", "their_b", "winner"),
    [("2", "1", "ours"), ("1", "2", "theirs"), ("'a'", "9", "ours"), ("9.5", "10", "theirs")],
)
def test_newest_compares_as_sqlite_does(make: Make, our_b: str, their_b: str, winner: str) -> None:
    three = Three(make, *T)
    done = three.merge(
        f"UPDATE t SET a = 'ours', b = {our_b} WHERE id = 1",
        f"UPDATE t SET a = 'theirs', b = {their_b} WHERE id = 1",
        Rules(Rule("newest", by="b")),
    )
    assert three.rows("SELECT a FROM t WHERE id = 1") == [(winner,)]
    assert done.resolved == {"newest": 1}


EQUAL = "newest cannot decide: b is the same on both sides, or NULL"
GONE = "newest cannot compare with a row that is gone"


@pytest.mark.parametrize(
    ("ours", "theirs", "by", "why"),
    [
        ("UPDATE t SET a = 'ours', b = 5", "UPDATE t SET a = 'theirs', b = 5", "b", EQUAL),
        ("UPDATE t SET a = 'ours', b = NULL", "UPDATE t SET a = 'theirs', b = 5", "b", EQUAL),
        ("UPDATE t SET a = 'ours', b = 5", "UPDATE t SET a = 'theirs', b = 6", "no_such", "there is no column no_such"),
        ("UPDATE t SET a = 'ours', b = 5", "UPDATE t SET a = 'theirs', b = 6", None, "there is no column None"),
        ("UPDATE t SET a = 'ours', b = 5", "DELETE FROM t", "b", GONE),
        ("DELETE FROM t", "UPDATE t SET a = 'theirs', b = 5", "b", GONE),
    ],
    ids=["tie", "null", "no column", "no by", "deleted there", "deleted here"],
)
def test_newest_without_proof_stays_a_conflict(make: Make, ours: str, theirs: str, by: str | None, why: str) -> None:
    three = Three(make, *T)
    with pytest.raises(Conflict, match=f"2 rows.*{why}"):
        three.merge(ours, theirs, Rules(Rule("newest", by=by)))
    assert three.untouched()


def test_conflicts_are_all_counted_and_a_hundred_listed(make: Make) -> None:
    fill = "WITH RECURSIVE r(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM r WHERE i < 260) SELECT i, 0, 0 FROM r"
    three = Three(make, *T, f"INSERT INTO t {fill}")
    with pytest.raises(Conflict, match="253 rows were changed on both sides") as caught:
        three.merge("UPDATE t SET a = 'ours'", "UPDATE t SET a = 'theirs'")
    assert len(caught.value.conflicts) == 100
