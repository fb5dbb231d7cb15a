"""Two runs at the same moment: each number is published once, none is skipped, and nobody loses a row."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time

import pytest

from b2m.versions import log
from tests.e2e.conftest import Copy
from tests.support.proof import assert_all_there, assert_in_step
from tests.support.settings import trials
from tests.support.world import Done, World

WAIT = ("--wait", "60s")


def at_once(world: World, *runs: tuple[str, ...], wait: bool) -> list[Done]:
    """Start several syncs, each of a host or with more arguments, and wait for all of them."""
    more = WAIT if wait else ()
    started = [world.start_b2m("sync", "--json", "--db", "ipm", "--host", *run, *more) for run in runs]
    return [ended(process) for process in started]


def refused_by_a_lock(done: Done) -> bool:
    """Tell whether a run found the database locked and changed nothing; any other end but success is a failure."""
    if done.code == 0:
        return False
    assert done.code == 4, done
    (error,) = [line for line in done.json if line["type"] == "error"]
    assert error["error"] == "Locked"
    recaps = [line for line in done.json if line["type"] == "recap"]
    assert all(recap["tasks"]["changed"] == recap["holds"] == 0 for recap in recaps)
    return True


@pytest.mark.parametrize("wait", [False, True], ids=["without --wait", "with --wait"])
def test_two_members_publish_at_the_same_moment(copied: Copy, wait: bool) -> None:
    world, names = copied("team"), ("ann", "ben")
    wanted = set()
    for number in range(trials(5, 25)):
        for name in names:
            world.insert(name, f"{name}-{number}")
            wanted.add(f"{name}-{number}")
        before = world.head()
        done = at_once(world, *((name,) for name in names), wait=wait)
        locked = [name for name, each in zip(names, done, strict=True) if refused_by_a_lock(each)]
        assert len(locked) < 2, "one of the two works"
        assert not (wait and locked), "who waits gets its turn"
        assert world.head() == before + 2 - len(locked)
        for name in locked:
            assert world.sync(name).code == 0
        assert log.numbers(world.bucket, "ipm") == list(range(1, before + 3))
    for name in names:
        assert world.sync(name).code == 0
        assert_in_step(world, host=name)
    assert wanted <= world.slugs(world.restored())
    commits = log.history(world.bucket, "ipm", None)
    assert len({commit.run for commit in commits}) == len(commits), "no run publishes twice"


@pytest.mark.parametrize("wait", [False, True], ids=["without --wait", "with --wait"])
def test_a_server_and_a_member_publish_at_the_same_moment(copied: Copy, wait: bool) -> None:
    world, wanted = copied("team"), []
    with world.serving():
        with world.writing() as shadow:
            for number in range(trials(2, 10)):
                wanted.append(f"ann-{number}")
                world.insert("ann", wanted[-1])
                before = world.head()
                done = at_once(world, ("prod",), ("ann",), wait=wait)
                locked = [refused_by_a_lock(each) for each in done]
                assert not all(locked)
                assert not (wait and any(locked))
                assert log.numbers(world.bucket, "ipm") == list(range(1, before + 3 - sum(locked)))
                for host, missed in zip(("prod", "ann"), locked, strict=True):
                    assert not missed or world.sync(host).code == 0
        assert world.sync("prod").code == 0
        assert_in_step(world)
        assert_all_there(world, world.restored(), shadow, wanted)


@pytest.mark.parametrize("wait", [False, True], ids=["without --wait", "with --wait"])
def test_two_runs_on_one_host_at_the_same_moment(copied: Copy, wait: bool) -> None:
    world = copied("team")
    with world.serving():
        with world.writing() as shadow:
            for _ in range(trials(2, 10)):
                before = world.head()
                done = at_once(world, ("prod",), ("prod",), wait=wait)
                locked = [refused_by_a_lock(each) for each in done]
                assert not all(locked)
                assert not (wait and any(locked))
                published = world.head() - before
                assert 1 <= published <= 2 - sum(locked)
                assert log.numbers(world.bucket, "ipm") == list(range(1, before + published + 1))
        assert world.sync("prod").code == 0
        assert_in_step(world)
        assert_all_there(world, world.live(), shadow)
        assert_all_there(world, world.restored(), shadow)


class Held:
    """A sync of a member that carries rows onto a newer version, and stays in its hold until it is told to go on."""

    def __init__(self, world: World, host: str) -> None:
        began, self._go = world.root / "held", world.root / "go"
        start = f"      {host}:\n        folder: {host}/dbs\n"
        plain = f"{start}        databases:\n          ipm: {{}}\n          emoji: {{}}\n"
        slow = (
            f"{start}        services:\n          slow:\n"
            f'            stop: "touch {began.name}; until [ -e {self._go.name} ]; do sleep 0.02; done"\n'
            f'            start: "true"\n            stop_timeout: 120s\n'
            f"        databases:\n          ipm:\n            service: slow\n"
            f"          emoji:\n            service: null\n"
        )
        world.change("inventory.yaml", plain, slow)
        world.insert(host, f"from-{host}")
        self.process = world.start_b2m("sync", "--json", "--db", "ipm", "--host", host)
        until = time.monotonic() + 60
        while not began.exists() and self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert began.exists(), self.process.communicate()

    def go_on(self) -> Done:
        """Let it end."""
        self._go.touch()
        return ended(self.process)


def ended(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


@pytest.fixture
def outdated(copied: Copy) -> World:
    """ann starts from v1; v2, which is ben's, is in the bucket."""
    world = copied("team")
    world.insert("ben", "the-second-version")
    assert world.sync("ben").recap["to_version"] == 2
    return world


