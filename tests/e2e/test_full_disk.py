"""A disk that is full, from the start or from any moment on: one clear line, nothing lost, the next run converges."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Copy
from tests.e2e.test_crashes import BACK_WITHIN, assert_converged
from tests.e2e.test_undo import only_line
from tests.support.commands import ended, stopped_at
from tests.support.proof import assert_all_there
from tests.support.settings import trials

MB = 1 << 20
MOMENTS = (
    "before-task:1:download",
    "before-task:2:snapshot",
    "before-task:3:replay",
    "after-journal:hold",
    "before-task:7:replay",
    "before-task:8:swap",
    "after-journal:switch",
    "switch:named",
    "switch:finished-files",
    "before-journal:switched",
    "before-journal:released",
    "before-task:9:snapshot",
    "before-journal:publish",
    "commit-created",
    "anchor-advanced",
)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Put a folder, with what is in it, on a disk of its own of so many bytes."""
    aside = folder.with_name(f"{folder.name}, aside")
    folder.rename(aside)
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        aside.rename(folder)
        if os.environ.get("B2M_TEST_SERVICES") == "require":
            pytest.fail(f"tests of a full disk need to mount one: {mounted.stderr.decode()}")
        pytest.skip("only root can mount a small disk")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True, symlinks=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, free: int = 0) -> None:
    """Leave so many bytes free on a folder's disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        chunk = bytes(64 << 10)
        while (left := shutil.disk_usage(folder).free - free) > 0:
            try:
                file.write(chunk[: min(left, len(chunk))])
            except OSError:
                break


def make_room(folder: Path) -> None:
    (folder / "filler").unlink()


@pytest.mark.parametrize("free", [0, 4 << 10, 80 << 10, MB, 15 * MB])
def test_too_little_room_for_a_run(copied: Copy, free: int) -> None:
    world = copied("behind")
    world.insert("ben", "mine")
    live = world.live("ben").read_bytes()
    folder = world.folder("ben")
    with small_disk(folder, 64 * MB):
        fill(folder, free)
        done = world.sync("ben")
        assert done.code in (6, 8), done
        assert "No space left on device" in only_line(done) or "make room and run again" in only_line(done), done
        assert world.live("ben").name == "ipm-db-v1.db"
        assert world.live("ben").read_bytes() == live
        assert world.head() == 2
        make_room(folder)
        assert world.sync("ben").code == 0
        assert {"mine", "from-ann"} <= world.slugs(world.restored())


@pytest.mark.parametrize("free", [0, 4 << 10, 64 << 10])
def test_a_full_bucket(copied: Copy, free: int) -> None:
    world = copied("team")
    world.insert("ben", "mine")
    live = world.live("ben").read_bytes()
    with small_disk(world.root / "bucket", 16 * MB):
        fill(world.root / "bucket", free)
        done = world.sync("ben")
        assert done.code == 9, done
        assert "No space left on device" in only_line(done)
        assert world.live("ben").read_bytes() == live
        assert world.status("ben")["state"] == "ready_to_upload"
        make_room(world.root / "bucket")
        assert world.sync("ben").code == 0
        assert world.head() == 2
        assert "mine" in world.slugs(world.restored())


@pytest.mark.parametrize("moment", MOMENTS if trials(0, 1) else MOMENTS[2::4])
def test_full_from_a_moment_on(copied: Copy, moment: str) -> None:
    """The server cannot write either, and may not even get well: but what it acknowledged stays."""
    world = copied("behind")
    with small_disk(world.prod, 64 * MB), world.serving():
        with world.writing() as shadow:
            with stopped_at(world, moment) as process:
                fill(world.prod)
                process.send_signal(signal.SIGCONT)
                done = ended(process)
            early = moment.startswith("before-task:") and moment < "before-task:7"
            # In the hold 7 is right too: the server cannot open any file on a full disk, so it is not well.
            assert done.code in ((6, 8) if early else (0, 6, 7, 8, 9)), done
            if done.code:
                only_line(done)
            if early:
                assert world.live().name == "ipm-db-v1.db"
            make_room(world.prod)
            again = world.sync()
            assert again.code == 0, (done, again)
            assert world.serves_within(BACK_WITHIN)
        assert_converged(world, shadow, "from-ann")
        assert_all_there(world, world.live(), shadow)
