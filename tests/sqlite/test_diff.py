from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from b2m.errors import CannotReplay
from b2m.sqlite.connect import open_static
from b2m.sqlite.diff import Counts, compare, rows
from b2m.sqlite.live import LiveFile
from b2m.sqlite.pairing import paired
from b2m.sqlite.schema import read_schema
from b2m.sqlite.snapshot import snapshot
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider

EVERYTHING = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b COLLATE NOCASE)",
    "CREATE TABLE n(k TEXT COLLATE NOCASE PRIMARY KEY, v)",
    "CREATE TABLE pair(x, y, v, PRIMARY KEY (x, y)) WITHOUT ROWID",
    "CREATE TABLE loose(a, b)",
    "CREATE TABLE made(id INTEGER PRIMARY KEY, a, v AS (a + 1), s AS (a * 2) STORED)",
    "CREATE VIRTUAL TABLE docs USING fts5(body)",
    "INSERT INTO t(a, b) VALUES (1, 'x'), (NULL, 'y')",
    "INSERT INTO n VALUES ('one', 1), (NULL, 1), (NULL, 1)",
    "INSERT INTO pair VALUES ('p', 1, 1)",
    "INSERT INTO loose VALUES (1, 2), (1, 2), (1, NULL)",
    "INSERT INTO made(id, a) VALUES (1, 1)",
    "INSERT INTO docs VALUES ('hello')",
)


@pytest.fixture
def base(make: Make) -> Path:
    return make("base", *EVERYTHING)


@pytest.mark.parametrize(
    ("change", "table", "counts"),
    [
        ("UPDATE t SET a = 1.0 WHERE id = 1", "t", Counts(updated=1)),
        ("UPDATE t SET a = '1' WHERE id = 1", "t", Counts(updated=1)),
        ("UPDATE t SET a = x'31' WHERE id = 1", "t", Counts(updated=1)),
        ("UPDATE t SET a = 0 WHERE a IS NULL", "t", Counts(updated=1)),
        ("UPDATE t SET a = NULL WHERE id = 1", "t", Counts(updated=1)),
        ("UPDATE t SET b = 'X' WHERE id = 1", "t", Counts(updated=1)),
        ("DELETE FROM t WHERE id = 1", "t", Counts(deleted=1)),
        ("UPDATE t SET id = 9 WHERE id = 2", "t", Counts(inserted=1, deleted=1)),
        ("UPDATE n SET k = 'ONE' WHERE k = 'one'", "n", Counts(updated=1)),
        ("INSERT INTO n VALUES (NULL, 1)", "n", Counts(inserted=1)),
        ("UPDATE n SET v = 2 WHERE rowid = 2", "n", Counts(inserted=1, deleted=1)),
        ("UPDATE n SET k = 'two' WHERE rowid = 3", "n", Counts(inserted=1, deleted=1)),
        ("UPDATE pair SET x = 'P'", "pair", Counts(inserted=1, deleted=1)),
        ("UPDATE pair SET v = 1.0", "pair", Counts(updated=1)),
        ("INSERT INTO loose VALUES (1, 2)", "loose", Counts(inserted=1)),
        ("DELETE FROM loose WHERE rowid = 1", "loose", Counts(deleted=1)),
        ("UPDATE loose SET b = 2.0 WHERE rowid = 1", "loose", Counts(inserted=1, deleted=1)),
        ("UPDATE made SET a = 2", "made", Counts(updated=1)),
    ],
)
def test_rows_are_compared_exactly(base: Path, make: Make, change: str, table: str, counts: Counts) -> None:
    new = make("new", change, copy=base)
    found = compare(base, new)
    assert found.tables == {table: counts}
    assert found.dirty
    assert found.counts == counts
    assert not found.schema_changed
    # Rows one by one say the same.
    listed = list(rows(base, new, table))
    kinds = [row.kind for row in listed]
    assert Counts(kinds.count("insert"), kinds.count("update"), kinds.count("delete")) == counts
    assert len(list(rows(base, new, table, 1))) == 1
    # Nothing depends on which pages differ.
    assert compare(base, new, tables={"t", "n", "pair", "loose", "made"}) == found


