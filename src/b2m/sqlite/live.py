"""The one connection to the file that the server writes.

It is kept from the first look until the swap: data_version only tells about other people's commits to the connection
that asks, and opening the file anew (even to hash it) would drop SQLite's locks in this process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import apsw

from b2m.errors import Unreadable
from b2m.sqlite.connect import Tick, explained, require_rows, tick, uri, watch


class LiveFile:
    """A live database, opened without changing it: neither content nor time stamp of the file and of a non-empty WAL.

    `path` is resolved through symlinks, `writable` is False where we may only read. Raises Unreadable.
    """

    def __init__(self, path: Path, db: str, *, tick: Tick = tick, busy_timeout_ms: int = 5000) -> None:
        self.path = Path(path).resolve()
        self.db = db
        self._depth = 0
        self._whole = False
        self._closed = False
        self.writable = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        flags = apsw.SQLITE_OPEN_READWRITE if self.writable else apsw.SQLITE_OPEN_READONLY
        with explained(db, self.path):
            # mode=rw: never create. A missing live file must stay missing.
            name = uri(self.path, mode="rw" if self.writable else "ro")
            self.conn = apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_URI)
            try:
                watch(self.conn, tick)
                self.conn.set_busy_timeout(busy_timeout_ms)
                self.conn.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                self.conn.pragma("wal_autocheckpoint", 0)
                require_rows(self.conn, db, self.path)
                self.identity = self._identity()
            except BaseException:
                self.close()
                raise

    def _identity(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def same_file(self) -> bool:
        """Say whether the path still names the file that is open here."""
        try:
            return self._identity() == self.identity
        except FileNotFoundError:
            return False

    def version(self) -> int:
        """Return data_version: another number after any commit by another connection, not after our own.

        Inside :meth:`reading` it is the version being read.
        """
        with explained(self.db, self.path):
            return int(self.conn.pragma("data_version"))

    def journal_mode(self) -> str:
        """Return "wal", "delete", ..."""
        with explained(self.db, self.path):
            return str(self.conn.pragma("journal_mode"))

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Read one state of the database: everything in the bracket sees the same commit. May be nested."""
        if self._depth == 0:
            self._begin()
        self._depth += 1
        try:
            with explained(self.db, self.path):
                yield self.conn
        finally:
            self._depth -= 1
            if self._depth == 0 and self.conn.in_transaction:
                self.conn.execute("ROLLBACK")

    def _begin(self) -> None:
        with explained(self.db, self.path):
            if self.conn.in_transaction:
                self.conn.execute("ROLLBACK")  # a signal came between a BEGIN and its bracket
            whole_at = self._backfilled_version()
            self.conn.execute("BEGIN")
            try:
                self.conn.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
                if self.conn.pragma("journal_mode") == "wal":
                    self._whole = whole_at is not None and self.conn.pragma("data_version") == whole_at
                else:
                    self._whole = True
            except BaseException:
                if self.conn.in_transaction:
                    self.conn.execute("ROLLBACK")
                raise

    def _backfilled_version(self) -> int | None:
        """The version at which every WAL frame was in the main file; None if some frame is not."""
        version = int(self.conn.pragma("data_version"))
        try:
            row = self.conn.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
        except apsw.Error:
            return None
        return version if row is not None and row[0] == 0 and row[1] == row[2] else None

    @property
    def is_reading(self) -> bool:
        """Whether a reading() bracket is open."""
        return self._depth > 0

    @property
    def in_main_file(self) -> bool:
        """Inside :meth:`reading`: whether the main file alone holds all that is being read, nothing in the WAL.

        It stays so until the bracket ends: checkpoints write only frames that it holds already, and a checkpoint
        of newer frames has to wait for this reader.
        """
        return self._depth > 0 and self._whole

    def read_main_file(self, offset: int, amount: int) -> bytes:
        """Read raw bytes of the main file through SQLite's own file handle, so no lock is dropped."""
        return self.conn.read("main", 0, offset, amount)[1]

    def sidecars(self) -> list[Path]:
        """Name the files that SQLite may keep beside it: -wal, -shm, -journal."""
        return sidecars(self.path)

    def close(self) -> None:
        """Close; never checkpoints a WAL that has content, removes an empty one as SQLite does."""
        if self._closed:
            return
        self._closed = True
        wal = Path(f"{self.path}-wal")
        if not wal.exists() or wal.stat().st_size == 0:
            self.conn.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self.conn.close()

    def __enter__(self) -> LiveFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def sidecars(path: Path) -> list[Path]:
    """Name the files that SQLite may keep beside a database."""
    return [Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def require_writable(live: LiveFile) -> None:
    """Raise Unreadable if this user may not write the live file."""
    if not live.writable:
        raise Unreadable(db=live.db, path=live.path, what="is not writable by this user")
