from __future__ import annotations

from pathlib import Path

import pytest

from b2m.errors import TooManyDeletes
from b2m.sqlite.diff import compare
from b2m.sqlite.live import LiveFile
from b2m.sqlite.merge import Rules, check_deletes, replay
from b2m.sqlite.pages import changed_tables, changed_tables_live
from b2m.sqlite.snapshot import snapshot
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider

FILL = (
    "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 3000) "
    "SELECT i, hex(randomblob(40)) FROM r"
)
START = (
    "CREATE TABLE a(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE b(id INTEGER PRIMARY KEY, v)",
    "CREATE INDEX bi ON b(v)",
    "CREATE TABLE c(k TEXT, v, PRIMARY KEY (k)) WITHOUT ROWID",
    *(f"INSERT INTO {table} {FILL}" for table in "abc"),
)


@pytest.fixture
def base(make: Make) -> Path:
    return make("base", *START)


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ("UPDATE a SET v = 'x' WHERE id = 1500", {"a"}),
        ("UPDATE b SET v = 'x' WHERE id = 1500", {"b"}),
        ("UPDATE c SET v = 'x' WHERE k = '1500'", {"c"}),
        ("INSERT INTO a VALUES (9000, zeroblob(100000))", {"a"}),
        ("DELETE FROM a", {"a"}),
        ("DELETE FROM a WHERE id > 100", {"a"}),
        ("PRAGMA user_version = 5", set()),
        ("PRAGMA journal_mode = WAL", set()),
        ("PRAGMA application_id = 5", set()),
    ],
)
def test_only_touched_tables_are_named(base: Path, make: Make, change: str, tables: set[str]) -> None:
    new = make("new", change, copy=base)
    assert changed_tables(base, new) == tables
    assert changed_tables(new, base) == tables


def test_the_same_file_and_a_backup_are_equal(base: Path, tmp_path: Path) -> None:
    assert changed_tables(base, base) == set()
    with LiveFile(base, "ipm") as live:
        snapshot(live, tmp_path / "copy.db")
    assert changed_tables(base, tmp_path / "copy.db") == set()


def test_a_trigger_that_is_called_as_another_table_hides_nothing(make: Make) -> None:
    """Tables and triggers have names of their own; such a trigger once made changed rows look like another table's."""
    trigger = "CREATE TRIGGER audit AFTER INSERT ON users BEGIN INSERT INTO audit VALUES (NULL, new.id); END"
    tables = ("CREATE TABLE users(id INTEGER PRIMARY KEY)", "CREATE TABLE audit(id INTEGER PRIMARY KEY, who)")
    base = make("base", *tables, "INSERT INTO users VALUES (1)", "INSERT INTO audit VALUES (1, 1)", trigger)
    new = make("new", "INSERT INTO audit VALUES (5, 7)", copy=base)
    assert changed_tables(base, new) == {"audit"}
    with LiveFile(new, "ipm") as live:
        assert compare(base, live).tables["audit"].inserted == 1
    onto = make("onto", "INSERT INTO users VALUES (2)", copy=base)
    with LiveFile(new, "ipm") as live:
        assert replay("ipm", base, live, onto, Rules()).counts["audit"].inserted == 1


def test_a_dropped_table_is_named_though_its_pages_stay_as_they_were(make: Make) -> None:
    """Its pages go to the free list, and with room there none of them is written."""
    fill = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {}) SELECT i, {} FROM r"
    base = make(
        "base",
        "CREATE TABLE junk(id INTEGER PRIMARY KEY, v)",
        f"INSERT INTO junk {fill.format(2000, 'zeroblob(900)')}",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        f"INSERT INTO t {fill.format(20_000, 'i')}",
        "DROP TABLE junk",
    )
    new = make("new", "DROP TABLE t", copy=base)
    found = compare(base, new)
    assert found.tables["t"].deleted == 20_000
    with pytest.raises(TooManyDeletes):
        check_deletes("ipm", found, Rules())


