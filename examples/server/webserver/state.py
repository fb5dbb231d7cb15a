"""The state folder: what outlives the server's process.

``server.lock``        held (flock) as long as a server lives
``server.json``        pid, start time, port and admin token of the newest server; the port is asked for again next time
``<db>.disconnected``  exists while the database must not be opened, also by a server that starts meanwhile
``<db>.queue``         inserts that were acknowledged while the database was disconnected
``server.id``          names this server in rows that only it writes
``server.log``         what a server started with ``start`` says
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerProcess:
    """A server as it described itself in server.json."""

    pid: int
    start_time: int | None
    port: int
    token: str
    folder: str


class AlreadyRunning(Exception):
    """Another process holds the state folder's lock."""


class State:
    """One server's state folder; created when first used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that may change this folder; AlreadyRunning if there is one."""
        fd = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(str(self.folder)) from None
            yield
        finally:
            os.close(fd)

    def newest(self) -> ServerProcess | None:
        """What the newest server wrote about itself, be it alive or not."""
        try:
            return ServerProcess(**json.loads((self.folder / "server.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def running(self) -> ServerProcess | None:
        """The server that is alive now. A process number that was given away again is not taken for it."""
        process = self.newest()
        if process is None or not alive(process.pid):
            return None
        return process if process.start_time == start_time(process.pid) else None

    def announce(self, port: int, folder: Path) -> ServerProcess:
        """Write server.json for this process."""
        process = ServerProcess(
            os.getpid(), start_time(os.getpid()), port, secrets.token_urlsafe(24), str(folder.resolve())
        )
        write_durably(self.folder / "server.json", json.dumps(asdict(process)) + "\n")
        return process

    def server_id(self) -> str:
        """The name under which this server counts; made once, at random, so that no two servers share it."""
        path = self.folder / "server.id"
        if not path.exists():
            write_durably(path, secrets.token_hex(4) + "\n")
        return path.read_text().strip()

    def queue_path(self, db: str) -> Path:
        return self.folder / f"{db}.queue"

    def is_disconnected(self, db: str) -> bool:
        return self._marker(db).exists()

    def mark_disconnected(self, db: str) -> None:
        """From now on no server that uses this folder opens the database, durably."""
        write_durably(self._marker(db), "")

    def mark_connected(self, db: str) -> None:
        self._marker(db).unlink(missing_ok=True)
        sync_folder(self.folder)

    def _marker(self, db: str) -> Path:
        return self.folder / f"{db}.disconnected"


def write_durably(path: Path, text: str) -> None:
    """Replace a file by `text` (readable by the owner only): after a crash it is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the creation, renaming and removal of files in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def alive(pid: int) -> bool:
    """Whether the process runs; a dead one that nobody has reaped (in a container without init) does not."""
    fields = _proc_stat(pid)
    if fields is not None:
        return fields[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path("/proc/self/stat").exists()


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None where there is no /proc."""
    fields = _proc_stat(pid)
    return int(fields[19]) if fields is not None else None


def _proc_stat(pid: int) -> list[str] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name stands in parentheses and may hold spaces and parentheses: count from the last one.
    return stat.rpartition(")")[2].split()
