"""Tables of as many columns as SQLite allows."""

from __future__ import annotations

import pytest

from b2m.errors import Conflict
from b2m.sqlite.decide import RowConflict
from b2m.sqlite.diff import Counts, compare, rows
from b2m.sqlite.merge import Rule, Rules
from b2m.sqlite.spool import MAX_COLUMNS
from b2m.sqlite.verify import verify_rows
from tests.sqlite.conftest import Make
from tests.sqlite.three import Three


def wide(width: int, key: str = "INTEGER PRIMARY KEY") -> tuple[str, str]:
    """A table of so many columns, c0 being its key, with two rows of zeros but for the key."""
    names = ", ".join(f"c{i}" for i in range(1, width))
    zeros = ", ".join(["0"] * (width - 1))
    return f"CREATE TABLE w(c0 {key}, {names})", f"INSERT INTO w VALUES (1, {zeros}), (2, {zeros})"


@pytest.mark.parametrize("width", [350, MAX_COLUMNS])
class TestMerge:
    def test_a_conflict_is_told_with_the_values_of_all_sides(self, make: Make, width: int) -> None:
        three = Three(make, *wide(width))
        last = f"c{width - 1}"
        with pytest.raises(Conflict) as caught:
            three.merge(f"UPDATE w SET {last} = 'ours' WHERE c0 = 2", f"UPDATE w SET {last} = 5")
        (row,) = caught.value.conflicts
        assert isinstance(row, RowConflict)
        assert str(row) == f"w[c0=2]: ours {last}='ours', theirs {last}=5"
        assert [side and side[-1] for side in (row.base, row.ours, row.theirs)] == [0, "ours", 5]
        assert three.untouched()

    def test_columns_of_both_sides_are_merged_settled_and_proven(self, make: Make, width: int) -> None:
        three = Three(make, *wide(width))
        last = f"c{width - 1}"
        done = three.merge(f"UPDATE w SET {last} = 'ours'", "UPDATE w SET c1 = 'theirs'")
        assert done.merged == 2
        assert three.rows(f"SELECT c1, {last} FROM w") == [("theirs", "ours")] * 2
        verify_rows(three.base, three.ours, three.head, three.candidate)
        done = three.merge(f"UPDATE w SET {last} = 'ours'", f"UPDATE w SET {last} = 5", Rules(Rule("ours")))
        assert (done.resolved, len(done.settled)) == ({"ours": 2}, 2)
        verify_rows(three.base, three.ours, three.head, three.candidate, resolved_ok=True)


@pytest.mark.parametrize("width", [600, 1100, 2000])
@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "TEXT COLLATE NOCASE PRIMARY KEY NOT NULL"])
def test_rows_of_a_keyed_table_are_compared_and_shown(make: Make, width: int, key: str) -> None:
    base = make("base", *wide(width, key))
    last = width - 1
    row = f"SELECT 3, {', '.join(['0'] * last)}"
    new = make(
        "new",
        f"UPDATE w SET c{last} = 0.0 WHERE c0 = 2",
        "DELETE FROM w WHERE c0 = 1",
        f"INSERT INTO w {row}",
        copy=base,
    )
    assert compare(base, new).tables == {"w": Counts(inserted=1, updated=1, deleted=1)}
    shown = list(rows(base, new, "w"))
    assert sorted(each.kind for each in shown) == ["delete", "insert", "update"]
    (updated,) = (each for each in shown if each.kind == "update")
    assert updated.old is not None
    assert updated.new is not None
    assert (len(updated.old), len(updated.new)) == (width, width)
    assert (str(updated.old[-1]), str(updated.new[-1])) == ("0", "0.0")


@pytest.mark.parametrize("width", [1100, 1999])
def test_rows_of_a_table_without_key_are_compared_and_shown(make: Make, width: int) -> None:
    base = make("base", *wide(width, key=""))
    new = make("new", f"UPDATE w SET c{width - 1} = 0.0 WHERE c0 = 2", copy=base)
    assert compare(base, new).tables == {"w": Counts(inserted=1, deleted=1)}
    shown = {each.kind: each for each in rows(base, new, "w")}
    old, now = shown["delete"].old, shown["insert"].new
    assert old is not None
    assert now is not None
    assert (old[:-1], str(old[-1]), str(now[-1])) == (now[:-1], "0", "0.0")


def test_each_row_of_a_very_wide_table_is_put_together_from_its_own_values(make: Make) -> None:
    width = 1999
    start, _ = wide(width, "TEXT PRIMARY KEY")
    base = make("base", start)
    filled = (f"INSERT INTO w VALUES ('{key}', {', '.join([str(key)] * (width - 1))})" for key in (3, 1, 2))
    new = make("new", *filled, "CREATE TABLE spare(a)", "DROP TABLE spare", copy=base)
    assert [each.new for each in rows(base, new, "w")] == [(str(key), *[key] * (width - 1)) for key in (1, 2, 3)]
    assert [each.old for each in rows(new, base, "w")] == [(str(key), *[key] * (width - 1)) for key in (1, 2, 3)]


@pytest.mark.parametrize(("width", "key"), [(2000, "INTEGER PRIMARY KEY"), (1999, "")])
def test_a_very_wide_table_that_others_changed_is_proven_to_be_as_they_have_it(
    make: Make, width: int, key: str
) -> None:
    three = Three(make, *wide(width, key), "CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "INSERT INTO t VALUES (1, 1)")
    done = three.merge("UPDATE t SET a = 'ours'", "UPDATE w SET c1 = 'theirs'")
    assert done.counts == {"t": Counts(updated=1)}
    # Of another page size, the candidate has to be looked at whole.
    candidate = make("other", "PRAGMA page_size = 16384", "VACUUM", copy=three.candidate)
    verify_rows(three.base, three.ours, three.head, candidate)
