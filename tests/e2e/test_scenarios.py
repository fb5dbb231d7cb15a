"""The four scenarios of the team's proposal and the three cases of its working flow, each from end to end.

The production server is a process of its own and takes entries all the while. Every entry that it acknowledged is on a
shadow list, and must be in the live file and in the newest version exactly once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Copy
from tests.support.proof import assert_all_there, assert_in_step, polling, publish, rows, starts
from tests.support.world import Done, World

DISCONNECTS, STOPS = "prod", "prod-stop"
BOTH = pytest.mark.parametrize("host", [DISCONNECTS, STOPS])
BULK = [f"bulk-{number}" for number in range(100)]


def bulk_insertion(world: World) -> None:
    """At 4 PM somebody inserts many entries at once and publishes them."""
    for slug in BULK:
        world.insert("ann", slug)
    publish(world, "ann", holds=0)


@contextmanager
def served(world: World, host: str) -> Iterator[None]:
    """A client meanwhile asks 50 times a second; with disconnect nothing fails, with stop there is exactly one stop."""
    before = starts(world)
    if host == STOPS:
        yield
        assert starts(world) == before + 1
        return
    with polling(world, "/ipm") as seen:
        yield
    assert seen.failures == []
    assert seen.sources["recent"], f"the client asked while the database was away: {seen.sources}"
    assert starts(world) == before


def last_sync(world: World, host: str, shadow: Path, *more: list[str]) -> None:
    """With the writer stopped: one more sync, and everything is everywhere."""
    before, unsaved = world.head(), world.status(host)["dirty"]
    done = world.sync(host)
    assert done.code == 0, done
    assert done.recap["after"] == "up_to_date"
    assert world.head() == before + (1 if unsaved else 0)
    assert_in_step(world, host=host)
    assert_all_there(world, world.live(host), shadow, *more)
    assert_all_there(world, world.restored(), shadow, *more)


@BOTH
def test_scenario_1_and_case_1_the_servers_rows_are_published_without_a_conflict(copied: Copy, host: str) -> None:
    world = copied("team")
    with world.serving():
        with world.writing() as shadow:
            status = world.status(host)
            assert (status["state"], status["dirty"]) == ("ready_to_upload", True)
            assert status["live"] == {"file": "ipm-db-v1.db", "version": 1}
            with served(world, host):
                done = publish(world, host)
            assert (done.recap["before"], done.recap["from_version"]) == ("ready_to_upload", 1)
            assert not (world.prod / "ipm-db-v1.db").exists(), "the file was renamed, not copied"
        last_sync(world, host, shadow)


@BOTH
def test_scenario_2_and_case_2_1_the_servers_rows_are_carried_onto_a_newer_version(copied: Copy, host: str) -> None:
    world = copied("team")
    with world.serving():
        with world.writing() as shadow:
            bulk_insertion(world)
            status = world.status(host)
            assert (status["state"], status["dirty"]) == ("outdated_db", True)
            assert (status["live"]["version"], status["head"]["version"]) == (1, 2)
            with served(world, host):
                done = publish(world, host)
            assert (done.recap["before"], done.recap["from_version"]) == ("outdated_db", 1)
            assert set(BULK) <= world.slugs(world.restored())
            assert world.get("/ipm/bulk-99")[0] == 200, "the server serves what was inserted in bulk"
        last_sync(world, host, shadow, BULK)


def test_a_working_day_of_many_syncs_loses_nothing(copied: Copy) -> None:
    """Either kind of host, with and without somebody else's version in between, over one and the same server."""
    world = copied("team")
    with world.serving():
        with world.writing() as shadow:
            for host, busy_bucket in ((DISCONNECTS, True), (STOPS, False), (DISCONNECTS, False), (STOPS, True)):
                if busy_bucket:
                    assert world.sync("ann").code == 0
                    world.insert("ann", f"ann-before-{world.head()}")
                    publish(world, "ann", holds=0)
                publish(world, host)
        last_sync(world, DISCONNECTS, shadow, ["ann-before-1", "ann-before-5"])


def test_scenario_3_a_members_change_is_published_without_a_conflict(copied: Copy) -> None:
    """And the server, which writes all the while, gets it at its next sync, though it has nothing to publish."""
    world = copied("team")
    world.edit("ann", "emoji", "UPDATE emoji SET name = 'grinning, says ann' WHERE code = '1F600'")
    with world.serving():
        with world.writing() as shadow:
            assert world.status("ann", "emoji")["state"] == "ready_to_upload"
            publish(world, "ann", "emoji", holds=0)
            assert_in_step(world, db="emoji", host="ann")

            status = world.status("prod", "emoji")
            assert (status["state"], status["dirty"]) == ("outdated_db", False)
            with polling(world, "/emoji/1F600") as seen:
                done = world.sync("prod", "emoji")
            assert done.code == 0, done
            assert (done.recap["to_version"], done.recap["holds"], done.recap["after"]) == (2, 1, "up_to_date")
            assert seen.failures == []
            assert b"says ann" in world.get("/emoji/1F600")[1]
            assert_in_step(world, db="emoji")
            assert world.head("emoji") == 2, "who has nothing to publish publishes nothing"
        last_sync(world, DISCONNECTS, shadow)


