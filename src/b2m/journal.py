"""The journal of one database on one host: intents, written and fsynced before the act they announce.

It is a file of JSON lines. A line that was torn by a crash announces nothing that was done, and is ignored. Beside it
lies a reserve, some disk space that is given up when the disk is full: what was begun must be noted to its end.
``pending`` reads it back as the acts that were announced and not finished; ``hosts.recovery`` settles those.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2m import faults
from b2m.errors import UnknownFormat

FORMAT = 1
RESERVE = 64 << 10  # bytes: far more than all entries of a run, and the small files that settling writes

# An act is announced by its first word and settled by any of the others.
SETTLED_BY: Mapping[str, tuple[str, ...]] = {
    "publish": ("published", "unpublished"),
    "hold": ("released",),
    "switch": ("switched", "unswitched"),
}

FULL = (errno.ENOSPC, errno.EDQUOT)

Entry = dict[str, Any]


@dataclass(frozen=True)
class Pending:
    """What a journal announces and does not settle."""

    run: str | None
    place: Entry | None
    publish: Entry | None
    hold: Entry | None
    switch: Entry | None

    @property
    def anything(self) -> bool:
        return self.run is not None


class Journal:
    """One run's intents on one host."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, run: str, place: Entry) -> None:
        """Start the journal of a run of this process; OSError if the disk has no room for it and its reserve.

        ``place`` is what names the database's files: whoever settles the journal may know nothing of the project.
        """
        with self._reserve.open("wb") as file:
            file.write(bytes(RESERVE))
            file.flush()
            os.fsync(file.fileno())
        self.append("run", format=FORMAT, run=run, pid=os.getpid(), place=place)

    def append(self, kind: str, **data: Any) -> None:
        """Add an entry; it is on the disk when this returns."""
        faults.point(f"before-journal:{kind}")
        line = json.dumps({"kind": kind, **data}, separators=(",", ":")).encode() + b"\n"
        new = not self.path.exists()
        try:
            self._write(line)
        except OSError as error:
            if error.errno not in FULL or not self.use_reserve():
                raise
            self._write(line)
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        faults.point(f"after-journal:{kind}")

    def _write(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            # A torn last line must not swallow the entry that follows it.
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            data = b"\n" + line if torn else line
            if os.write(handle, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(handle)
        finally:
            os.close(handle)

    def use_reserve(self) -> bool:
        """Give up the disk space that was set aside; False if there is none left."""
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def _reserve(self) -> Path:
        return self.path.with_name(f"{self.path.name}.reserve")

    def entries(self) -> list[Entry]:
        """Return the whole entries, oldest first; an absent journal has none."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return list(_parse(raw.split(b"\n")))

    def pending(self) -> Pending:
        """Return what was announced and not settled."""
        return pending(self.entries())

    def end(self) -> None:
        """Forget a journal of which everything is settled."""
        self.path.unlink(missing_ok=True)
        self.use_reserve()


def _parse(lines: Iterable[bytes]) -> Iterable[Entry]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "kind" in entry:
            yield entry


def pending(entries: Iterable[Entry]) -> Pending:
    """Fold a journal's entries into the acts that are still open; UnknownFormat for another b2m's journal."""
    run: str | None = None
    place: Entry | None = None
    still: dict[str, Entry | None] = dict.fromkeys(SETTLED_BY)
    for entry in entries:
        kind = entry["kind"]
        if kind == "run":
            if entry.get("format") != FORMAT:
                raise UnknownFormat(what="journal.jsonl", found=entry.get("format"), known=FORMAT)
            run, place = entry["run"], entry.get("place")
        for act, settled in SETTLED_BY.items():
            if kind == act:
                still[act] = entry
            elif kind in settled:
                still[act] = None
    return Pending(run=run, place=place, publish=still["publish"], hold=still["hold"], switch=still["switch"])
