"""Looking changes nothing, down to the nanosecond of a file's time; and the plan is what a sync then does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Copy
from tests.support.world import World

COMMANDS = (["sync", "--check"], ["status"], ["plan"], ["diff"])
Picture = dict[str, tuple[int, bytes]]


def seen(world: World, host: str) -> Picture:
    """Return time and content of the bucket's files and of the host's, without what only says that somebody looked."""
    folder = world.folder(host)
    found: Picture = {}
    for path in [*sorted((world.root / "bucket").rglob("*")), *sorted(folder.rglob("*"))]:
        name = path.relative_to(world.root).as_posix()
        wal = path.name.endswith("-wal") and path.exists() and path.stat().st_size == 0
        if path.is_file() and not wal and path.suffix != ".db-shm" and path.name != "verdict.json":
            found[name] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


@contextmanager
def served(world: World) -> Iterator[None]:
    """WAL, the server running with what it wrote still in the -wal."""
    with world.serving():
        world.post("through-the-server")
        wal = world.prod / f"{world.live().name}-wal"
        assert wal.stat().st_size > 0
        yield


@contextmanager
def wal_cleanly_closed(world: World) -> Iterator[None]:
    """WAL, and everybody closed it."""
    with world.serving():
        world.post("through-the-server")
    assert not (world.prod / f"{world.live().name}-wal").exists()
    yield


@contextmanager
def rollback_journal(world: World) -> Iterator[None]:
    """A file in rollback-journal mode."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA journal_mode = DELETE'); "
        "c.execute(\"UPDATE ipm_data SET summary = 'x' WHERE slug = '1.0'\"); c.commit()"
    )
    subprocess.run([sys.executable, "-c", program, str(world.live())], check=True)
    yield


@contextmanager
def leftover_wal(world: World) -> Iterator[None]:
    """What a killed server leaves: committed rows in a -wal, and nobody there."""
    program = (
        "import os, signal, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute(\"UPDATE ipm_data SET summary = 'x' WHERE slug = '1.0'\"); c.commit(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(world.live())], check=False)
    assert (world.prod / f"{world.live().name}-wal").stat().st_size > 0
    yield


MODES = [served, wal_cleanly_closed, rollback_journal, leftover_wal]


@pytest.mark.parametrize("outdated", [False, True], ids=["ready", "outdated"])
@pytest.mark.parametrize("mode", MODES)
def test_looking_changes_neither_content_nor_time(
    mode: Callable[[World], Iterator[None]], outdated: bool, copied: Copy
) -> None:
    world = copied("behind" if outdated else "team")
    with mode(world):  # type: ignore[attr-defined]
        assert world.status()["state"] == ("outdated_db" if outdated else "ready_to_upload")
        before = seen(world, "prod")
        for command in COMMANDS:
            code = {"status": 0, "diff": 0}.get(command[0], 10)
            done = world.b2m(*command, "--db", "ipm", "--host", "prod")
            assert (command, done.code) == (command, code), done
            after = seen(world, "prod")
            assert after.keys() == before.keys()
            changed = [name for name in before if after[name] != before[name]]
            assert changed == [], command


@pytest.mark.parametrize("mode", MODES[1:])
def test_looking_at_a_host_that_was_never_synced_leaves_no_trace(
    mode: Callable[[World], Iterator[None]], tmp_path: Path
) -> None:
    world = World(tmp_path / "new")
    with mode(world):  # type: ignore[attr-defined]
        before = seen(world, "prod")
        for command, code in (["sync", "--check"], 10), (["status"], 0), (["plan"], 10), (["diff"], 8):
            assert world.b2m(*command, "--db", "ipm", "--host", "prod").code == code
            assert seen(world, "prod") == before


def test_without_work_a_check_exits_0(copied: Copy) -> None:
    world = copied("team")
    before = seen(world, "ann")
    for command in (["sync", "--check"], ["plan"]):
        assert world.b2m(*command, "--db", "ipm", "--host", "ann").code == 0
    assert seen(world, "ann") == before


def test_of_several_databases_the_worst_decides(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "one more")
    assert world.b2m("sync", "--check", "--db", "all", "--host", "ann").code == 10
    world.live("ann", "emoji").unlink()
    assert world.b2m("sync", "--check", "--db", "all", "--host", "ann").code == 8


def planned(world: World, host: str) -> list[tuple[str, str]]:
    done = world.b2m("plan", "--db", "ipm", "--host", host, "--json")
    steps = next(line for line in done.json if line["type"] == "plan")["steps"]
    return [(step["name"], step["module"]) for step in steps if step["skip"] is None]


def done_by(out: str) -> list[tuple[str, str]]:
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [(event["name"], event["module"]) for event in events if event.get("status") == "started"]


@pytest.mark.parametrize("case", ["ready", "outdated and clean", "outdated and dirty", "first", "nothing here yet"])
def test_the_plan_names_the_tasks_that_a_sync_then_runs(case: str, copied: Copy, tmp_path: Path) -> None:
    host = "ann" if case == "ready" else "ben"
    if case == "first":
        world, host = World(tmp_path / "new"), "prod"
    else:
        world = copied("behind" if case.startswith("outdated") else "team")
    if case in ("ready", "outdated and dirty"):
        world.insert(host, "one more")
    if case == "nothing here yet":
        for path in (*world.folder("ben").glob("ipm*"), world.folder("ben") / "db.toml"):
            path.unlink()
        for path in (world.folder("ben") / ".b2m" / "ipm").glob("anchor*"):
            path.unlink()
    expected = planned(world, host)
    assert expected, "there is work"
    done = world.sync(host)
    assert done.code == 0, done
    assert done_by(done.out) == expected
    assert planned(world, host) == []
