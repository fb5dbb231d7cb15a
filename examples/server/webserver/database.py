"""The connections to one SQLite file, and the gate through which all of them can be closed.

One connection writes, a few read. A request borrows a connection for as long as its statements take; ``stop_writing``
and ``stop_reading`` let nobody in any more, wait for those inside and close everything. The last close checkpoints
the WAL and removes ``-wal`` and ``-shm``.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BUSY_TIMEOUT_S = 5.0
MAX_READERS = 16
DRAIN_S = 5.0


class Disconnected(Exception):
    """The database is not open here."""


class StillInUse(Exception):
    """A statement did not end, even interrupted."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open an existing database: a missing file is an error, never a new and empty database."""
    uri = f"file:{urllib.parse.quote(str(path.resolve()))}?mode=rw"
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
    try:
        mode = conn.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"{path.name} stays in journal mode {mode}")
        # FULL: every commit is synced, so that an acknowledged insert survives a power loss too.
        conn.execute("PRAGMA synchronous=FULL")
        conn.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        conn.close()
        raise
    return conn


class Database:
    """The gate to one database file; closed until ``open``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._gate = threading.Condition()
        self._path: Path | None = None
        self._idle: list[sqlite3.Connection] = []
        self._busy: dict[sqlite3.Connection, Path] = {}
        self._write_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None

    @property
    def path(self) -> Path | None:
        """The open file; None while disconnected."""
        return self._path

    @property
    def writable(self) -> bool:
        """Whether ``writing`` would let somebody in."""
        return self._writer is not None

    def open(self, path: Path, first: Callable[[sqlite3.Connection], None]) -> None:
        """Open `path`, run `first` in a transaction, and only when that is committed let anybody in.

        A sqlite3.Error names the file.
        """
        try:
            conn = open_file(path)
            try:
                with transaction(conn):
                    first(conn)
            except BaseException:
                conn.close()
                raise
        except sqlite3.Error as error:
            raise type(error)(f"{path.name}: {error}") from error
        with self._write_lock, self._gate:
            self._writer = conn
            self._path = path

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Borrow a connection to read with; Disconnected if there is none."""
        conn = self._borrow()
        try:
            yield conn
        except BaseException:
            self._give_back(conn, keep=False)
            raise
        self._give_back(conn, keep=True)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed, and on disk, when the block ends without an exception."""
        with self._write_lock:
            if self._writer is None:
                raise Disconnected(self.name)
            with transaction(self._writer):
                yield self._writer

    def stop_writing(self) -> None:
        """Close the writing connection after the transaction that runs; later ones get Disconnected."""
        with self._write_lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def stop_reading(self) -> None:
        """Close every reading connection; statements that do not end within DRAIN_S are interrupted."""
        with self._gate:
            self._path = None
            while self._idle:
                self._idle.pop().close()
            if not self._gate.wait_for(lambda: not self._busy, timeout=DRAIN_S):
                for conn in self._busy:
                    conn.interrupt()
                if not self._gate.wait_for(lambda: not self._busy, timeout=DRAIN_S):
                    raise StillInUse(f"{self.name}: a request did not end within {2 * DRAIN_S:.0f} s")

    def _borrow(self) -> sqlite3.Connection:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        with self._gate:
            while len(self._busy) >= MAX_READERS and self._path is not None:
                if not self._gate.wait(deadline - time.monotonic()):
                    raise sqlite3.OperationalError(f"{self.name}: {MAX_READERS} readers are busy")
            if self._path is None:
                raise Disconnected(self.name)
            conn = self._idle.pop() if self._idle else open_file(self._path)
            self._busy[conn] = self._path
            return conn

    def _give_back(self, conn: sqlite3.Connection, *, keep: bool) -> None:
        with self._gate:
            opened_for = self._busy.pop(conn)
            # "is": a connection that outlived a disconnect may belong to another file of the same name.
            if keep and self._path is opened_for:
                self._idle.append(conn)
            else:
                conn.close()
            self._gate.notify_all()


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE ... COMMIT; rolled back on any exception, one from COMMIT included."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        conn.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            conn.execute("ROLLBACK")
        raise
