"""Ctrl-C and SIGTERM at any moment: everything undone or finished, the server serving, the next run converging."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.e2e.conftest import Copy
from tests.e2e.test_crashes import BACK_WITHIN, assert_converged, spread
from tests.support.commands import ended, events, script, started, stopped_at, sync_of, wait_for
from tests.support.settings import trials
from tests.support.world import World

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def names(world: World) -> list[str]:
    """Return the events of a sync's tasks, in order: ``started 3``, ``changed 3`` and so on."""
    with world.serving(), world.writing():
        done = world.sync()
        assert done.code == 0, done
    return [f"{number} {event['status']}" for number, event in enumerate(done.json) if event["type"] == "task"]


def test_a_signal_at_any_moment(copied: Copy) -> None:
    world = copied("behind")
    world.save()
    moments = names(world)
    for turn, moment in enumerate(spread(moments, trials(8, len(moments)))):
        world.server("stop")
        world.restore()
        wanted, sent = SIGNALS[turn % 2], False
        with world.serving():
            with world.writing() as shadow:
                with started(world, *sync_of()) as process:
                    for number, event in enumerate(events(process)):
                        if event["type"] == "task" and moment == f"{number} {event['status']}":
                            process.send_signal(wanted)
                            sent = True
                    code = process.wait()
                assert sent, moment
                # The last task's end may be too late to stop anything.
                assert code == 128 + wanted or (moment == moments[-1] and code == 0), (moment, code)
                assert world.server("health", "--db", "ipm", check=False).returncode == 0, moment
                status = world.status()
                assert status["state"] in ("up_to_date", "ready_to_upload", "outdated_db"), (moment, status)
                assert status["lease"] is None, (moment, status)
                assert list((world.prod / ".b2m" / "ipm" / "work").iterdir()) == [], moment
                done = world.sync()
                assert done.code == 0, (moment, done)
            try:
                assert_converged(world, shadow, "from-ann")
            except AssertionError as error:
                raise AssertionError(f"{wanted.name} at {moment}: {error}") from error


@pytest.mark.parametrize("wanted", SIGNALS)
def test_inside_the_hold_the_old_file_stays(copied: Copy, wanted: signal.Signals) -> None:
    world = copied("behind")
    live = world.live().name
    with world.serving():
        with world.writing() as shadow:
            with started(world, *sync_of()) as process:
                for event in events(process):
                    if event.get("module") == "swap" and event.get("status") == "started":
                        process.send_signal(wanted)
                assert process.wait() == 128 + wanted
            assert world.serves_within(BACK_WITHIN)
            assert world.live().name == live
            assert json.loads((world.prod / ".b2m" / "ipm" / "anchor.json").read_bytes())["number"] == 1
            assert world.head() == 2
            assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_a_second_signal_does_not_stop_the_undo(copied: Copy) -> None:
    """As people press Ctrl-C: on the whole foreground group, and again when it does not end at once."""
    world = copied("behind")
    script(world, "connect", before="echo x >> connecting; sleep 2")
    with world.serving():
        with world.writing() as shadow:
            with stopped_at(world, "before-task:8:swap") as process:
                os.killpg(process.pid, signal.SIGINT)
                process.send_signal(signal.SIGCONT)
                wait_for((world.root / "connecting").exists, "it undid the hold")
                for _ in range(3):
                    os.killpg(process.pid, signal.SIGINT)
                done = ended(process)
            assert done.code == 130, done
            assert "what was done is undone" in done.err
            assert world.serves_within(BACK_WITHIN)
            assert world.live().name == "ipm-db-v1.db"
            assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")
