"""A cheap answer to "was this file written since?": no SQLite, no open of the database."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SETTLE_NS = 1_000_000_000
_WAL_HEADER = 32


@dataclass(frozen=True)
class Signature:
    """Identity, sizes (bytes) and mtimes (ns) of a database and its WAL, and the WAL's header with its salts."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    wal_size: int
    wal_mtime_ns: int
    wal_header: str
    journal: bool

    def settled(self, now_ns: int) -> bool:
        """Say whether equal signatures prove equal content.

        False if an mtime is less than a second before `now_ns` (or after it): a write in the same clock tick
        would leave the signature as it is.
        """
        return now_ns - max(self.mtime_ns, self.wal_mtime_ns) >= SETTLE_NS

    def to_json(self) -> str:
        """Write as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """Read what to_json wrote."""
        return cls(**json.loads(text))


def signature(path: Path) -> Signature | None:
    """Take a file's signature; None if there is no file.

    Only the -wal is opened: opening and closing the database or its -shm would drop this process's SQLite locks.
    """
    path = Path(path).resolve()
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    wal_size, wal_mtime_ns, wal_header = _look_at_wal(Path(f"{path}-wal"))
    journal = Path(f"{path}-journal").exists()
    return Signature(
        found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, wal_size, wal_mtime_ns, wal_header, journal
    )


def _look_at_wal(wal: Path) -> tuple[int, int, str]:
    try:
        fd = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0, 0, ""
    try:
        found = os.fstat(fd)
        # An empty -wal comes and goes with every look at the database; it says nothing.
        if found.st_size == 0:
            return 0, 0, ""
        return found.st_size, found.st_mtime_ns, os.pread(fd, _WAL_HEADER, 0).hex()
    finally:
        os.close(fd)
