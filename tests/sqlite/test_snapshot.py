from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from b2m.errors import TaskFailed
from b2m.sqlite import snapshot as module
from b2m.sqlite.connect import set_tick
from b2m.sqlite.diff import compare
from b2m.sqlite.live import LiveFile
from b2m.sqlite.snapshot import copy_file, snapshot
from b2m.sqlite.verify import check_integrity
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider, query
from tests.support.settings import trials

# Commits every millisecond; both tables always change together. Prints commits and refusals at the end.
WRITER = """
import sqlite3, sys, time
conn = sqlite3.connect(sys.argv[1], timeout=1, isolation_level=None)
print("ready", flush=True)
commits, refused, end = 0, 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    try:
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("UPDATE t SET n = n + 1 WHERE id = ?", (commits % 2000 + 1,))
        conn.execute("UPDATE total SET n = n + 1")
        conn.execute("COMMIT")
        commits += 1
    except sqlite3.OperationalError:
        refused += 1
    time.sleep(0.001)
print(commits, refused, flush=True)
"""


@pytest.fixture(params=["wal", "delete"])
def live_path(request: pytest.FixtureRequest, make: Make) -> Path:
    return make(
        "live",
        f"PRAGMA journal_mode = {request.param}",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n, pad)",
        "CREATE TABLE total(n)",
        "INSERT INTO t WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 8000) "
        "SELECT i, 0, hex(randomblob(400)) FROM r",
        "INSERT INTO total VALUES (0)",
    )


def test_it_is_an_equal_synced_rollback_file_with_nothing_beside_it(live_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours.db"
    target.write_bytes(b"left over from a run that died" * 10_000)
    steps: list[tuple[int, int]] = []
    with LiveFile(live_path, "ipm") as live:
        mode = live.journal_mode()
        found = snapshot(live, target, progress=lambda done, total: steps.append((done, total)))
        assert found.data_version == live.version()
        assert compare(target, live).dirty is False
    assert (found.page_size, found.page_count, found.journal_mode) == (4096, target.stat().st_size // 4096, mode)
    assert found.size == target.stat().st_size
    assert steps[-1] == (found.page_count, found.page_count)
    assert target.read_bytes()[18:20] == b"\x01\x01"
    assert check_integrity(target) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["live.db", "ours.db"]


def test_commits_that_are_only_in_the_wal_are_in_it(make: Make, tmp_path: Path) -> None:
    path = make("live", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    with Outsider(path) as server, LiveFile(path, "ipm") as live:
        server("INSERT INTO t VALUES (1)")
        snapshot(live, tmp_path / "ours.db")
    assert query(tmp_path / "ours.db", "SELECT a FROM t") == [(1,)]


def test_a_busy_wal_writer_is_never_refused_and_every_copy_is_one_commit(make: Make, tmp_path: Path) -> None:
    path = make(
        "live",
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n, pad)",
        "CREATE TABLE total(n)",
        "INSERT INTO t WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 2000) "
        "SELECT i, 0, hex(randomblob(2000)) FROM r",
        "INSERT INTO total VALUES (0)",
    )
    seconds = trials(2, 20)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    totals = []
    with LiveFile(path, "ipm") as live:
        end = time.monotonic() + seconds - 0.3
        while time.monotonic() < end:
            snapshot(live, tmp_path / "ours.db")
            assert check_integrity(tmp_path / "ours.db") == []
            ((total, rows),) = query(tmp_path / "ours.db", "SELECT (SELECT n FROM total), (SELECT sum(n) FROM t)")
            assert total == rows
            totals.append(total)
    commits, refused = map(int, writer.communicate(timeout=30)[0].split())
    assert refused == 0
    assert len(totals) > 3
    assert totals == sorted(totals)
    assert 0 < totals[-1] <= commits


def test_a_write_during_a_rollback_copy_starts_it_over(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("live", "CREATE TABLE t(a)", "INSERT INTO t VALUES (zeroblob(100000))")
    monkeypatch.setattr(module, "STEP_PAGES", 5)
    writes = iter(["UPDATE t SET a = zeroblob(100001)", "INSERT INTO t VALUES (2)"])
    with LiveFile(path, "ipm") as live, Outsider(path) as server:

        def write(done: int, total: int) -> None:
            server(next(writes, "SELECT 1"))

        found = snapshot(live, path.parent / "ours.db", progress=write)
        assert found.data_version == live.version()
        assert not compare(found.path, live).dirty
    assert query(found.path, "SELECT count(*) FROM t") == [(2,)]


def test_a_server_that_writes_all_the_time_ends_a_rollback_copy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("live", "CREATE TABLE t(a)", "INSERT INTO t VALUES (zeroblob(100000))")
    monkeypatch.setattr(module, "STEP_PAGES", 5)
    with LiveFile(path, "ipm") as live, Outsider(path) as server:

        def write(done: int, total: int) -> None:
            server("INSERT INTO t VALUES (1)")

        with pytest.raises(TaskFailed, match="take the snapshot inside the hold"):
            snapshot(live, path.parent / "ours.db", progress=write)
        server("INSERT INTO t VALUES (1)")
    assert [file.name for file in path.parent.iterdir()] == ["live.db"]


def test_stopped_in_the_middle_it_leaves_nothing_and_lets_go(live_path: Path, tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop() -> None:
        raise Stop

    with LiveFile(live_path, "ipm") as live, Outsider(live_path) as server:
        set_tick(stop)
        with pytest.raises(Stop):
            snapshot(live, tmp_path / "ours.db")
        set_tick(None)
        assert not (tmp_path / "ours.db").exists()
        server("BEGIN EXCLUSIVE")
        server("ROLLBACK")
        snapshot(live, tmp_path / "ours.db")


@pytest.mark.parametrize("broken", [False, True], ids=["kernel", "no copy_file_range"])
def test_copy_file_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    if broken:

        def refuse(*arguments: object) -> int:
            raise OSError(errno.EXDEV, "across file systems")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    source = tmp_path / "a"
    source.write_bytes(os.urandom(9_000_001))
    (tmp_path / "b").write_bytes(b"longer" * 3_000_000)
    copy_file(source, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == source.read_bytes()
