from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from b2m.errors import LiveChanged, StillOpen, Unreadable
from b2m.sqlite.diff import compare
from b2m.sqlite.live import LiveFile
from b2m.sqlite.openers import Opener
from b2m.sqlite.swap import Barrier, prepare, replace_file
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider, Refusal, query

START = ("CREATE TABLE t(a)", "INSERT INTO t VALUES (1)")


@pytest.fixture(params=["wal", "delete"])
def path(request: pytest.FixtureRequest, make: Make) -> Path:
    return make("live", f"PRAGMA journal_mode = {request.param}", *START)


def nobody(paths: Iterable[Path]) -> list[Opener]:
    """An operating system without /proc: only locks can tell."""
    return []


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def quick(path: Path) -> LiveFile:
    return LiveFile(path, "ipm", busy_timeout_ms=200)


def test_inside_the_file_is_alone_complete_and_locked(path: Path) -> None:
    with Outsider(path) as server:
        server("INSERT INTO t VALUES (2)")
        server.kill()
    with quick(path) as live:
        with Barrier(live, live.version()) as barrier:
            assert names(path) == ["live.db"]
            with Outsider(path) as late:
                with pytest.raises(Refusal, match="locked"):
                    late("INSERT INTO t VALUES (3)")
                with pytest.raises(Refusal, match="locked"):
                    late("SELECT * FROM t")
                with pytest.raises(StillOpen, match=f"process {late.process.pid}"):
                    barrier.check_again()
            barrier.check_again()
        with Outsider(path) as after:
            assert after("SELECT a FROM t") == [[1], [2]]


def test_our_own_checkpoint_is_no_change(path: Path) -> None:
    with Outsider(path) as server:
        server("INSERT INTO t VALUES (2)")
        server.kill()
    with quick(path) as live:
        version = live.version()
        with Barrier(live, version):
            assert live.version() == version
            assert live.conn.execute("SELECT count(*) FROM t").get == 2


@pytest.mark.parametrize("change", ["INSERT INTO t VALUES (2)", "UPDATE t SET a = 5", "CREATE TABLE u(b)"])
def test_any_commit_since_the_last_replay_is_noticed(path: Path, change: str) -> None:
    with quick(path) as live:
        mode, consumed = live.journal_mode(), live.version()
        with Outsider(path) as server:
            server(change)
        with pytest.raises(LiveChanged), Barrier(live, consumed):
            pass
        assert live.journal_mode() == mode
        with Outsider(path) as server:
            server("INSERT INTO t VALUES (9)")
        with Barrier(live, live.version()):
            pass


