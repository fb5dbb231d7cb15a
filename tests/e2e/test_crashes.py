"""kill -9 at every point, and at any moment: the server serves again by itself, and the next run loses nothing."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from b2m.versions import log
from tests.e2e.conftest import Copy
from tests.support.commands import started, sync_of
from tests.support.proof import assert_all_there
from tests.support.settings import trials
from tests.support.world import Done, World

BACK_WITHIN = 5.0  # seconds from a run's death until the server has its database again, with no next run


@dataclass(frozen=True)
class Case:
    """A command that is killed, on a host, and how the world is before; ``ci`` is how many of its points CI takes."""

    command: str
    host: str
    prepare: Callable[[World], None]
    ci: int


def nothing(world: World) -> None:
    """A file and an empty bucket."""


def published(world: World) -> None:
    with world.serving():
        assert world.sync("prod").code == 0


def rows_to_publish(world: World) -> None:
    """v1 is in the bucket, and the host has a row since."""
    published(world)
    world.insert("prod", "mine-before")


def outdated_and_dirty(world: World) -> None:
    """A member has published v2, and the host has a row since v1."""
    published(world)
    world.member("ann")
    world.insert("prod", "mine-before")
    world.insert("ann", "from-ann")
    assert world.sync("ann").code == 0


def keep_its_name(world: World) -> None:
    """Let ipm's file have a name without a version, which it keeps."""
    world.change("playbooks/ipm.yaml", "naming: versioned", "naming: stable")
    world.change("inventory.yaml", "ipm-db-v{version}.db", "ipm.db")
    world.live().rename(world.prod / "ipm.db")
    world.change("prod/dbs/db.toml", "ipm-db-v1.db", "ipm.db")


def outdated_and_dirty_in_place(world: World) -> None:
    keep_its_name(world)
    outdated_and_dirty(world)


def swapped_before(world: World) -> None:
    """A swap has put v2 live, v3 has been published from here, and the host has a row since."""
    outdated_and_dirty(world)
    with world.serving():
        assert world.post("w-published") == 201  # and the server's counter with it
        assert world.sync("prod").code == 0
    world.insert("prod", "mine-after")


def empty_folder(world: World) -> None:
    published(world)
    world.folder("ann").mkdir(parents=True)


CASES = {
    "first publish": Case("sync", "prod", nothing, ci=4),
    "publish and rename": Case("sync", "prod", rows_to_publish, ci=8),
    "outdated and dirty": Case("sync", "prod", outdated_and_dirty, ci=10),
    "outdated and dirty, stop and start": Case("sync", "prod-stop", outdated_and_dirty, ci=5),
    "outdated and dirty, in place": Case("sync", "prod", outdated_and_dirty_in_place, ci=6),
    "into an empty folder": Case("sync", "ann", empty_folder, ci=3),
    "rollback": Case("rollback", "prod", swapped_before, ci=4),
}


def run(world: World, case: Case, **env: str) -> Done:
    return world.b2m(case.command, "--db", "ipm", "--host", case.host, "--json", env=env)


def points_of(world: World, case: Case) -> list[str]:
    """Return every point that the case's run passes, one passed again as ``name#2``."""
    passed = world.root / "points"
    with world.serving(), world.writing():
        assert run(world, case, B2M_FAULT="none", B2M_FAULT_LOG=str(passed)).code == 0
    seen: Counter[str] = Counter()
    points = []
    for name in passed.read_text().split():
        seen[name] += 1
        points.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return points


def spread(points: list[str], count: int) -> list[str]:
    """Return so many of the points, spread over the run, always the same ones."""
    if count >= len(points):
        return points
    return [points[(2 * index + 1) * len(points) // (2 * count)] for index in range(count)]


def assert_converged(world: World, shadow: Path, *more: str, host: str = "prod") -> None:
    """With the writer stopped one more sync, and then the newest version has every row once, and nothing is left."""
    done = world.sync(host)
    assert done.code == 0, done
    assert world.status(host)["state"] == "up_to_date"
    assert log.numbers(world.bucket, "ipm") == list(range(1, world.head() + 1))
    assert_all_there(world, world.restored(), shadow, more)
    assert_all_there(world, world.live("prod"), shadow)
    state = world.folder(host) / ".b2m" / "ipm"
    assert list((state / "work").iterdir()) == []
    assert not (state / "journal.jsonl").exists()
    assert json.loads((state / "anchor.json").read_bytes())["number"] == world.head()


@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_point(world: World, name: str) -> None:
    case = CASES[name]
    case.prepare(world)
    world.save()
    points = points_of(world, case)
    chosen = spread(points, trials(case.ci, len(points)))
    members_rows = [slug for slug in ("from-ann", "mine-before", "mine-after") if slug in world.slugs(world.restored())]
    for point in chosen:
        world.server("stop")
        world.restore()
        before = world.head()
        with world.serving():
            with world.writing() as shadow:
                killed = run(world, case, B2M_FAULT=point)
                assert killed.code == -signal.SIGKILL, (point, killed)
                assert world.serves_within(BACK_WITHIN), point
                done = world.sync(case.host)
                assert done.code == 0, (point, done)
                assert done.recap["after"] in ("up_to_date", "ready_to_upload"), (point, done.recap)
                assert before <= world.head() <= before + 2, point
            if case.host == "ann":
                assert world.sync("prod").code == 0
            if case.prepare is swapped_before:
                shadow.write_text(shadow.read_text() + "w-published\n")
            try:
                assert_converged(world, shadow, *members_rows, host=case.host)
            except AssertionError as error:
                raise AssertionError(f"killed at {point}: {error}") from error


@pytest.mark.parametrize("seed", range(trials(1, 6)))
def test_killed_at_random_moments(copied: Copy, seed: int) -> None:
    """A world in which kills, members' versions and the server's rows pile up; 300 kills in six of them in full."""
    chance = random.Random(20260217 + seed)
    kills = trials(40, 50)
    world = copied("behind")
    published = {"from-ann"}
    killed = 0
    with world.serving():
        with world.writing() as shadow:
            began = time.monotonic()
            assert world.sync().code == 0
            length = time.monotonic() - began
            for number in range(kills):
                if number % 2:
                    assert world.sync("ann").code == 0
                    world.insert("ann", f"ann-{number}")
                    assert world.sync("ann").code == 0, number
                    published.add(f"ann-{number}")
                with started(world, *sync_of()) as process:
                    time.sleep(chance.uniform(0.2, 1.1) * length)
                    process.kill()
                    killed += process.wait() == -signal.SIGKILL
                assert world.serves_within(BACK_WITHIN), number
                done = world.sync()
                assert done.code == 0, (number, done)
                assert done.recap["after"] in ("up_to_date", "ready_to_upload"), (number, done.recap)
                assert log.numbers(world.bucket, "ipm") == list(range(1, world.head() + 1))
        assert_converged(world, shadow, *published)
    assert killed > kills // 3
