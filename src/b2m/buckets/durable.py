"""Writes that survive a power loss: fsync the file, switch the name, fsync the folder."""

from __future__ import annotations

import os
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; OSError as the system gives it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_durably(temporary: Path, target: Path) -> None:
    """Rename a file that was fsynced over ``target``; durable when it returns."""
    temporary.replace(target)
    fsync_folder(target.parent)
