"""The 100-byte header of a database file (https://www.sqlite.org/fileformat.html), read without SQLite.

Reading a file in this way closes it again, and with it drops every POSIX lock that this process holds on it:
only for files that nobody writes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from b2m.errors import Unreadable

MAGIC = b"SQLite format 3\x00"
SIZE = 100
_ENCODINGS = {0: "UTF-8", 1: "UTF-8", 2: "UTF-16le", 3: "UTF-16be"}


@dataclass(frozen=True)
class Header:
    """What a file says about itself; `page_count` is computed from `size` (bytes)."""

    page_size: int
    page_count: int
    wal: bool
    encoding: str
    size: int


def parse(head: bytes, size: int) -> Header | None:
    """Read the header out of a file's first bytes; None if they do not begin a database."""
    if len(head) < SIZE or not head.startswith(MAGIC):
        return None
    page_size = int.from_bytes(head[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    if page_size < 512 or page_size & (page_size - 1):
        return None
    encoding = _ENCODINGS.get(int.from_bytes(head[56:60], "big"), "UTF-8")
    return Header(page_size, size // page_size, head[18] == 2, encoding, size)


def read_header(path: Path) -> Header | None:
    """Read the header of a static file; None if it is no database."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return parse(os.pread(fd, SIZE, 0), os.fstat(fd).st_size)
    finally:
        os.close(fd)


def require_header(path: Path, db: str) -> Header:
    """Read the header of a static file that must be a database. Raises Unreadable."""
    try:
        found = read_header(path)
    except OSError as error:
        raise Unreadable(db=db, path=path, what=error.strerror or str(error)) from error
    if found is None:
        raise Unreadable(db=db, path=path, what="is not an SQLite database")
    return found


def set_journal_bytes(path: Path, *, wal: bool) -> None:
    """Mark a static file as a WAL or a rollback-journal database.

    Two bytes instead of ``PRAGMA journal_mode``: nothing else in the file changes, so equal rows stay equal pages.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(fd, b"\x02\x02" if wal else b"\x01\x01", 18)
        os.fsync(fd)
    finally:
        os.close(fd)