def test_scenario_4_two_members_and_the_second_is_rebased(copied: Copy) -> None:
    """Lince is ben, Athreya is ann; both start from v1."""
    world = copied("team")
    world.edit("ann", "emoji", "UPDATE emoji SET keywords = '[\"ann\"]' WHERE code IN ('1F600', '1F601')")
    world.edit("ben", "emoji", "UPDATE emoji SET name = 'by ben' WHERE code IN ('1F600', '1F602')")
    world.edit("ben", "emoji", "DELETE FROM emoji WHERE code = '1F603'")
    assert world.status("ann", "emoji")["state"] == world.status("ben", "emoji")["state"] == "ready_to_upload"

    publish(world, "ben", "emoji", holds=0)
    status = world.status("ann", "emoji")
    assert (status["state"], status["dirty"]) == ("outdated_db", True)

    publish(world, "ann", "emoji", holds=0)
    assert_in_step(world, db="emoji", host="ann")
    assert world.live("ben", "emoji").name == "emoji-db-v2.db", "nobody touched ben's file"
    status = world.status("ben", "emoji")
    assert (status["state"], status["live"]["version"], status["dirty"]) == ("outdated_db", 2, False)

    found = {
        code: (name, keywords)
        for code, name, keywords in world.query(world.restored("emoji"), "SELECT code, name, keywords FROM emoji")
    }
    assert found["1F600"] == ("by ben", '["ann"]'), "different columns of one row merge"
    assert found["1F601"][1] == '["ann"]'
    assert found["1F602"][0] == "by ben"
    assert "1F603" not in found
    assert len(found) == len(rows(world, world.restored("emoji", 1), "emoji")["emoji"]) - 1

    assert world.sync("ben", "emoji").code == 0
    assert_in_step(world, db="emoji", host="ben")
    assert world.head("emoji") == 3


def test_two_members_and_a_busy_server_all_publish_ipm(copied: Copy) -> None:
    """Two folders and a server, one bucket: whoever comes second is rebased, and everybody's rows are there."""
    world = copied("team")
    with world.serving():
        with world.writing() as shadow:
            world.insert("ann", "from-ann")
            world.insert("ben", "from-ben")
            publish(world, "ann", holds=0)
            assert world.status("ben")["state"] == "outdated_db"
            publish(world, "ben", holds=0)
            publish(world, "prod")
            assert world.live("ann").name == "ipm-db-v2.db"
        last_sync(world, DISCONNECTS, shadow, ["from-ann", "from-ben"])
    for name in ("ann", "ben"):
        assert world.sync(name).code == 0
        assert_in_step(world, host=name)


@BOTH
def test_case_2_2_new_data_on_both_sides_under_one_number_is_refused(copied: Copy, host: str) -> None:
    world = copied("team")
    with world.serving(), world.writing() as shadow:
        # Somebody throws v1 away and publishes another v1, from another file.
        for name in [*world.bucket.list("ipm/commits"), *world.bucket.list("ipm/packs")]:
            world.bucket.delete(name)
        shutil.rmtree(world.folder("ben") / ".b2m")
        world.insert("ben", "another-v1")
        assert world.sync("ben").recap["to_version"] == 1
        before, pid = starts(world), world.port

        status = world.b2m("status", "--db", "ipm", "--host", host, "--json")
        assert (status.code, status.json[-1]["state"]) == (8, "refused")
        assert status.json[-1]["reason"] == "changed_under_number"
        done = world.sync(host)
        assert done.code == 8
        assert_told(done, "changed_under_number")
        assert done.recap["before"] == "refused"
        assert (done.recap["holds"], done.recap["tasks"]["changed"]) == (0, 0)
        assert (starts(world), world.port) == (before, pid)
    assert world.live(host).name == "ipm-db-v1.db"
    assert world.head() == 1
    assert_all_there(world, world.live(host), shadow)
    assert "another-v1" in world.slugs(world.restored())


def assert_told(done: Done, reason: str) -> None:
    """The refusal is on standard output, and the playbook's ``on_refused`` task said it."""
    (error,) = [line for line in done.json if line["type"] == "error"]
    assert (error["reason"], error["exit_code"]) == (reason, 8)
    (message,) = [line["text"] for line in done.json if line["type"] == "message"]
    assert message.endswith(f"refused: {error['text']}")


@BOTH
def test_case_3_nothing_happens_where_nothing_is_new(copied: Copy, host: str) -> None:
    world = copied("team")
    with world.serving():
        with world.writing() as shadow:
            pass
        last_sync(world, host, shadow)
        head, before = world.head(), starts(world)
        objects = world.bucket.list("")
        stat = world.live(host).stat()
        with polling(world, "/ipm") as seen:
            done = world.sync(host)
        recap = done.recap
        assert (done.code, recap["before"], recap["after"]) == (0, "up_to_date", "up_to_date")
        assert (recap["from_version"], recap["to_version"], recap["holds"], recap["bytes_up"]) == (head, head, 0, 0)
        assert recap["tasks"] == {"ok": 0, "changed": 0, "skipped": 0, "failed": 0, "undone": 0}
        assert seen.failures == []
        assert seen.sources["recent"] == 0
        assert starts(world) == before
        assert world.bucket.list("") == objects
        after = world.live(host).stat()
        assert (after.st_ino, after.st_mtime_ns, after.st_size) == (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        assert_in_step(world, host=host)
