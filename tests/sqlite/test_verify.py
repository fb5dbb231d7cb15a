from __future__ import annotations

from pathlib import Path

import pytest

from b2m.errors import Unreadable, VerifyFailed
from b2m.sqlite.merge import Rule, Rules, replay
from b2m.sqlite.rules import OnConflict
from b2m.sqlite.verify import check_foreign_keys, check_integrity, verify_rows
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import build

START = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)",
    "CREATE TABLE n(k TEXT COLLATE NOCASE PRIMARY KEY, v)",
    "CREATE TABLE loose(a)",
    "INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', 'd'), (3, 'e', 'f'), (4, 'g', 'h')",
    "INSERT INTO n VALUES ('x', 1), (NULL, 1)",
    "INSERT INTO loose VALUES (1), (1)",
)
OURS = (
    "UPDATE t SET a = 'ours' WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
    "INSERT INTO t VALUES (10, 'ours', 1)",
    "UPDATE n SET k = 'X'",
)
THEIRS = (
    "UPDATE t SET b = 'theirs' WHERE id = 1",
    "DELETE FROM t WHERE id = 3",
    "INSERT INTO t VALUES (20, 'theirs', 1)",
)


Four = tuple[Path, Path, Path, Path]


@pytest.fixture
def four(make: Make) -> Four:
    base = make("base", *START)
    ours = make("ours", *OURS[:3], "UPDATE n SET k = 'X' WHERE k = 'x'", copy=base)
    head = make("head", *THEIRS, "INSERT INTO loose VALUES (2)", copy=base)
    candidate = make("candidate", copy=head)
    replay("ipm", base, ours, candidate, Rules())
    return base, ours, head, candidate


def test_a_right_merge_passes(four: Four) -> None:
    verify_rows(*four)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("DELETE FROM t WHERE id = 4", "t[id=4] is not what both sides made of it"),
        ("DELETE FROM t WHERE id = 10", "t[id=10]"),
        ("DELETE FROM t WHERE id = 20", "t[id=20]"),
        ("INSERT INTO t VALUES (2, 'c', 'd')", "t[id=2]"),
        ("INSERT INTO t VALUES (3, 'e', 'f')", "t[id=3]"),
        ("INSERT INTO t VALUES (99, 1, 1)", "t[id=99]"),
        ("UPDATE t SET a = 'a' WHERE id = 1", "t[id=1]"),
        ("UPDATE t SET b = 'b' WHERE id = 1", "t[id=1]"),
        ("UPDATE t SET b = 1.0 WHERE id = 10", "t[id=10]"),
        ("UPDATE n SET k = 'x' WHERE k = 'X'", "n[k='X']"),
        ("INSERT INTO n VALUES (NULL, 1)", "rows of n are not those of the newest version"),
        ("DELETE FROM loose WHERE rowid = 1", "rows of loose are not those of the newest version"),
        ("CREATE INDEX i ON t(a)", "its schema is not the newest version's: index i added"),
    ],
)
def test_any_row_that_is_wrong_is_found(four: Four, damage: str, what: str) -> None:
    build(four[3], damage)
    with pytest.raises(VerifyFailed) as caught:
        verify_rows(*four, db="ipm")
    assert str(caught.value).startswith("ipm: candidate.db failed verification: ")
    assert what.lower() in str(caught.value).lower()


@pytest.mark.parametrize("rule", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("UPDATE t SET a = 1 WHERE id = 1", "UPDATE t SET a = 2, b = 2 WHERE id = 1"),
        ("UPDATE t SET a = 1 WHERE id = 1", "DELETE FROM t WHERE id = 1"),
        ("DELETE FROM t WHERE id = 1", "UPDATE t SET a = 2 WHERE id = 1"),
        ("INSERT INTO t VALUES (5, 1, 1)", "INSERT INTO t VALUES (5, 2, 2)"),
    ],
)
def test_rows_settled_by_a_rule_pass_only_when_a_rule_settled_them(
    make: Make, ours: str, theirs: str, rule: OnConflict
) -> None:
    base = make("base", *START)
    files = base, make("ours", ours, copy=base), make("head", theirs, copy=base)
    candidate = make("candidate", copy=files[2])
    replay("ipm", base, files[1], candidate, Rules(Rule(rule)))
    verify_rows(*files, candidate, True)
    with pytest.raises(VerifyFailed):
        verify_rows(*files, candidate, False)
    build(candidate, "INSERT OR REPLACE INTO t VALUES (1, 'neither', 'side')")
    with pytest.raises(VerifyFailed):
        verify_rows(*files, candidate, True)


def test_a_missing_file_is_refused(four: Four) -> None:
    four[1].unlink()
    with pytest.raises(Unreadable, match=r"ours\.db: No such file or directory"):
        verify_rows(*four)


def test_a_sound_file_has_no_problems(four: Four) -> None:
    assert check_integrity(four[3]) == []
    assert check_integrity(four[3], quick=True) == []
    assert check_foreign_keys(four[3]) == []


def test_a_broken_index_is_found_by_the_full_check_only(make: Make) -> None:
    path = make("a", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE INDEX i ON t(v)")
    build(path, "PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE name = 'i'")
    build(path, "INSERT INTO t VALUES (1, 6)")
    build(
        path,
        "PRAGMA writable_schema = ON",
        "INSERT INTO sqlite_schema VALUES ('index', 'i', 't', 3, 'CREATE INDEX i ON t(v)')",
    )
    assert "row 1 missing from index i" in check_integrity(path)


def test_damaged_pages_are_reported(make: Make) -> None:
    path = make("a", "CREATE TABLE t(v)", "INSERT INTO t VALUES (zeroblob(20000))")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    assert check_integrity(path) != []


def test_orphans_are_listed_up_to_a_hundred(make: Make) -> None:
    path = make(
        "a",
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p)",
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 150) "
        "INSERT INTO c SELECT i, i FROM r",
    )
    found = check_foreign_keys(path)
    assert len(found) == 100
    assert (found[0].table, found[0].rowid, found[0].parent) == ("c", 1, "p")