@pytest.mark.parametrize(
    "harmless",
    [
        ("VACUUM",),
        ("ANALYZE",),
        ("PRAGMA journal_mode = WAL",),
        ("REINDEX",),
        ("INSERT INTO n VALUES ('gone', 1)", "DELETE FROM n WHERE k = 'gone'"),
        ("PRAGMA page_size = 8192", "VACUUM"),
        ("UPDATE loose SET rowid = rowid + 100",),
    ],
    ids=lambda statements: statements[0],
)
def test_other_bytes_are_no_change(base: Path, make: Make, harmless: tuple[str, ...]) -> None:
    new = make("new", *harmless, copy=base)
    assert new.read_bytes() != base.read_bytes()
    found = compare(base, new)
    assert not found.dirty
    assert found.tables == {}


def test_a_backup_copy_is_no_change(base: Path, tmp_path: Path) -> None:
    with LiveFile(base, "ipm") as live:
        snapshot(live, tmp_path / "copy.db")
    assert not compare(base, tmp_path / "copy.db").dirty


def test_a_counter_that_moved_is_dirty_without_rows(base: Path, make: Make) -> None:
    new = make("new", "INSERT INTO t(a) VALUES (3)", "DELETE FROM t WHERE id = 3", copy=base)
    found = compare(base, new)
    assert (found.dirty, found.tables, found.sequences) == (True, {}, ("t",))


@pytest.mark.parametrize(("counter", "moved"), [("2.0", ()), ("100.0", ("t",)), ("'100'", ("t",)), ("'x'", ("t",))])
def test_a_counter_that_somebody_wrote_as_no_integer_is_the_integer_that_sqlite_takes_it_for(
    base: Path, make: Make, counter: str, moved: tuple[str, ...]
) -> None:
    new = make("new", f"UPDATE sqlite_sequence SET seq = {counter} WHERE name = 't'", copy=base)
    with LiveFile(new, "ipm") as live:
        assert compare(base, live).sequences == compare(base, new).sequences == moved


def test_shadow_tables_count_as_their_virtual_table(base: Path, make: Make) -> None:
    new = make("new", "INSERT INTO docs VALUES ('more')", copy=base)
    found = compare(base, new)
    assert list(found.tables) == ["docs"]
    assert "docs_content" in {row.table for row in rows(base, new, "docs")}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ("CREATE TABLE added(a)", "table added added"),
        ("DROP TABLE pair", "table pair removed"),
        ("ALTER TABLE pair ADD COLUMN more DEFAULT 5", "table pair changed"),
        ("CREATE INDEX i ON t(a)", "index i added"),
        ("CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END", "trigger r added"),
        ("CREATE VIEW v AS SELECT 1", "view v added"),
        ("PRAGMA user_version = 7", "user_version 0 -> 7"),
    ],
)
def test_schema_changes_are_named(base: Path, make: Make, change: str, detail: str) -> None:
    found = compare(base, make("new", change, copy=base))
    assert found.schema_changed
    assert found.schema_detail == [detail]


def test_a_new_column_hides_no_changed_row(base: Path, make: Make) -> None:
    new = make("new", "ALTER TABLE t ADD COLUMN more DEFAULT 5", "UPDATE t SET a = 8 WHERE id = 1", copy=base)
    assert compare(base, new).tables == {"t": Counts(updated=1)}


