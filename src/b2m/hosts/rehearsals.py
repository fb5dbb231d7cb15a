"""Throwaway folders for rehearsals, beside the work folders of runs and on the same file system as live.

A rehearsal has a shared lock on the folder of all of them. Whoever gets that lock exclusively knows that what lies in
it is of dead ones: the next rehearsal, or the next run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from b2m.hosts.place import Place


class Scratch(Place):
    """A place whose work folders are for a rehearsal."""

    def work(self, run: str) -> Path:
        return _folder(self) / run


@contextmanager
def scratch(place: Place, run: str) -> Iterator[Place]:
    """Make a rehearsal's folder, and remove it at the end; OSError."""
    _folder(place).mkdir(parents=True, exist_ok=True)
    sweep(place)
    found = Scratch(**vars(place))
    handle = os.open(_folder(place), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        found.work(run).mkdir()
        yield found
    finally:
        shutil.rmtree(found.work(run), ignore_errors=True)
        os.close(handle)


def sweep(place: Place) -> None:
    """Remove what rehearsals left that were killed; nothing while one is under way."""
    for path in leftovers(place):
        shutil.rmtree(path, ignore_errors=True)


def leftovers(place: Place) -> list[Path]:
    """Return the folders of rehearsals that were killed."""
    try:
        handle = os.open(_folder(place), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return []
    else:
        return sorted(_folder(place).iterdir())
    finally:
        os.close(handle)


def _folder(place: Place) -> Path:
    return place.state / "rehearsals"
