"""The lock of one database on one host: it dies with its last holder and outlives its first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2m.errors import Locked
from b2m.hosts import lock as locks
from b2m.hosts.lock import HostLock, holder

HOLD = """
import subprocess, sys, time
from pathlib import Path
from b2m.hosts.lock import HostLock
lock = HostLock(Path(sys.argv[1]), "ipm", "the-other-run")
if sys.argv[2] == "hand over":
    # As a run does with its guard: a child inherits the descriptor and outlives it.
    subprocess.Popen(["sleep", sys.argv[3]], pass_fds=(lock.fd,), stdout=subprocess.DEVNULL)
print("held", flush=True)
if sys.argv[2] == "keep":
    time.sleep(600)
"""


@contextmanager
def held_by_another(path: Path, how: str = "keep", seconds: str = "600") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), how, seconds], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_nobody_holds_a_lock_that_was_never_taken(tmp_path: Path) -> None:
    assert holder(tmp_path / "lock") is None
    assert not (tmp_path / "lock").exists()


def test_another_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path) as process:
        found = holder(path)
        assert found is not None
        assert (found.run, found.pid) == ("the-other-run", process.pid)
        with pytest.raises(Locked, match=rf"run the-other-run \(pid {process.pid} on this host\)"):
            HostLock(path, "ipm", "mine")


def test_it_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path) as process:
        process.kill()
        process.wait()
        HostLock(path, "ipm", "mine").close()
        assert holder(path) is None


def test_waiting_for_a_living_run(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path):
        began = time.monotonic()
        with pytest.raises(Locked):
            HostLock(path, "ipm", "mine", wait=0.7)
        assert time.monotonic() - began >= 0.7


def test_the_guard_of_a_dead_run_is_waited_for_without_being_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path, "hand over", "1.5") as process:
        process.wait()
        assert holder(path) is not None, "its child holds it still"
        lock = HostLock(path, "ipm", "mine")
        found = holder(path)
        assert found is not None
        assert (found.run, found.pid) == ("mine", os.getpid())
        lock.close()


def test_a_guard_that_never_ends_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "DEAD_RUN_GRACE", 0.5)
    path = tmp_path / "lock"
    with held_by_another(path, "hand over", "3") as process:
        process.wait()
        with pytest.raises(Locked):
            HostLock(path, "ipm", "mine")


def test_a_pid_that_was_given_to_another_process_is_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path):
        note = path.read_text()
        assert locks.alive(path)
        path.write_text(note.replace('"started": "', '"started": "9'))
        assert not locks.alive(path)
