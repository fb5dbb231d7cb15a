"""A bucket in a folder of a file system: a disk, a mounted share, or a test's.

An object is a file. It is written under a temporary name in ``<root>/.tmp``, fsynced, and then given its name: by a
hard link, which fails if the name is taken, or by a rename, which replaces. The folder is fsynced last, so what
returned is on the disk. Names that start with a dot belong to nobody's object.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from b2m.buckets.durable import fsync_folder
from b2m.buckets.protocol import CHUNK, Capabilities, Counters, Names, check_name, is_name
from b2m.errors import BucketError, ObjectExists, ObjectMissing

_TEMPORARY = ".tmp"
_LEFTOVER_AGE = 24 * 3600.0  # seconds without a write, after which a temporary file's writer is surely dead


class FolderBucket:
    """A bucket whose objects are the files below ``root``, which must exist."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)
        self.counters = Counters()
        self._identity: tuple[int, int] | None = None
        self._durable: set[Path] = set()
        self._swept = False

    def get(self, name: str) -> bytes:
        return b"".join(self.stream(name))

    def get_range(self, name: str, start: int, length: int) -> bytes:
        parts: list[bytes] = []
        with self._reading(name) as handle, self._errors(f"cannot read {name}"):
            while length > 0 and (part := os.pread(handle, length, start)):
                parts.append(part)
                start += len(part)
                length -= len(part)
        data = b"".join(parts)
        self.counters.add(down=len(data))
        return data

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        with self._reading(name) as handle:
            while data := self._read(handle, name, chunk):
                self.counters.add(down=len(data))
                yield data

    def size(self, name: str) -> int:
        with self._reading(name) as handle:
            return os.fstat(handle).st_size

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        chunks = [data] if isinstance(data, bytes) else data
        with self._written(name, chunks) as (temporary, size), self._errors(f"cannot write {name}"):
            target = self._folder_for(name)
            temporary.replace(target)
            fsync_folder(target.parent)
        return size

    def create(self, name: str, data: bytes) -> None:
        with self._errors(f"cannot create {name}"):
            # The link would say the same, but only after a file was written for nothing.
            if (self.root / check_name(name)).exists():
                self.counters.add(requests=1)
                raise ObjectExists(bucket=self.name, name=name)
        with self._written(name, [data]) as (temporary, _), self._errors(f"cannot create {name}"):
            target = self._folder_for(name)
            try:
                os.link(temporary, target)
            except FileExistsError as error:
                raise ObjectExists(bucket=self.name, name=name) from error
            fsync_folder(target.parent)

    def list(self, prefix: str) -> Names:
        if prefix:
            check_name(prefix)
        self.counters.add(requests=1)
        with self._errors(f"cannot list {prefix or 'it'}"):
            self._check_root()
            found = sorted(_files_below(self.root / prefix, prefix))
            # A folder that vanished while it was read looks empty: only a root that is still there proves anything.
            self._check_root()
        return found

    def delete(self, name: str) -> None:
        self.counters.add(requests=1)
        with self._errors(f"cannot delete {name}"):
            self._check_root()
            with suppress(FileNotFoundError, NotADirectoryError):
                (self.root / check_name(name)).unlink()

    def prepare(self) -> None:
        with self._errors("cannot make the folder"):
            self.root.mkdir(parents=True, exist_ok=True)
            self._identity = None
            fsync_folder(self.root.parent)

    def probe(self) -> Capabilities:
        name = f"b2m-probe-{secrets.token_hex(8)}"
        try:
            self.create(name, b"first")
            try:
                self.create(name, b"second")
            except ObjectExists:
                kept = self.get(name) == b"first"
                return Capabilities(kept, "creates by hard link" if kept else "a refused create changed the object")
            return Capabilities(False, "the file system lets a second create of one name succeed")
        finally:
            self.delete(name)

    def _check_root(self) -> None:
        """Raise unless the root is the folder that it was before: an unmounted disk leaves another, empty one."""
        try:
            found = self.root.stat()
        except FileNotFoundError as error:
            what = "there is no such folder; mount it, or set up a new bucket with: b2m bucket.init"
            raise BucketError(bucket=self.name, what=what) from error
        if not stat.S_ISDIR(found.st_mode):
            raise BucketError(bucket=self.name, what="it is not a folder")
        identity = (found.st_dev, found.st_ino)
        if self._identity not in (None, identity):
            raise BucketError(bucket=self.name, what="the folder was replaced by another one; is the disk mounted?")
        self._identity = identity

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn the system's errors into BucketError."""
        try:
            yield
        except OSError as error:
            raise BucketError(bucket=self.name, what=f"{doing}: {error.strerror or error}") from error

    @contextmanager
    def _reading(self, name: str) -> Iterator[int]:
        """Open an object; the caller's own errors are not the bucket's and pass through."""
        check_name(name)
        self.counters.add(requests=1)
        with self._errors(f"cannot read {name}"):
            self._check_root()
            try:
                handle = os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ObjectMissing(bucket=self.name, name=name) from error
        try:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise ObjectMissing(bucket=self.name, name=name)
            yield handle
        finally:
            os.close(handle)

    def _read(self, handle: int, name: str, length: int) -> bytes:
        with self._errors(f"cannot read {name}"):
            return os.read(handle, length)

    @contextmanager
    def _written(self, name: str, chunks: Iterable[bytes]) -> Iterator[tuple[Path, int]]:
        """Write chunks to a temporary file and fsync it; the file is gone afterwards under that name."""
        check_name(name)
        self.counters.add(requests=1)
        doing = f"cannot write {name}"
        with self._errors(doing):
            self._check_root()
            folder = self.root / _TEMPORARY
            folder.mkdir(exist_ok=True)
            temporary = folder / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            size = 0
            try:
                for chunk in chunks:
                    with self._errors(doing):
                        size += _write_all(handle, chunk)
                with self._errors(doing):
                    os.fsync(handle)
                    self._sweep(os.fstat(handle).st_mtime)
            finally:
                os.close(handle)
            yield temporary, size
            self.counters.add(up=size)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _folder_for(self, name: str) -> Path:
        """Make the folders above an object, durably, never the root; return the object's path."""
        folder = self.root
        for segment in name.split("/")[:-1]:
            folder = folder / segment
            if folder not in self._durable:
                with suppress(FileExistsError):
                    folder.mkdir()
                # Another process may have made it a moment ago and not have fsynced it yet.
                fsync_folder(folder.parent)
                self._durable.add(folder)
        self._check_root()
        return self.root / name

    def _sweep(self, now: float) -> None:
        """Remove, once, what killed writers left; ``now`` is a time stamp of the same file system."""
        if self._swept:
            return
        self._swept = True
        for entry in os.scandir(self.root / _TEMPORARY):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < now - _LEFTOVER_AGE:
                    Path(entry.path).unlink()


def _write_all(handle: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    return len(data)


def _files_below(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the names of the files below a folder; an absent folder has none, an unreadable one raises."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    for entry in entries:
        name = f"{prefix}/{entry.name}" if prefix else entry.name
        if not is_name(name):
            continue
        if entry.is_dir():
            yield from _files_below(folder / entry.name, name)
        else:
            yield name