def test_a_table_whose_every_column_has_another_name_is_counted_anew(make: Make) -> None:
    base = make("base", "CREATE TABLE tag(name TEXT PRIMARY KEY)", "INSERT INTO tag VALUES ('a'), ('b')")
    new = make("new", "ALTER TABLE tag RENAME COLUMN name TO label", "INSERT INTO tag VALUES ('c')", copy=base)
    found = compare(base, new)
    assert (found.tables["tag"], found.base_rows["tag"]) == (Counts(inserted=3, deleted=2), 2)
    assert found.schema_changed
    assert list(rows(base, new, "tag")) == []


def test_declarations_in_another_encoding_are_read(make: Make, tmp_path: Path) -> None:
    declared = "CREATE TABLE t(id INTEGER PRIMARY KEY /* gr\u00fc\u00dfe */, v DEFAULT 'gr\u00fc\u00dfe')"
    base = make("base", declared, "INSERT INTO t VALUES (1, 'x')")
    data = base.read_bytes()
    assert data.count("gr\u00fc\u00dfe".encode()) == 2
    (tmp_path / "latin.db").write_bytes(data.replace("gr\u00fc\u00dfe".encode(), b"gr\xfc\xdf  e"))
    assert not compare(tmp_path / "latin.db", make("same", copy=tmp_path / "latin.db")).dirty
    found = compare(base, tmp_path / "latin.db")
    assert found.schema_changed


def test_rows_of_added_and_dropped_tables_are_counted(base: Path, make: Make) -> None:
    new = make("new", "CREATE TABLE added AS SELECT 1 AS a UNION SELECT 2", "DROP TABLE pair", copy=base)
    found = compare(base, new)
    assert found.tables == {"added": Counts(inserted=2), "pair": Counts(deleted=1)}
    assert found.base_rows == {"pair": 1}


def test_base_rows_are_given_where_rows_went(base: Path, make: Make) -> None:
    assert compare(base, make("new", "DELETE FROM loose WHERE b = 2", copy=base)).base_rows == {"loose": 3}


def test_live_is_compared_in_one_state_with_what_is_only_in_its_wal(make: Make) -> None:
    path = make("live", *EVERYTHING, "PRAGMA journal_mode = WAL")
    with LiveFile(path, "ipm") as live, Outsider(path) as server:
        copy = snapshot(live, path.parent / "ours.db").path
        assert not compare(copy, live).dirty
        server("UPDATE t SET a = 7 WHERE id = 1")
        in_wal = compare(copy, live)
        assert in_wal.tables == {"t": Counts(updated=1)}
        assert in_wal.data_version == live.version()
        server("PRAGMA wal_checkpoint(TRUNCATE)")
        assert compare(copy, live) == in_wal
        # A reader that stops half-way leaves nothing attached and nothing pinned.
        assert next(rows(copy, live, "t")).new == (1, 7, "x")
        assert compare(copy, live) == in_wal
        server("BEGIN EXCLUSIVE")
        server("COMMIT")


def test_an_error_amid_a_half_read_statement_is_told_as_it_is_and_the_next_comparison_works(make: Make) -> None:
    path = make("live", *EVERYTHING)
    copy = make("copy", copy=path)
    half_read: list[apsw.Cursor] = []

    def fail_half_way() -> None:
        with paired(copy, live, "ipm") as pair:
            half_read.append(pair.conn.execute(f"SELECT a FROM {pair.old}.t"))
            next(half_read[0])
            raise ValueError("what went wrong")

    with LiveFile(path, "ipm") as live:
        with pytest.raises(ValueError, match="what went wrong"):
            fail_half_way()
        half_read[0].close()
        assert not compare(copy, live).dirty


def test_inside_a_reading_bracket_it_says_so(make: Make) -> None:
    path = make("live", *EVERYTHING)
    with LiveFile(path, "ipm") as live, live.reading(), pytest.raises(RuntimeError, match="outside reading"):
        compare(path, live)


