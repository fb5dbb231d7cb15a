from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from b2m.sqlite.openers import who_has_open
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")


def test_an_idle_connection_that_never_read_is_found(make: Make) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    assert who_has_open([path]) == []
    with Outsider(path) as server:
        (found,) = who_has_open([path])
        assert found.pid == server.process.pid
        assert found.path == str(path)
        assert found.command.startswith(sys.executable)
        assert f"process {found.pid} (" in str(found)
    assert who_has_open([path]) == []


def test_renaming_and_deleting_hides_nobody(make: Make) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    other = path.parent / "other.db"
    with Outsider(path) as server:
        path.rename(other)
        assert [found.pid for found in who_has_open([other])] == [server.process.pid]
        other.rename(path)
        path.unlink()
        (found,) = who_has_open([path])
        assert (found.pid, found.path) == (server.process.pid, f"{path} (deleted)")


def test_sidecars_links_and_own_files_are_told_apart(make: Make) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    link = path.parent / "link.db"
    link.symlink_to(path)
    with Outsider(path) as server, path.open("rb"):
        server("INSERT INTO t VALUES (1)")
        assert {Path(found.path).name for found in who_has_open([link])} == {"a.db"}
        names = {Path(found.path).name for found in who_has_open([path, Path(f"{path}-wal"), Path(f"{path}-shm")])}
        assert names == {"a.db", "a.db-wal", "a.db-shm"}
        assert who_has_open([path.parent / "nothing.db"]) == []


@pytest.mark.alone
def test_hundreds_of_processes_take_no_time(make: Make) -> None:
    path = make("a", "CREATE TABLE t(a)")
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(200)]
    try:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            who_has_open([path])
            times.append(time.perf_counter() - start)
        count = sum(each.name.isdigit() for each in Path("/proc").iterdir())
        assert sorted(times)[2] < max(0.05, count / 300 * 0.05)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


def test_a_command_of_several_lines_is_shown_as_one(make: Make) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    program = "\nimport sys\nheld = open(sys.argv[1])\nprint(flush=True)\nsys.stdin.read()\n"
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (found,) = who_has_open([path])
        process.communicate()
    assert " -c import sys held = open(" in found.command
