"""The SQLite half of a swap: everybody out, nobody in, and a candidate that looks like the file it replaces."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import apsw

from b2m.errors import LiveChanged, StillOpen, Unreadable
from b2m.sqlite.connect import connect, explained, uri
from b2m.sqlite.header import require_header, set_journal_bytes
from b2m.sqlite.live import LiveFile, require_writable, sidecars
from b2m.sqlite.openers import Opener, who_has_open

WhoHasOpen = Callable[[Iterable[Path]], list[Opener]]


class Barrier:
    """The bracket in which the live file is ours alone, in the state that the last replay consumed.

    Entering takes SQLite's exclusive lock, checks data_version under it, empties the WAL into the file and removes
    all sidecar files; the lock is kept until the end, so whoever opens the file later cannot read or write it. After
    that close the LiveFile. Leaving by an exception, or `leave(undo=True)`, gives the file its journal mode back.

    Raises StillOpen, LiveChanged, Unreadable; the file is then as it was.
    """

    def __init__(self, live: LiveFile, expected: int, *, openers: WhoHasOpen = who_has_open) -> None:
        self.live = live
        self.expected = expected
        self._openers = openers
        self._mode = ""
        self._inside = False

    def __enter__(self) -> Barrier:
        require_writable(self.live)
        if not self.live.same_file():
            raise LiveChanged(db=self.live.db, path=self.live.path)
        self.check_again()
        self._mode = self.live.journal_mode()
        self._inside = True
        try:
            self._lock()
            self._retire_sidecars()
            self.check_again()
        except BaseException:
            self.leave(undo=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.leave(undo=kind is not None)

    def check_again(self) -> None:
        """Look once more for processes that have the file or a sidecar open. Raises StillOpen."""
        found = self._openers([self.live.path, *self.live.sidecars()])
        if found:
            raise self._still_open(found)

    def _still_open(self, found: list[Opener]) -> StillOpen:
        who = ", ".join(dict.fromkeys(str(opener) for opener in found[:5]))
        return StillOpen(db=self.live.db, path=self.live.path, who=who or "a process that cannot be named")

    def _lock(self) -> None:
        conn = self.live.conn
        conn.pragma("locking_mode", "exclusive")
        try:
            # In exclusive mode a write transaction locks the whole file, under a WAL too, and the lock outlives it.
            conn.execute("BEGIN EXCLUSIVE")
        except apsw.BusyError as error:
            raise self._still_open(self._openers([self.live.path, *self.live.sidecars()])) from error
        # Nobody can commit any more, so this is exact; our own checkpoint below is not behind it.
        changed = self.live.version() != self.expected
        conn.execute("COMMIT")
        if changed:
            raise LiveChanged(db=self.live.db, path=self.live.path)

    def _retire_sidecars(self) -> None:
        conn, path = self.live.conn, self.live.path
        with explained(self.live.db, path):
            if self._mode == "wal":
                busy = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if busy is None or busy[0]:
                    raise self._still_open(self._openers([path, *self.live.sidecars()]))
                if conn.pragma("journal_mode", "delete") != "delete":
                    raise self._still_open(self._openers([path, *self.live.sidecars()]))
            # In exclusive mode SQLite keeps a finished -journal open and later removes it by its name, which by then
            # may be the new file's journal. This mode lets go of it, and nothing is written in it.
            conn.pragma("journal_mode", "memory")
        for sidecar in self.live.sidecars():
            sidecar.unlink(missing_ok=True)
        fsync_folder(path.parent)

    def leave(self, *, undo: bool) -> None:
        """Give the lock back; with `undo` also the journal mode, for a file that stays in use."""
        if not self._inside:
            return
        self._inside = False
        conn = self.live.conn
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        conn.pragma("locking_mode", "normal")
        if undo:
            if conn.pragma("journal_mode") != self._mode:
                conn.pragma("journal_mode", "delete" if self._mode == "wal" else self._mode)
            if self._mode == "wal":
                conn.pragma("journal_mode", "wal")
        # The lock goes with the next read.
        conn.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()


def set_journal_mode(path: Path, mode: str) -> None:
    """Give a file that is not in use its journal mode back; one that somebody uses keeps the mode it has."""
    with suppress(apsw.BusyError):
        conn = connect(uri(path, mode="rw"), apsw.SQLITE_OPEN_READWRITE)
        try:
            if conn.pragma("journal_mode") != mode:
                conn.pragma("journal_mode", mode)
        finally:
            conn.close()


def prepare(candidate: Path, like: Path, journal_mode: str) -> None:
    """Give the candidate the owner and mode of `like`, and a journal mode ("wal" or any other), and sync it.

    Neither umask nor an open of `like` is involved. Raises Unreadable if this user may not set the owner.
    """
    wanted = like.stat()
    require_header(candidate, like.stem)
    set_journal_bytes(candidate, wal=journal_mode == "wal")
    found = candidate.stat()
    if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
        try:
            os.chown(candidate, wanted.st_uid, wanted.st_gid)
        except PermissionError as error:
            what = f"cannot be given to user {wanted.st_uid} and group {wanted.st_gid}, who own {like.name}"
            raise Unreadable(db=like.stem, path=candidate, what=what) from error
    candidate.chmod(stat.S_IMODE(wanted.st_mode))
    for sidecar in sidecars(candidate):
        sidecar.unlink(missing_ok=True)
    fsync_file(candidate)


def fsync_file(path: Path) -> None:
    """Make a file's content and mode survive a power loss."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Make names created, renamed or removed in a folder survive a power loss."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(src: Path, dst: Path) -> None:
    """Put `src` in the place of `dst` in one step that survives a power loss; both in one file system."""
    src.replace(dst)
    fsync_folder(dst.parent)
    if src.parent != dst.parent:
        fsync_folder(src.parent)