def test_rows_show_both_sides(base: Path, make: Make) -> None:
    new = make("new", "UPDATE n SET k = 'ONE', v = x'00' WHERE k = 'one'", "DELETE FROM pair", copy=base)
    (changed,) = rows(base, new, "n")
    assert (changed.kind, changed.key, changed.old, changed.new) == ("update", ("ONE",), ("one", 1), ("ONE", b"\0"))
    (gone,) = rows(base, new, "pair")
    assert (gone.kind, gone.key, gone.old, gone.new) == ("delete", ("p", 1), ("p", 1, 1), None)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_text_of_any_encoding_even_broken_is_shown(make: Make, encoding: str) -> None:
    start = (f"PRAGMA encoding = '{encoding}'", "CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
    base = make("base", *start)
    new = make("new", "INSERT INTO t VALUES (1, 'Zoë'), (2, CAST(x'ff41ff' AS TEXT))", copy=base)
    good, broken = rows(base, new, "t")
    assert good.new == (1, "Zoë")
    assert broken.new is not None
    assert isinstance(broken.new[1], str)


def test_other_text_encodings_cannot_be_compared(make: Make) -> None:
    one = make("one", "PRAGMA encoding = 'UTF-16le'", "CREATE TABLE t(a)")
    with pytest.raises(CannotReplay, match="text encoding"):
        compare(one, make("two", "CREATE TABLE t(a)"))


def test_a_key_with_an_unknown_collation_is_compared_by_whole_rows(tmp_path: Path) -> None:
    for name, value in (("one", "a"), ("two", "b")):
        conn = apsw.Connection(str(tmp_path / name))
        conn.create_collation("german", lambda left, right: (left > right) - (left < right))
        conn.execute("CREATE TABLE t(k TEXT COLLATE german PRIMARY KEY)")
        conn.execute("INSERT INTO t VALUES ('same'), (?)", (value,))
        conn.close()
    assert compare(tmp_path / "one", tmp_path / "two").tables == {"t": Counts(inserted=1, deleted=1)}


def test_names_with_quotes_and_spaces(make: Make) -> None:
    base = make("base", 'CREATE TABLE "a ""b"" c"("k?" INTEGER PRIMARY KEY, "select" TEXT)')
    new = make("new", 'INSERT INTO "a ""b"" c" VALUES (1, \'it\'\'s ?\')', copy=base)
    assert compare(base, new).tables == {'a "b" c': Counts(inserted=1)}
    assert [row.new for row in rows(base, new, 'a "b" c')] == [(1, "it's ?")]


def test_the_schema_hash_ignores_bookkeeping_but_nothing_else(base: Path, make: Make) -> None:
    def digest(*statements: str) -> str:
        conn = open_static(make("new", *statements, copy=base))
        try:
            return read_schema(conn).hash
        finally:
            conn.close()

    plain = digest()
    assert digest("VACUUM", "ANALYZE", "INSERT INTO t(a) VALUES (1)") == plain
    assert digest("CREATE INDEX i ON t(a)") != plain
    assert digest("CREATE VIEW v AS SELECT 1") != plain
    assert digest("ALTER TABLE t RENAME COLUMN a TO aa") != plain


def test_the_schema_tells_what_a_table_is(base: Path) -> None:
    conn = open_static(base)
    tables = read_schema(conn).tables
    conn.close()
    assert tables["t"].key == ("id",)
    assert tables["t"].integer_key
    assert [column.collation for column in tables["t"].columns] == ["BINARY", "BINARY", "NOCASE"]
    assert tables["n"].key_collations == ("NOCASE",)
    assert tables["n"].nullable_key
    assert tables["pair"].without_rowid
    assert not tables["pair"].nullable_key
    assert tables["loose"].key == ()
    assert tables["made"].values == ("id", "a")
    assert [column.generated for column in tables["made"].columns] == ["", "", "virtual", "stored"]
    assert tables["docs"].virtual
    assert tables["docs_idx"].shadow_of == "docs"
    assert tables["n"].rowid_name == "rowid"
    assert "sqlite_sequence" not in tables