def test_a_commit_that_a_checkpoint_hid_is_noticed(make: Make) -> None:
    path = make("live", "PRAGMA journal_mode = WAL", *START)
    with quick(path) as live:
        consumed = live.version()
        with Outsider(path) as server:
            server("UPDATE t SET a = 5")
            assert server("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0
        with pytest.raises(LiveChanged), Barrier(live, consumed):
            pass


def test_a_commit_between_the_look_and_the_lock_is_noticed(path: Path) -> None:
    with quick(path) as live:

        def late_writer(paths: Iterable[Path]) -> list[Opener]:
            with Outsider(path) as server:
                server("INSERT INTO t VALUES (2)")
            return []

        with pytest.raises(LiveChanged), Barrier(live, live.version(), openers=late_writer):
            pass


def test_an_opened_but_idle_connection_is_named(path: Path) -> None:
    with Outsider(path) as stray, quick(path) as live:
        with pytest.raises(StillOpen, match=f"process {stray.process.pid}"), Barrier(live, live.version()):
            pass
        # Refused before anything was touched: the stray goes on as ever.
        stray("INSERT INTO t VALUES (2)")


@pytest.mark.parametrize("using", ["SELECT * FROM t", "BEGIN; SELECT * FROM t"])
def test_without_proc_the_lock_finds_whoever_reads(make: Make, using: str) -> None:
    path = make("live", "PRAGMA journal_mode = WAL", *START)
    with Outsider(path) as server, quick(path) as live:
        for statement in using.split("; "):
            server(statement)
        with pytest.raises(StillOpen, match="cannot be named"), Barrier(live, live.version(), openers=nobody):
            pass
        assert live.journal_mode() == "wal"
        if "BEGIN" in using:
            server("COMMIT")
        server("INSERT INTO t VALUES (2)")
        assert server("PRAGMA journal_mode") == [["wal"]]


def test_a_stray_that_slips_past_the_lock_cannot_write_before_it_is_found(make: Make) -> None:
    """The trap: it opened, never read, so no lock shows it; after a rename it would write into the old file."""
    path = make("live", "PRAGMA journal_mode = WAL", *START)
    with Outsider(path) as stray, quick(path) as live:
        barrier = Barrier(live, live.version(), openers=nobody)
        with barrier:
            with pytest.raises(Refusal, match="locked"):
                stray("INSERT INTO t VALUES (2)")
            barrier._openers = lambda paths: [Opener(stray.process.pid, "stray", str(path))]
            with pytest.raises(StillOpen, match="stray"):
                barrier.check_again()


def test_an_exception_inside_gives_the_journal_mode_back(path: Path) -> None:
    with quick(path) as live:
        mode = live.journal_mode()
        with pytest.raises(RuntimeError), Barrier(live, live.version()):
            raise RuntimeError("health probe failed")
        with Outsider(path) as server:
            assert server("PRAGMA journal_mode") == [[mode]]
            server("INSERT INTO t VALUES (2)")
            assert server("SELECT a FROM t") == [[1], [2]]
        # Undoing is our own doing, no change by others; the insert is one.
        assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_undo_by_hand_is_the_same(path: Path) -> None:
    with quick(path) as live:
        mode = live.journal_mode()
        with Barrier(live, live.version()) as barrier:
            barrier.leave(undo=True)
            barrier.leave(undo=True)
            with Outsider(path) as server:
                assert server("PRAGMA journal_mode") == [[mode]]


def test_leaving_never_removes_the_journal_of_the_file_that_came_in_its_place(path: Path, make: Make) -> None:
    journal = Path(f"{path}-journal")
    with quick(path) as live:
        with Barrier(live, live.version()):
            replace_file(make("new", *START), path)
            journal.write_bytes(b"a journal of the new file's server")
        assert journal.exists()
    assert journal.exists()


def test_closing_never_removes_the_wal_of_the_file_that_came_in_its_place(path: Path, make: Make) -> None:
    live = quick(path)
    with Barrier(live, live.version()):
        new = make("new", "PRAGMA journal_mode = WAL", *START)
        replace_file(new, path)
    with Outsider(path) as server:
        server("INSERT INTO t VALUES (2)")
        live.close()
        assert Path(f"{path}-wal").stat().st_size > 0
        server("INSERT INTO t VALUES (3)")
        server.kill()
    with Outsider(path) as server:
        assert server("SELECT a FROM t") == [[1], [2], [3]]


def test_a_stale_wal_never_meets_the_new_file(make: Make) -> None:
    """The trap: a -wal that stays behind is replayed into whatever file comes under its name."""
    path = make("live", "PRAGMA journal_mode = WAL", *START)
    new = make("new", "CREATE TABLE t(a)", "INSERT INTO t VALUES ('new')")
    with Outsider(path) as server:
        server("UPDATE t SET a = 'stale'")
        server.kill()
    assert Path(f"{path}-wal").stat().st_size > 0
    live = quick(path)
    with Barrier(live, live.version()):
        prepare(new, path, "wal")
        replace_file(new, path)
    live.close()
    with Outsider(path) as server:
        assert server("SELECT a FROM t") == [["new"]]
        assert server("PRAGMA journal_mode") == [["wal"]]


def test_killed_inside_the_barrier_the_file_is_sound(make: Make) -> None:
    path = make("live", "PRAGMA journal_mode = WAL", *START)
    with Outsider(path) as server:
        server("INSERT INTO t VALUES (2)")
        server.kill()
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from b2m.sqlite.live import LiveFile; from b2m.sqlite.swap import Barrier\n"
        "live = LiveFile(Path(sys.argv[1]), 'ipm')\n"
        "with Barrier(live, live.version()): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environment, timeout=60)
    assert done.returncode == -9
    with Outsider(path) as server:
        assert server("SELECT a FROM t") == [[1], [2]]
        server("INSERT INTO t VALUES (3)")
        assert server("PRAGMA integrity_check") == [["ok"]]


def test_a_file_that_was_replaced_behind_us_is_not_swapped(path: Path, make: Make) -> None:
    with quick(path) as live:
        make("other", *START).replace(path)
        with pytest.raises(LiveChanged), Barrier(live, live.version()):
            pass


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_prepare_gives_mode_and_journal_whatever_the_umask(make: Make, mode: str, tmp_path: Path) -> None:
    live = make("live", f"PRAGMA journal_mode = {mode}", *START)
    live.chmod(0o664)
    candidate = make("candidate", *START)
    before = os.umask(0o077)
    try:
        prepare(candidate, live, mode)
    finally:
        os.umask(before)
    assert candidate.stat().st_mode & 0o7777 == 0o664
    assert names(live) == ["candidate.db", "live.db"]
    assert not compare(live, candidate).dirty
    with Outsider(candidate) as server:
        assert server("PRAGMA journal_mode") == [[mode]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_prepare_gives_the_owner(make: Make) -> None:
    live, candidate = make("live", *START), make("candidate", *START)
    os.chown(live, 1234, 2345)
    prepare(candidate, live, "wal")
    assert (candidate.stat().st_uid, candidate.stat().st_gid) == (1234, 2345)


def test_prepare_refuses_what_is_no_database(make: Make, tmp_path: Path) -> None:
    (tmp_path / "candidate.db").write_text("text")
    with pytest.raises(Unreadable, match=r"candidate\.db: is not an SQLite database"):
        prepare(tmp_path / "candidate.db", make("live", *START), "wal")
