"""Service commands that misbehave, and b2m processes that are stopped, killed and watched on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.world import Done, World

PATIENCE = 60.0  # seconds after which something that should happen is called missing; never waited for in full


def script(world: World, verb: str, *, before: str = "true", after: str = "true") -> None:
    """Let shell lines run before and after a service command of host prod, ``verb`` of its inventory.

    In them ``$calls`` counts the calls of this command, from 1.
    """
    inventory = (world.root / "inventory.yaml").read_text()
    found = re.search(rf'\b{verb}: "(.*)"', inventory)
    assert found
    if not found[1].startswith("sh "):
        command = re.sub(r"\{\{ db.name \}\}", "$1", found[1])
        (world.root / f"{verb}.real").write_text(command)
        inventory = inventory.replace(found[0], f'{verb}: "sh {verb}.sh {{{{ db.name }}}}"', 1)
        (world.root / "inventory.yaml").write_text(inventory)
    real = (world.root / f"{verb}.real").read_text()
    counted = f"echo x >> {verb}.calls; calls=$(wc -l < {verb}.calls)"
    (world.root / f"{verb}.sh").write_text(f"{counted}\n{before}\n{real} || exit 1\n{after}\n")


def wait_for(what: Callable[[], bool], text: str) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, f"it never happened that {text}"
        time.sleep(0.01)


@contextmanager
def started(world: World, *args: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run b2m in a process group of its own while the block lasts."""
    process = subprocess.Popen(
        world.command(*args),
        cwd=world.root,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for a b2m that was started."""
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)


def sync_of(host: str = "prod") -> tuple[str, ...]:
    return ("sync", "--db", "ipm", "--host", host, "--json")


@contextmanager
def stopped_at(world: World, point: str, *, host: str = "prod", **env: str) -> Iterator[subprocess.Popen[str]]:
    """Start a sync that stops itself at a point, and wait until it has."""
    with started(world, *sync_of(host), env={"B2M_FAULT": f"stop:{point}", **env}) as process:
        wait_for(lambda: process.poll() is not None or state_of(process.pid) == "T", f"b2m reached {point}")
        assert process.poll() is None, f"b2m ended before {point}: {ended(process)}"
        yield process


def state_of(pid: int) -> str:
    """Return a process's state as /proc has it: R, S, T for stopped, Z; empty if it is gone."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    found = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [each for each in found if (fields := _stat(each)) and int(fields[1]) == pid and fields[0] != "Z"]


def guard_of(pid: int) -> int:
    """Return the process id of a run's guard."""
    (guard,) = [each for each in children(pid) if b"b2m.hosts.guard" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return guard


def events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Yield what a b2m with --json prints, as it prints it."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
