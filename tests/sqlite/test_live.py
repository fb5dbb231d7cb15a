from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from b2m.errors import Unreadable
from b2m.sqlite.live import LiveFile
from b2m.sqlite.signature import signature
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider, Refusal, query

START = ("CREATE TABLE t(a)", "INSERT INTO t VALUES (1)")


def states(path: Path) -> dict[str, tuple[bytes, int]]:
    found = {}
    for suffix in ("", "-wal", "-journal"):
        file = Path(f"{path}{suffix}")
        if file.exists():
            found[suffix] = (file.read_bytes(), file.stat().st_mtime_ns)
    return found


@pytest.fixture
def wal(make: Make) -> Path:
    return make("live", "PRAGMA journal_mode = WAL", *START)


@pytest.fixture
def delete(make: Make) -> Path:
    return make("live", *START)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_looking_at_a_closed_database_leaves_everything_as_it_was(mode: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(mode)
    before = states(path)
    with LiveFile(path, "ipm") as live, live.reading() as conn:
        assert conn.execute("SELECT a FROM t").fetchall() == [(1,)]
        assert live.journal_mode() == mode
    assert states(path) == before
    assert sorted(path.parent.iterdir()) == [path]


def test_a_wal_left_by_a_killed_server_is_read_but_not_checkpointed(wal: Path) -> None:
    with Outsider(wal) as server:
        server("INSERT INTO t VALUES (2)")
        server.kill()
    before = states(wal)
    assert len(before["-wal"][0]) > 0
    with LiveFile(wal, "ipm") as live, live.reading() as conn:
        assert conn.execute("SELECT a FROM t").fetchall() == [(1,), (2,)]
    assert states(wal) == before


def test_a_server_that_ends_while_we_look_keeps_its_wal(wal: Path) -> None:
    with LiveFile(wal, "ipm") as live:
        with Outsider(wal) as server:
            server("INSERT INTO t VALUES (2)")
        before = states(wal)
    assert states(wal) == before
    with LiveFile(wal, "ipm") as live, live.reading() as conn:
        assert conn.execute("SELECT count(*) FROM t").get == 2


def test_an_empty_wal_goes_again(wal: Path) -> None:
    Path(f"{wal}-wal").touch()
    LiveFile(wal, "ipm").close()
    assert sorted(wal.parent.iterdir()) == [wal]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_version_changes_with_every_commit_of_others_and_with_nothing_else(
    mode: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(mode)
    with LiveFile(path, "ipm") as live, Outsider(path) as server:
        seen = {live.version()}
        for number in range(3):
            server(f"UPDATE t SET a = {number}")
            assert live.version() not in seen
            seen.add(live.version())
        server("SELECT * FROM t")
        with live.reading() as conn:
            conn.execute("SELECT * FROM t").fetchall()
        assert live.version() in seen


def test_a_reading_sees_one_state_whatever_is_committed(wal: Path) -> None:
    with LiveFile(wal, "ipm") as live, Outsider(wal) as server:
        with live.reading() as conn:
            version = live.version()
            server("INSERT INTO t VALUES (2)")
            with live.reading():
                assert conn.execute("SELECT count(*) FROM t").get == 1
            assert conn.execute("SELECT count(*) FROM t").get == 1
            assert live.version() == version
        assert live.version() != version


def test_taking_a_signature_does_not_drop_our_locks(delete: Path) -> None:
    with LiveFile(delete, "ipm") as live, Outsider(delete) as server, live.reading():
        assert signature(delete) is not None
        with pytest.raises(Refusal, match="locked"):
            server("BEGIN EXCLUSIVE")
        # The trap itself, so that this test would notice: open and close the file, and the lock is gone.
        os.close(os.open(delete, os.O_RDONLY))
        server("BEGIN EXCLUSIVE")
        server("ROLLBACK")


def test_reading_the_raw_file_does_not_drop_our_locks(delete: Path) -> None:
    with LiveFile(delete, "ipm") as live, Outsider(delete) as server, live.reading():
        assert live.in_main_file
        assert live.read_main_file(0, 16) == b"SQLite format 3\x00"
        with pytest.raises(Refusal, match="locked"):
            server("BEGIN EXCLUSIVE")


def test_main_file_is_whole_only_without_frames_in_the_wal(wal: Path) -> None:
    with LiveFile(wal, "ipm") as live, Outsider(wal) as server:
        with live.reading():
            assert live.in_main_file
        server("INSERT INTO t VALUES (2)")
        with live.reading():
            assert not live.in_main_file
        server("PRAGMA wal_checkpoint(PASSIVE)")
        with live.reading():
            assert live.in_main_file
            server("INSERT INTO t VALUES (3)")
            server("PRAGMA wal_checkpoint(PASSIVE)")
            assert live.in_main_file
            size = int(live.conn.pragma("page_size"))
            assert live.read_main_file(size, size) == read_by_another(wal, size)
        assert not live.in_main_file


def read_by_another(path: Path, size: int) -> bytes:
    """Page 2 as it is on the disk, read by another process."""
    import subprocess

    return subprocess.run(["dd", f"if={path}", f"bs={size}", "skip=1", "count=1"], capture_output=True).stdout


def test_a_replaced_file_is_noticed(wal: Path, make: Make) -> None:
    with LiveFile(wal, "ipm") as live:
        assert live.same_file()
        make("other", *START).replace(wal)
        assert not live.same_file()
        wal.unlink()
        assert not live.same_file()


def test_symlinks_are_resolved_first(wal: Path) -> None:
    link = wal.parent / "current.db"
    link.symlink_to(wal.name)
    with LiveFile(link, "ipm") as live:
        assert live.path == wal.resolve()


def test_a_writer_that_never_ends_makes_it_unreadable_after_the_timeout(delete: Path) -> None:
    with Outsider(delete) as server:
        server("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with pytest.raises(Unreadable, match="locked by another process"):
            LiveFile(delete, "ipm", busy_timeout_ms=200)
        assert 0.15 < time.monotonic() - start < 2


def test_nothing_is_created_where_live_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="does not exist"):
        LiveFile(tmp_path / "gone.db", "ipm")
    assert list(tmp_path.iterdir()) == []


def test_an_acknowledged_row_in_a_leftover_wal_survives_looking_twice(wal: Path) -> None:
    with Outsider(wal) as server:
        server("INSERT INTO t VALUES (2)")
        server.kill()
    for _ in range(2):
        LiveFile(wal, "ipm").close()
    with Outsider(wal) as server:
        assert server("SELECT a FROM t") == [[1], [2]]
    assert query(wal, "SELECT a FROM t") == [(1,), (2,)]