def test_a_run_that_finds_the_lease_taken_says_who_has_it_and_leaves(outdated: World) -> None:
    world = outdated
    held = Held(world, "ann")
    try:
        world.insert("ben", "from-ben")
        assert world.status("ben")["state"] == "locked"
        lease = world.status("ben")["lease"]
        assert (lease["host"], lease["reason"]) == ("ann", "sync")
        done = world.sync("ben")
        assert refused_by_a_lock(done)
        assert [line["text"] for line in done.json if line["type"] == "error"] == [
            f"ipm is being changed by {lease['owner']} since {lease['since']}: try again later, or look with: "
            "b2m locks --db ipm"
        ]
        assert done.recap["exit_code"] == 4
        assert world.head() == 2
        waiting = world.start_b2m("sync", "--json", "--db", "ipm", "--host", "ben", *WAIT)
    finally:
        first = held.go_on()
    second = ended(waiting)
    assert (first.code, second.code) == (0, 0), (first, second)
    assert log.numbers(world.bucket, "ipm") == [1, 2, 3, 4]
    assert {"from-ann", "from-ben", "the-second-version"} <= world.slugs(world.restored())


def test_a_second_run_on_the_same_host_leaves_or_waits(outdated: World) -> None:
    world = outdated
    held = Held(world, "ann")
    try:
        done = world.sync("ann")
        assert refused_by_a_lock(done)
        (text,) = [line["text"] for line in done.json if line["type"] == "error"]
        assert f"(pid {held.process.pid} on this host)" in text
        waiting = world.start_b2m("sync", "--json", "--db", "ipm", "--host", "ann", *WAIT)
    finally:
        first = held.go_on()
    second = ended(waiting)
    assert (first.code, second.code) == (0, 0), (first, second)
    assert second.recap["after"] == "up_to_date"
    assert log.numbers(world.bucket, "ipm") == [1, 2, 3]


def test_a_run_whose_lease_was_broken_stops_before_it_changes_anything(outdated: World) -> None:
    world = outdated
    live = world.live("ann")
    held = Held(world, "ann")
    try:
        assert world.b2m("unlock", "--db", "ipm").code == 1
        assert world.status("ben")["lease"] is not None, "without --force nothing is broken"
        assert world.b2m("unlock", "--db", "ipm", "--force").code == 0
        assert world.status("ben")["lease"] is None
        world.insert("ben", "from-ben")
        assert world.sync("ben").recap["to_version"] == 3
    finally:
        done = held.go_on()
    assert done.code == 9, done
    assert [line["error"] for line in done.json if line["type"] == "error"] == ["LeaseLost"]
    assert (world.live("ann"), world.head()) == (live, 3)
    assert "from-ann" in world.slugs(live)
    world.change("inventory.yaml", "service: slow", "service: null")
    assert world.sync("ann").recap["to_version"] == 4
    assert {"from-ann", "from-ben", "the-second-version"} <= world.slugs(world.restored())
    assert_in_step(world, host="ann")


@pytest.fixture
def died(outdated: World) -> World:
    """ann's run was killed while it had the lease, which it had promised to renew every second."""
    outdated.change("playbooks/ipm.yaml", "max_downtime: 5s", "max_downtime: 5s\n  lease_ttl: 3s")
    outdated.insert("ann", "from-ann")
    outdated.insert("ben", "from-ben")
    killed = outdated.sync("ann", env={"B2M_FAULT": "before-task:1:download"})
    assert killed.code == -signal.SIGKILL, killed
    return outdated


def test_a_dead_runs_own_host_takes_its_lease_over_at_once(died: World) -> None:
    assert died.sync("ann").recap["to_version"] == 3
    assert "from-ann" in died.slugs(died.restored())


def test_a_copied_folder_is_another_host_s(outdated: World) -> None:
    """As if a dead run's folder was copied, with all that b2m keeps there: what it holds is not the copy's."""
    world = outdated
    world.insert("ann", "from-ann")
    killed = world.sync("ann", env={"B2M_FAULT": "before-task:1:download"})
    assert killed.code == -signal.SIGKILL, killed
    shutil.rmtree(world.folder("ben"))
    shutil.copytree(world.folder("ann"), world.folder("ben"), symlinks=True)
    lease = world.status("ben")["lease"]
    for _ in range(2):
        assert refused_by_a_lock(world.sync("ben")), "it may still be alive"
        assert world.status("ben")["lease"]["since"] == lease["since"]
    done = world.sync("ann")
    assert done.code == 0, done
    assert done.recap["to_version"] == 3
    assert world.status("ben")["lease"] is None


@pytest.mark.parametrize("wait", [False, True], ids=["without --wait", "with --wait"])
def test_others_take_a_dead_runs_lease_over_when_they_have_seen_no_sign_of_life(died: World, wait: bool) -> None:
    assert refused_by_a_lock(died.sync("ben")), "it may still be alive"
    assert died.status("ben")["state"] == "locked"
    done = died.sync("ben", "ipm", *WAIT) if wait else died.sync("ben")
    until = time.monotonic() + 60
    while not wait and refused_by_a_lock(done) and time.monotonic() < until:
        done = died.sync("ben")  # as cron would
    assert done.code == 0, done
    assert done.recap["to_version"] == 3
    assert died.sync("ann").recap["to_version"] == 4
    assert {"from-ann", "from-ben"} <= died.slugs(died.restored())
