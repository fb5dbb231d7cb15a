"""A consistent copy of the live file while the server keeps writing."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import apsw

from b2m.errors import TaskFailed
from b2m.sqlite.connect import Progress, connect, explained, no_progress, tick, uri
from b2m.sqlite.header import set_journal_bytes
from b2m.sqlite.live import LiveFile, sidecars

STEP_PAGES = 1000
MAX_RESTARTS = 5
_FICLONE = 0x40049409
_CHUNK = 8 << 20


@dataclass(frozen=True)
class Snapshot:
    """A finished copy: `data_version` is the state of live that it holds, `journal_mode` is live's."""

    path: Path
    data_version: int
    size: int
    page_size: int
    page_count: int
    journal_mode: str


def snapshot(live: LiveFile, target: Path, *, progress: Progress = no_progress) -> Snapshot:
    """Copy live to `target` by the backup API; `progress` gets pages done and pages in all.

    A WAL database is read in one short read transaction, which hinders no writer. A rollback-journal one is read in
    steps, each of which a writer waits for a few milliseconds; a write restarts the copy. The target is a
    rollback-journal file, synced, with no file beside it. Raises TaskFailed after five restarts, Unreadable, NoSpace.
    """
    target = Path(target)
    discard(target)
    try:
        with explained(live.db, target):
            copy = connect(uri(target, mode="rwc"), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        try:
            copy.pragma("journal_mode", "off")
            copy.pragma("synchronous", "off")
            mode = live.journal_mode()
            version = (_pinned if mode == "wal" else _stepped)(live, copy, target, progress)
            page_size, page_count = int(copy.pragma("page_size")), int(copy.pragma("page_count"))
        finally:
            copy.close()
        set_journal_bytes(target, wal=False)
        for path in sidecars(target):
            path.unlink(missing_ok=True)
    except BaseException:
        discard(target)
        raise
    return Snapshot(target, version, target.stat().st_size, page_size, page_count, mode)


def _pinned(live: LiveFile, copy: apsw.Connection, target: Path, progress: Progress) -> int:
    with live.reading(), explained(live.db, target):
        version = live.version()
        with copy.backup("main", live.conn, "main") as backup:
            while not backup.done:
                backup.step(STEP_PAGES)
                _report(backup, progress)
    return version


def _stepped(live: LiveFile, copy: apsw.Connection, target: Path, progress: Progress) -> int:
    version, restarts = -1, 0
    with explained(live.db, target), copy.backup("main", live.conn, "main") as backup:
        while not backup.done:
            with live.reading():
                now = live.version()
                restarts += version not in (-1, now)
                version = now
                if restarts > MAX_RESTARTS:
                    what = f"the server wrote {live.path} {restarts} times while it was copied"
                    raise TaskFailed(what=f"{live.db}: {what}; take the snapshot inside the hold")
                backup.step(STEP_PAGES)
            # Outside the bracket, in which a writer would have to wait for it.
            _report(backup, progress)
    return version


def _report(backup: apsw.Backup, progress: Progress) -> None:
    progress(backup.page_count - backup.remaining, backup.page_count)
    tick()


def discard(path: Path) -> None:
    """Remove a file of ours and what SQLite left beside it."""
    for each in [path, *sidecars(path)]:
        each.unlink(missing_ok=True)


def copy_file(src: Path, dst: Path, *, progress: Progress = no_progress) -> None:
    """Copy a static file, sharing blocks where the file system can, and sync it; bytes go to `progress`."""
    source = os.open(src, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(dst, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(source).st_size
            if not _clone(source, target):
                _stream(source, target, size, progress)
            os.fsync(target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _stream(source: int, target: int, size: int, progress: Progress) -> None:
    done, by_kernel = 0, hasattr(os, "copy_file_range")
    while done < size:
        amount = min(size - done, _CHUNK)
        try:
            moved = os.copy_file_range(source, target, amount) if by_kernel else _by_hand(source, target, amount)
        except OSError:
            if not by_kernel or done:
                raise
            # Another file system or an old kernel; nothing was moved yet.
            by_kernel = False
            continue
        if moved == 0:
            raise OSError(f"the file ended {size - done} bytes early while it was copied")
        done += moved
        progress(done, size)
        tick()


def _by_hand(source: int, target: int, amount: int) -> int:
    data = os.read(source, amount)
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return len(data)
