from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from b2m.errors import Interrupted, NoSpace, Unreadable
from b2m.sqlite.connect import open_private, open_static, set_tick
from b2m.sqlite.live import LiveFile
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import build, query

LONG = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3000000) "


def cut_short(path: Path) -> None:
    build(path, "CREATE TABLE t(a)", "INSERT INTO t VALUES (zeroblob(50000))")
    os.truncate(path, 8192)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.touch(), "is empty, no database"),
        (lambda path: path.write_text("no database, but some text\n" * 100), "is not an SQLite database"),
        (cut_short, "is damaged or cut short (database disk image is malformed)"),
    ],
    ids=["missing", "directory", "empty", "text", "truncated"],
)
@pytest.mark.parametrize("opening", [open_static, open_private, lambda path, db: LiveFile(path, db)])
def test_a_file_that_is_no_database_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], None], what: str, opening: Callable[[Path, str], object]
) -> None:
    path = tmp_path / "a?b #1%.db"
    spoil(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Unreadable) as caught:
        opening(path, "ipm")
    assert str(caught.value) == f"ipm: {path}: {what}; nothing was changed"
    assert sorted(tmp_path.iterdir()) == before


def refusal_as_nobody(path: Path) -> str:
    """Open a file in a fork that is not root, for root reads everything; return the refusal."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            open_static(path, "ipm")
        except Unreadable as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def test_a_file_of_another_user_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = build(Path(folder) / "a.db", "CREATE TABLE t(a)")
        path.chmod(0)
        assert refusal_as_nobody(path) == f"ipm: {path}: permission denied; nothing was changed"


def test_static_files_get_no_sidecars_and_ignore_a_stale_wal(make: Make, tmp_path: Path) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    stale = tmp_path / "a.db-wal"
    stale.write_bytes(b"stale")
    conn = open_static(path)
    assert conn.execute("SELECT count(*) FROM t").get == 0
    conn.close()
    assert stale.read_bytes() == b"stale"
    assert sorted(tmp_path.iterdir()) == [path, stale]


@pytest.mark.parametrize("error", [Interrupted(15), TimeoutError("too late")])
def test_what_the_tick_raises_comes_out_unchanged_and_the_work_is_rolled_back(make: Make, error: BaseException) -> None:
    path = make("a", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)")

    def stop() -> None:
        raise error

    conn = open_private(path)
    set_tick(stop)
    conn.execute("BEGIN")
    with pytest.raises(type(error)) as caught:
        conn.execute(f"INSERT INTO t {LONG} SELECT n FROM r")
    set_tick(None)
    assert caught.value is error
    assert not conn.in_transaction
    conn.close()
    assert query(path, "SELECT a FROM t") == [(1,)]


def german(*values: apsw.SQLiteValue) -> apsw.SQLiteValue:
    return values[0]


def test_a_missing_extension_is_named(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    conn = apsw.Connection(str(path))
    conn.create_scalar_function("german", german, 1, deterministic=True)
    conn.execute("CREATE TABLE t(a, b AS (german(a)))")
    conn.close()
    with LiveFile(path, "ipm") as live, pytest.raises(Unreadable, match=r"is not loaded .*german"), live.reading():
        live.conn.execute("SELECT b FROM t").fetchall()


def test_a_full_disk_is_told_apart_from_a_damaged_file(make: Make) -> None:
    from b2m.sqlite.connect import explained

    path = make("a", "CREATE TABLE t(a)")
    conn = open_private(path)
    conn.pragma("max_page_count", 2)
    with pytest.raises(NoSpace, match=str(path.parent)), explained("ipm", path):
        conn.execute("INSERT INTO t VALUES (zeroblob(100000))")
    conn.close()
