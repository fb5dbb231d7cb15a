"""A pause: seen by every host, obeyed by sync and upload, ended by whoever wants or by itself."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from b2m.buckets.pause import Pause, pause_name
from tests.e2e.conftest import Copy
from tests.support.commands import ended, stopped_at
from tests.support.unchanged import picture
from tests.support.world import ROOT, World

WHY = "new categories are loaded"


def pause(world: World, length: str = "4h") -> None:
    done = world.b2m("pause", "ipm", "--for", length, "--reason", WHY, "--host", "ben")
    assert done.code == 0, done
    assert WHY in done.out


@pytest.mark.parametrize("command", [("sync",), ("upload",), ("sync", "--check"), ("plan",)])
def test_every_host_leaves_a_paused_database_alone(command: tuple[str, ...], copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "while paused")
    pause(world)
    before = picture(world.root)
    done = world.b2m(*command, "ipm", "--host", "ann")
    assert done.code == 4, done
    said = done.err.splitlines()[-1]
    assert said.startswith("b2m: ipm is paused until 20")
    assert said.endswith(f"({WHY}): try again later, or end it with: b2m resume --db ipm")
    assert picture(world.root) == before
    assert world.head() == 1
    # Another database of the same bucket is not meant.
    assert world.b2m(*command, "emoji", "--host", "ann").code == 0


def test_programs_are_told_the_reason(copied: Copy) -> None:
    world = copied("team")
    pause(world)
    done = world.sync("ann")
    assert done.code == 4
    (error,) = [line for line in done.json if line["type"] == "error"]
    assert (error["error"], error["reason"], error["exit_code"]) == ("Paused", "paused", 4)
    shown = world.status("ann")["pause"]
    assert shown["reason"] == WHY
    assert datetime.fromisoformat(shown["until"]) - datetime.now(UTC) > timedelta(hours=3)


def test_status_shows_a_pause_and_the_state_behind_it(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "while paused")
    pause(world)
    one = world.b2m("status", "ipm", "--host", "ann")
    assert one.code == 0
    assert "ipm@ann  ready_to_upload" in one.out
    assert WHY in one.out
    assert WHY in world.b2m("status", "--host", "ann").out


def test_a_pause_may_be_ended(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "after it")
    pause(world)
    done = world.b2m("resume", "ipm")
    assert done.code == 0
    assert f"was paused until 20{done.out.partition('until 20')[2]}" in done.out
    assert world.sync("ann").code == 0
    assert world.head() == 2
    again = world.b2m("resume", "ipm")
    assert (again.code, again.out) == (0, "ipm  was not paused\n")


def test_a_pause_ends_by_itself(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "after it")
    pause(world)
    assert world.sync("ann").code == 4
    # A real second instead of the hours that nobody wants to wait for.
    made = json.loads(world.bucket.get(pause_name("ipm")))
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    world.bucket.put(pause_name("ipm"), json.dumps({**made, "until": soon}).encode())
    time.sleep(1.1)
    assert world.status("ann")["pause"] is None
    assert world.sync("ann").code == 0
    assert world.head() == 2


def test_a_run_under_way_goes_on_when_a_pause_begins(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "before it")
    with stopped_at(world, "before-task:1:snapshot", host="ann") as process:
        done = world.b2m("pause", "ipm", "--for", "1h", "--reason", WHY)
        assert done.code == 0
        assert "that run goes on to its end" in done.err
        process.send_signal(signal.SIGCONT)
        assert ended(process).code == 0
    assert world.head() == 2
    world.insert("ann", "after it")
    assert world.sync("ann").code == 4


def test_a_download_is_no_change_of_the_bucket(copied: Copy) -> None:
    world = copied("behind")
    pause(world)
    assert world.b2m("download", "ipm", "--host", "ben").code == 0
    assert world.live("ben").name == "ipm-db-v2.db"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 1, "owner": "x", "until": "later"}'])
def test_a_pause_that_nobody_can_read_stops_runs_until_it_is_removed(content: bytes, copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "after it")
    world.bucket.put(pause_name("ipm"), content)
    done = world.b2m("sync", "ipm", "--host", "ann")
    assert done.code == 9
    assert done.err.rstrip().endswith("remove it with: b2m resume --db ipm")
    assert world.b2m("resume", "ipm").code == 0
    assert world.sync("ann").code == 0


def test_a_pause_of_a_newer_b2m_is_not_guessed_at(copied: Copy) -> None:
    world = copied("team")
    pause(world)
    data = json.loads(world.bucket.get(pause_name("ipm")))
    world.bucket.put(pause_name("ipm"), json.dumps({**data, "format": 2}).encode())
    done = world.b2m("sync", "ipm", "--host", "ann")
    assert done.code == 8
    assert "install a newer b2m" in done.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--reason", "x"), "say how long: --for 4h"),
        (("--for", "4h"), "say why"),
        (("--for", "4h", "--reason", " "), "say why"),
        (("--for", "0s", "--reason", "x"), "--for must be a time of up to 30 days"),
        (("--for", "31d", "--reason", "x"), "--for must be a time of up to 30 days"),
        (("--for", "soon", "--reason", "x"), "'soon' is no duration"),
    ],
)
def test_a_pause_needs_an_end_and_a_reason(flags: tuple[str, ...], said: str, copied: Copy) -> None:
    world = copied("team")
    done = world.b2m("pause", "ipm", *flags)
    assert done.code == 1
    assert said in done.err
    assert pause_name("ipm") not in world.bucket.list("ipm")


def test_the_page_of_formats_shows_a_pause_as_it_is() -> None:
    page = (ROOT / "docs/formats.md").read_text()
    example = json.loads(page.partition("```json pause\n")[2].partition("```")[0])
    assert json.loads(Pause.model_validate(example).model_dump_json()) == example


def test_the_runbooks_way_back_from_a_bad_version(copied: Copy) -> None:
    """Pause, fetch the good version, call it a change of the bad one, resume, publish: docs/runbook.md."""
    world = copied("behind")
    good = world.slugs(world.restored("ipm", 2))
    world.sync("ben")
    world.edit("ann", "ipm", "UPDATE ipm_data SET name = 'bad'")
    world.edit("ann", "ipm", "DELETE FROM ipm_data WHERE slug = 'from-ann'")
    assert world.sync("ann").recap["to_version"] == 3
    assert world.sync("ben").recap["to_version"] == 3
    ann = ("--db", "ipm", "--host", "ann")
    assert world.b2m("pause", "--db", "ipm", "--for", "1h", "--reason", "v3 is bad").code == 0
    assert world.sync("ben").code in (0, 4)
    assert world.b2m("download", *ann, "--version", "2").code == 0
    assert world.b2m("adopt", *ann, "--version", "3").code == 0
    assert world.b2m("resume", "--db", "ipm").code == 0
    done = world.sync("ann")
    assert (done.code, done.recap["to_version"]) == (0, 4), done
    restored = world.restored("ipm", 4)
    assert world.slugs(restored) == good
    assert world.query(restored, "SELECT count(*) FROM ipm_data WHERE name = 'bad'") == [(0,)]
    assert world.sync("ben").recap["to_version"] == 4
