"""The lock that makes all changes of one database on one host come one after the other.

It is an ``flock``: it belongs to the open file, dies with its last holder, and is handed to the guard without a gap.
Never unlock or unlink it by hand.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from b2m.errors import Locked
from b2m.hosts.place import read_json

LOOK = 0.2  # seconds in which whoever only looks at the lock, for an instant, has let go of it
DEAD_RUN_GRACE = 30.0  # seconds that a guard may need to settle what its dead run left


@dataclass(frozen=True)
class Holder:
    """The run that holds a host's lock, or whose guard does; ``since`` is ISO 8601 in UTC."""

    run: str
    pid: int | None
    since: str

    def __str__(self) -> str:
        return f"run {self.run} (pid {self.pid or '?'} on this host)"


def holder(path: Path) -> Holder | None:
    """Return who holds the lock, None if it is free; looking does not take it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # A shared lock, given back at once: it excludes no other who only looks.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(_read(fd))
    else:
        return None
    finally:
        os.close(fd)


def alive(path: Path) -> bool:
    """Tell whether the process that last took the lock still runs; its guard may hold the lock after it."""
    note = read_json(path)
    return note is not None and _alive(note)


def _named(note: dict[str, object]) -> Holder:
    pid = note.get("pid")
    since = str(note.get("since", "a moment ago"))
    return Holder(str(note.get("run", "unknown")), pid if isinstance(pid, int) else None, since)


class HostLock:
    """The held lock; ``fd`` is what the guard inherits."""

    def __init__(self, path: Path, db: str, run: str, *, wait: float = 0.0) -> None:
        """Take the lock, waiting at most ``wait`` seconds, longer only for the guard of a dead run; else Locked."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                note = _read(self.fd)
                patience = max(wait, LOOK if _alive(note) else DEAD_RUN_GRACE)
                if time.monotonic() - began >= patience:
                    os.close(self.fd)
                    found = _named(note)
                    raise Locked(db=db, owner=found, since=found.since) from None
                time.sleep(0.05)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        mine = json.dumps({"run": run, "pid": os.getpid(), "started": _started(os.getpid()), "since": since}).encode()
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, mine, 0)

    def close(self) -> None:
        os.close(self.fd)


def _read(fd: int) -> dict[str, object]:
    try:
        data = json.loads(os.pread(fd, 4096, 0))
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _alive(note: dict[str, object]) -> bool:
    pid = note.get("pid")
    if not isinstance(pid, int):
        return False  # nobody yet: whoever has it is about to say so, or only looks
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return note.get("started") == _started(pid)


def _started(pid: int) -> str | None:
    """A process's start time in clock ticks, which tells it from a later one with its pid; None off Linux."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
