"""Opening files that are ours: static ones that nobody writes, and private ones that only we write.

The live file, which a server writes, is opened by :mod:`b2m.sqlite.live` and by nothing else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from b2m.errors import NoSpace, Unreadable

Tick = Callable[[], None]
Progress = Callable[[int, int], None]

TICK_STEPS = 20_000
SHM_SIZE = 32 << 10  # bytes of a small -shm
_NOT_LOADED = ("no such collation", "no such function", "unknown function", "no such module")
_OPEN = apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def _no_tick() -> None:
    """Never stop."""


_tick: Tick = _no_tick


def set_tick(tick: Tick | None) -> None:
    """Have every connection of this process call `tick` about every 20,000 VM steps; None ends that.

    What `tick` raises (a deadline, a signal) comes out of the running statement unchanged.
    """
    global _tick
    _tick = tick or _no_tick


def tick() -> None:
    """Call the tick that is set: for loops that run outside SQLite's virtual machine."""
    _tick()


def watch(conn: apsw.Connection, own: Tick = tick) -> None:
    """Let a connection's long statements be stopped by `own`, normally the process-wide tick."""

    def beat() -> bool:
        own()
        return False

    conn.set_progress_handler(beat, TICK_STEPS)


def quote_name(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def uri(path: Path, **parameters: str | int) -> str:
    """Name a file for SQLite, whatever characters its path has."""
    query = "&".join(f"{key}={value}" for key, value in parameters.items())
    return "file:" + quote(os.fsencode(Path(path).absolute())) + (f"?{query}" if query else "")


def static_uri(path: Path) -> str:
    """Name a file that nobody writes: no locks, no sidecar files."""
    return uri(path, mode="ro", immutable=1)


@contextmanager
def explained(db: str, path: Path) -> Iterator[None]:
    """Turn what SQLite says about a file that cannot be used into a refusal that names the file.

    Raises Unreadable, or NoSpace on a full disk.
    """
    try:
        yield
    except (apsw.FullError, apsw.IOError) as error:
        folder = Path(path).parent
        free = shutil.disk_usage(folder).free if folder.is_dir() else SHM_SIZE
        # To SQLite it is an I/O error, not a full disk, if there is no room for a -shm.
        if isinstance(error, apsw.FullError) or free < SHM_SIZE:
            raise NoSpace(db=db, folder=folder, free=f"{free:,} bytes", needed="more") from error
        raise Unreadable(db=db, path=path, what=_why_not(Path(path), error)) from error
    except apsw.NotADBError as error:
        raise Unreadable(db=db, path=path, what="is not an SQLite database") from error
    except apsw.CorruptError as error:
        raise Unreadable(db=db, path=path, what=f"is damaged or cut short ({error})") from error
    except apsw.BusyError as error:
        raise Unreadable(db=db, path=path, what="is locked by another process") from error
    except (apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError, apsw.ReadOnlyError) as error:
        raise Unreadable(db=db, path=path, what=_why_not(Path(path), error)) from error
    except apsw.SQLError as error:
        if any(each in str(error) for each in _NOT_LOADED):
            raise Unreadable(db=db, path=path, what=f"needs an extension that is not loaded ({error})") from error
        raise


def _why_not(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "is a directory"
    if not path.exists():
        return "does not exist"
    if not os.access(path, os.R_OK):
        return "permission denied"
    return f"cannot be opened ({error})"


def require_rows(conn: apsw.Connection, db: str, path: Path) -> None:
    """Read once, so that a file that is no database fails now; an empty file is none. Raises Unreadable."""
    conn.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    if conn.pragma("page_count") == 0:
        raise Unreadable(db=db, path=path, what="is empty, no database")


def connect(name: str, flags: int) -> apsw.Connection:
    """Open by URI with the tick attached."""
    conn = apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_URI)
    watch(conn)
    return conn


def open_static(path: Path, db: str = "") -> apsw.Connection:
    """Open a file of ours that nobody writes, without locks or sidecar files. Raises Unreadable."""
    db = db or Path(path).stem
    with explained(db, path):
        conn = connect(static_uri(path), apsw.SQLITE_OPEN_READONLY)
        try:
            require_rows(conn, db, path)
        except BaseException:
            conn.close()
            raise
    return conn


def open_private(path: Path, db: str = "") -> apsw.Connection:
    """Open a file that only we use, to change it; the caller fsyncs it when it is finished. Raises Unreadable."""
    db = db or Path(path).stem
    with explained(db, path):
        conn = connect(uri(path, mode="rw"), _OPEN)
        try:
            require_rows(conn, db, path)
            # The journal makes a rollback possible; durability is one fsync at the end, not one a transaction.
            conn.pragma("journal_mode", "delete")
            conn.pragma("synchronous", "off")
        except BaseException:
            conn.close()
            raise
    return conn


def open_shared(path: Path, db: str = "", *, busy_timeout_ms: int = 5000) -> apsw.Connection:
    """Open a file that others write too, as one more writer: their journal mode, durable commits. Raises Unreadable."""
    db = db or Path(path).stem
    with explained(db, path):
        conn = connect(uri(path, mode="rw"), _OPEN)
        try:
            conn.set_busy_timeout(busy_timeout_ms)
            conn.pragma("synchronous", "full")
            require_rows(conn, db, path)
        except BaseException:
            conn.close()
            raise
    return conn


def open_scratch(encoding: str = "UTF-8") -> apsw.Connection:
    """Open an empty database in memory, to attach files of that text encoding to."""
    conn = connect(":memory:", _OPEN | apsw.SQLITE_OPEN_CREATE)
    conn.pragma("encoding", encoding)
    return conn
