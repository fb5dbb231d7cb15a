"""Which processes have a file open, by /proc: also one that opened a database and has not read from it yet.

Such a connection holds no lock, so no lock can find it; after a rename it would write to the old file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = "/proc"
_DELETED = " (deleted)"


@dataclass(frozen=True)
class Opener:
    """A process with one of the files open; `path` as the process sees it, " (deleted)" at its end if unlinked."""

    pid: int
    command: str
    path: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def who_has_open(paths: Iterable[Path]) -> list[Opener]:
    """List other processes that have any of these files open, under whatever name, and deleted files of these names.

    Processes of other users cannot be looked into unless we are root and are not listed, and where there is no /proc
    the list is empty: the caller's exclusive lock must then do.
    """
    names = {os.path.realpath(path) for path in paths}
    files = {found for found in map(_identity, names) if found}
    if not Path(_PROC, "self", "fd").is_dir():
        return []
    found = {}
    for pid in _processes():
        for link in _holds(pid, files, names):
            found[pid, link] = Opener(int(pid), _command(pid), link)
    return list(found.values())


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  (thousands of calls; a Path each would cost more than the call)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _processes() -> Iterator[str]:
    own = str(os.getpid())
    for name in os.listdir(_PROC):  # noqa: PTH208
        if name.isdigit() and name != own:
            yield name


def _holds(pid: str, files: set[tuple[int, int]], names: set[str]) -> Iterator[str]:
    folder = f"{_PROC}/{pid}/fd"
    try:
        numbers = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for number in numbers:
        try:
            link = os.readlink(f"{folder}/{number}")  # noqa: PTH115
        except OSError:
            continue
        # Sockets and pipes have no path; skipping them spares most of the stat calls.
        if not link.startswith("/") or link.startswith("/dev/"):
            continue
        unlinked = link.endswith(_DELETED) and link.removesuffix(_DELETED) in names
        if unlinked or _identity(f"{folder}/{number}") in files:
            yield link


def _command(pid: str) -> str:
    try:
        words = Path(_PROC, pid, "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    text = " ".join(" ".join(word.decode("utf-8", "replace") for word in words).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
