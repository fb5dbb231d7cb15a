"""The durable queue: what was accepted while a database was disconnected.

A file of JSON lines, appended and synced before the client is answered. Its first line names the batch. When the
database comes back, the records are applied in one transaction that also writes (batch, number of records) into the
database itself, in a row that only this server writes. So whatever crashes in between, and whichever file is opened
afterwards, the database tells how much of this batch it already holds: each record is applied exactly once. That
row is an ordinary row, so it travels with the others when b2m carries rows from one version of the file to another.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from .state import sync_folder

MAX_BYTES = 64 << 20

Record = dict[str, Any]


class QueueFull(Exception):
    """The queue has reached MAX_BYTES; nothing was taken."""


class QueueDamaged(Exception):
    """A line that is not the last one cannot be read: somebody has edited the file, or the disk has."""


class Inbox:
    """The queue of one database. Not thread-safe: its owner holds a lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self.batch: str | None = None
        self.records: list[Record] = []
        self._load()

    def append(self, record: Record) -> None:
        """Keep `record`, durably: when this returns it will be applied, and if it raises it was not taken."""
        line = _line(record)
        if self.batch is None:
            batch = secrets.token_hex(8)
            self._write(_line({"batch": batch}) + line)
            sync_folder(self._path.parent)
            self.batch = batch
        else:
            self._write(line)
        self.records.append(record)

    def discard(self) -> None:
        """Forget everything: the database holds it, committed."""
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)
        self.batch, self.records, self._size = None, [], 0

    def _write(self, data: bytes) -> None:
        if self._size + len(data) > MAX_BYTES:
            raise QueueFull(self._path.name)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                written = 0
                while written < len(data):
                    written += os.pwrite(fd, data[written:], self._size + written)
                os.fsync(fd)
            except BaseException:
                # A half-written line must not stay in front of the next one.
                os.ftruncate(fd, self._size)
                raise
        finally:
            os.close(fd)
        self._size += len(data)

    def _load(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        lines = data.splitlines(keepends=True)
        # The last line may be torn by a crash; it was never acknowledged, and the next record is written over it.
        if lines and not _whole(lines[-1]):
            lines.pop()
        self._size = sum(map(len, lines))
        # What was written but not yet synced counts from now on, so it is synced now.
        with self._path.open("r+b") as file:
            file.truncate(self._size)
            os.fsync(file.fileno())
        try:
            parsed = [json.loads(line) for line in lines]
        except ValueError as error:
            raise QueueDamaged(f"{self._path}: {error}") from None
        if parsed:
            self.batch = parsed[0]["batch"]
            self.records = parsed[1:]


def _line(record: Record) -> bytes:
    # ASCII with escapes: no byte of a value can look like a line's end.
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")
