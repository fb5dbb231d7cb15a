"""Other deaths than the run's own: its guard, its service commands, its whole process group; and runs that hang."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Copy
from tests.e2e.test_crashes import BACK_WITHIN, assert_converged
from tests.support.commands import PATIENCE, ended, guard_of, script, started, stopped_at, sync_of, wait_for
from tests.support.settings import trials
from tests.support.world import World

AWAY = ("switch:named", "switch:made", "after-journal:switched")
HELD = ("after-journal:hold", *AWAY, "before-journal:released")


def connected(world: World) -> bool:
    return world.server("health", "--db", "ipm", check=False).returncode == 0


def impatient(world: World) -> None:
    """Let the guard lose patience after three seconds of silence, and B2M_FAULT_GUARD_GRACE."""
    world.change("inventory.yaml", "start_timeout: 10s", "start_timeout: 3s")
    world.change("inventory.yaml", "stop_timeout: 10s", "stop_timeout: 3s")
    world.change("playbooks/ipm.yaml", "max_downtime: 5s", "max_downtime: 3s")


@pytest.mark.parametrize("point", HELD if trials(0, 1) else HELD[1:4:2])
def test_the_run_and_its_guard_are_killed(copied: Copy, point: str) -> None:
    world = copied("behind")
    with world.serving():
        with world.writing() as shadow:
            with stopped_at(world, point) as process:
                os.kill(guard_of(process.pid), signal.SIGKILL)
                process.kill()
                process.wait()
            if point in AWAY:
                assert not connected(world), "nobody is left who could have given it back"
            done = world.sync()
            assert done.code == 0, done
            assert connected(world)
        assert_converged(world, shadow, "from-ann")


def test_only_the_guard_is_killed(copied: Copy) -> None:
    """The run needs no guard as long as it lives."""
    world = copied("behind")
    with world.serving():
        with world.writing() as shadow:
            with stopped_at(world, "before-task:7:replay") as process:
                os.kill(guard_of(process.pid), signal.SIGKILL)
                process.send_signal(signal.SIGCONT)
                done = ended(process)
            assert done.code == 0, done
        assert_converged(world, shadow, "from-ann")


def test_the_whole_process_group_is_killed(copied: Copy) -> None:
    world = copied("behind")
    with world.serving():
        with world.writing() as shadow:
            with stopped_at(world, "switch:named") as process:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                assert world.serves_within(BACK_WITHIN)
            assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_a_run_that_hangs_inside_the_hold_is_ended_by_its_guard(copied: Copy) -> None:
    world = copied("behind")
    impatient(world)
    with world.serving():
        with world.writing() as shadow:
            with stopped_at(world, "switch:made", B2M_FAULT_GUARD_GRACE="0.5") as process:
                assert process.wait(PATIENCE) == -signal.SIGKILL
                assert world.serves_within(BACK_WITHIN)
            assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_a_dead_run_whose_disconnect_hangs(copied: Copy) -> None:
    """The command outlives the run and keeps the guard's pipe open; the guard does not wait for ever."""
    world = copied("behind")
    impatient(world)
    script(world, "disconnect", after="echo $$ > hangs; exec sleep 600")
    hangs = world.root / "hangs"
    with world.serving():
        with world.writing() as shadow:
            try:
                with started(world, *sync_of(), env={"B2M_FAULT_GUARD_GRACE": "0.5"}) as process:
                    wait_for(lambda: hangs.exists() and hangs.read_text().endswith("\n"), "disconnect hung")
                    process.kill()
                    process.wait()
                    wait_for(lambda: connected(world), "the guard gave the database back")
            finally:
                os.kill(int(hangs.read_text()), signal.SIGKILL)
            script(world, "disconnect")
            assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_disconnect_command_is_killed(copied: Copy, when: str) -> None:
    world = copied("behind")
    script(world, "disconnect", **{when: "kill -9 $$"})
    live = world.live().name
    with world.serving():
        with world.writing() as shadow:
            done = world.sync()
            assert done.code == 6, done
            assert "disconnect.sh ipm` ended with exit code 137" in done.out
            assert connected(world)
            assert world.live().name == live
            script(world, "disconnect")
            assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_a_run_that_starts_while_the_guard_works_waits_for_it(copied: Copy) -> None:
    world = copied("behind")
    script(world, "connect", before="echo x >> connecting; sleep 2")
    with world.serving():
        with world.writing() as shadow:
            with stopped_at(world, "switch:made") as process:
                process.kill()
                process.wait()
            wait_for((world.root / "connecting").exists, "the guard connected")
            began = time.monotonic()
            done = world.sync()
            assert done.code == 0, done
            assert time.monotonic() - began > 1, "it did not wait"
            log_file = world.folder("prod") / ".b2m" / "ipm" / "guard.log"
            assert "gave ipm back" in log_file.read_text()
        assert_converged(world, shadow, "from-ann")


@pytest.mark.parametrize("point", ["switch:unlocked", "after-journal:switched"])
def test_a_renamed_file_keeps_its_journal_mode(copied: Copy, point: str) -> None:
    """On a host without a server nobody else would set it again."""
    world = copied("behind")
    world.insert("ann", "more")
    assert _is_wal(world.live("ann"))
    killed = world.sync("ann", env={"B2M_FAULT": point})
    assert killed.code == -signal.SIGKILL
    assert world.sync("ann").code == 0
    assert world.live("ann").name == "ipm-db-v3.db"
    assert _is_wal(world.live("ann"))


def test_nobody_reads_what_b2m_prints(copied: Copy) -> None:
    """``b2m sync --json | head -1``: the work is done all the same."""
    world = copied("behind")
    with world.serving():
        with world.writing() as shadow, started(world, *sync_of()) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.stdout.close()
            process.wait(PATIENCE)
        assert world.live().name == "ipm-db-v3.db"
        assert_converged(world, shadow, "from-ann")


def _is_wal(path: Path) -> bool:
    return path.read_bytes()[18:20] == b"\x02\x02"