@pytest.mark.parametrize("vacuum", ["full", "none"])
def test_a_dropped_table_is_named_though_its_copy_takes_its_place(make: Make, vacuum: str) -> None:
    fill = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 50) SELECT i, i FROM r"
    made = [
        each
        for name in "dz"
        for each in (f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, v)", f"INSERT INTO {name} {fill}")
    ]
    base = make("base", f"PRAGMA auto_vacuum = {vacuum}", *made)
    new = make("new", "DROP TABLE d", *(["VACUUM"] if vacuum == "none" else []), copy=base)
    assert compare(base, new).tables["d"].deleted == 50


@pytest.mark.parametrize("hides", ["CREATE TABLE DBStat(id INTEGER PRIMARY KEY)", "CREATE VIEW dbstat AS SELECT 1"])
def test_a_table_that_hides_sqlites_own_hides_no_change(make: Make, hides: str) -> None:
    base = make("base", *START, hides)
    new = make("new", "UPDATE a SET v = 'x' WHERE id = 1500", copy=base)
    assert compare(base, new).tables["a"].updated == 1
    with LiveFile(new, "ipm") as live:
        assert compare(base, live).tables["a"].updated == 1


def test_a_schema_change_is_named_as_such(base: Path, make: Make) -> None:
    found = changed_tables(base, make("new", "CREATE TABLE d(a)", "DROP INDEX bi", copy=base))
    assert found is not None
    assert "sqlite_schema" in found


def test_tables_that_changed_places_are_named_though_their_pages_are_equal(make: Make) -> None:
    start = ("CREATE TABLE a(id INTEGER PRIMARY KEY, v)", "CREATE TABLE b(id INTEGER PRIMARY KEY, v)")
    rows = ("INSERT INTO a VALUES (1, 'a')", "INSERT INTO b VALUES (1, 'b')")
    base = make("base", *start, *rows)
    new = make(
        "new",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET rootpage = 5 - rootpage WHERE name IN ('a', 'b')",
        copy=base,
    )
    assert changed_tables(base, new) == {"sqlite_schema", "a", "b"}


def test_another_page_size_or_encoding_or_no_database_cannot_be_said(base: Path, make: Make, tmp_path: Path) -> None:
    assert changed_tables(base, make("new", "PRAGMA page_size = 8192", "VACUUM", copy=base)) is None
    assert changed_tables(base, make("wide", "PRAGMA encoding = 'UTF-16le'", *START)) is None
    (tmp_path / "text").write_text("text")
    assert changed_tables(base, tmp_path / "text") is None


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_live_is_compared_by_pages_once_its_wal_is_written_back(make: Make, mode: str) -> None:
    path = make("live", f"PRAGMA journal_mode = {mode}", *START)
    with LiveFile(path, "ipm") as live, Outsider(path) as server:
        base = snapshot(live, path.parent / "ours.db").path
        assert changed_tables_live(base, live) == set()
        server("UPDATE b SET v = 'x' WHERE id = 7")
        assert changed_tables_live(base, live) == (None if mode == "wal" else {"b"})
        server("PRAGMA wal_checkpoint(PASSIVE)")
        assert changed_tables_live(base, live) == {"b"}
        server("DELETE FROM a WHERE id > 10")
        server("PRAGMA wal_checkpoint(TRUNCATE)")
        assert changed_tables_live(base, live) == {"a", "b"}


def test_looking_at_live_pages_keeps_our_locks(make: Make) -> None:
    path = make("live", *START)
    with LiveFile(path, "ipm") as live, Outsider(path) as server:
        base = snapshot(live, path.parent / "ours.db").path
        with live.reading():
            assert changed_tables_live(base, live) == set()
            with pytest.raises(Exception, match="locked"):
                server("BEGIN EXCLUSIVE")


def test_a_shrunk_file_names_what_it_lost(base: Path, make: Make) -> None:
    new = make("new", "DELETE FROM c", "VACUUM", copy=base)
    assert new.stat().st_size < base.stat().st_size
    found = changed_tables(base, new)
    assert found is not None
    assert "c" in found
