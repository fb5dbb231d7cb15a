"""The moment at which another file becomes live, as data that survives a crash.

A ``Switch`` is journaled before it is made. Whatever happens then, ``made`` tells from the disk alone whether it took
place, and ``finish`` or ``revert`` complete either side; both may be repeated.

``versioned``: the new file stands beside the old one under its own name, and replacing ``db.toml`` is the switch.
``stable``: the old file gets a second name and the new one is renamed over it.
``rename``: the same file gets another number in its name; ``db.toml`` is the switch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from b2m import faults
from b2m.hosts import anchor as anchors
from b2m.hosts.anchor import Anchor
from b2m.hosts.place import Place, fsync_folder, write_json
from b2m.sqlite.swap import set_journal_mode
from b2m.versions import dbtoml

How = Literal["versioned", "stable", "rename"]


@dataclass(frozen=True)
class Switch:
    """One switch of the live file; paths are absolute strings, so that the journal can hold it.

    The entries are what ``db.toml`` names: a live file may be reached by a symlink with a name of its own.
    """

    how: How
    old: str | None
    new: str
    staged: str
    inode: int
    journal_mode: str
    kept: str | None = None  # where the old file goes, or gets a second name
    anchor: Mapping[str, Any] | None = None
    anchor_file: str | None = None
    record: Mapping[str, Any] | None = None  # becomes kept.json; None removes it
    old_entry: str | None = None
    new_entry: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Switch:
        return cls(**{key: data[key] for key in cls.__dataclass_fields__ if key in data})


def make(place: Place, switch: Switch) -> None:
    """Make the switch; the caller has journaled it and holds the old file exclusively."""
    new, staged = Path(switch.new), Path(switch.staged)
    if switch.how == "stable":
        if switch.old and switch.kept:
            kept = _parent(switch.kept)
            os.link(switch.old, kept)
            fsync_folder(kept.parent)  # before its only other name is given away
        faults.point("switch:linked")
        os.replace(staged, new)
        fsync_folder(new.parent)
        return
    if switch.how == "rename":
        os.link(staged, new)
    elif staged != new:
        os.rename(staged, new)
    fsync_folder(new.parent)
    faults.point("switch:named")
    dbtoml.set_entry(place.toml, place.key, switch.new_entry or new.name)


def made(place: Place, switch: Switch) -> bool:
    """Tell from the disk whether the switch took place."""
    # The name alone says little: a deployment may have put it into db.toml before the file was there.
    there = _inode(Path(switch.new)) == switch.inode
    return there and (switch.how == "stable" or _named(place, Path(switch.new)))


def finish(place: Place, switch: Switch) -> None:
    """Complete a switch that took place: the old file's new name, the anchor, the record of what was kept."""
    if switch.how == "rename":
        _drop(Path(switch.staged), switch.inode)
    elif switch.how == "versioned" and switch.old and switch.kept and Path(switch.old).exists():
        os.replace(switch.old, _parent(switch.kept))
    fsync_folder(Path(switch.new).parent)
    faults.point("switch:finished-files")
    if switch.anchor is not None and switch.anchor_file is not None:
        anchors.install(place, Path(switch.anchor_file), Anchor.from_json(dict(switch.anchor)))
    elif switch.how != "rename":
        # The file that is live again started from no version: the anchor of its successor is not its own.
        (place.state / "anchor.json").unlink(missing_ok=True)
    if switch.how == "stable" and not _named(place, Path(switch.new)):
        dbtoml.set_entry(place.toml, place.key, switch.new_entry or Path(switch.new).name)
    if switch.how == "rename":
        return
    if switch.record is not None:
        write_json(place.state / "kept.json", dict(switch.record))
    else:
        (place.state / "kept.json").unlink(missing_ok=True)


def revert(place: Place, switch: Switch) -> None:
    """Take back a switch that did not take place: what was prepared goes, the old file is as it was."""
    new, staged = Path(switch.new), Path(switch.staged)
    if switch.how == "stable":
        if switch.kept and switch.old:
            _drop(Path(switch.kept), _inode(Path(switch.old)))
    elif new != staged and _inode(new) == switch.inode:
        if staged.exists() or switch.how == "rename":
            _drop(new, switch.inode)
        elif staged.parent.is_dir():
            os.rename(new, staged)
        else:
            new.unlink()
        fsync_folder(new.parent)
    if switch.old and Path(switch.old).exists():
        set_journal_mode(Path(switch.old), switch.journal_mode)


def unmake(place: Place, switch: Switch) -> None:
    """Undo a switch that was just made and that nobody has used: the old file is live again."""
    if switch.how == "stable":
        new, staged = Path(switch.new), Path(switch.staged)
        os.link(new, staged)
        if switch.old and switch.kept:
            os.replace(switch.kept, switch.old)
        else:
            new.unlink()
        fsync_folder(new.parent)
        return
    if switch.old:
        dbtoml.set_entry(place.toml, place.key, switch.old_entry or Path(switch.old).name)


def _named(place: Place, path: Path) -> bool:
    name = dbtoml.read(place.toml).get(place.key) if place.toml.exists() else None
    return name is not None and os.path.realpath(place.folder / name) == os.path.realpath(path)


def _parent(path: str) -> Path:
    found = Path(path)
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _drop(path: Path, inode: int | None) -> None:
    """Remove one of two names of a file; never the last one, never another file's."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if found.st_ino == inode and found.st_nlink > 1:
        path.unlink()
