"""The file that was live before the last swap.

It is kept for a rollback, and watched: a connection that b2m could not see may still write to it. ``base`` is a copy of
the rows it had at the swap, so whatever differs now was written after, and belongs into live.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from b2m.errors import Refused, UnknownFormat
from b2m.hosts.place import Place, fsync_folder, read_json, write_json
from b2m.sqlite.diff import Changes, compare
from b2m.sqlite.live import LiveFile, sidecars
from b2m.sqlite.merge import Rules, replay
from b2m.sqlite.signature import Signature, signature
from b2m.sqlite.snapshot import copy_file, snapshot
from b2m.sqlite.swap import fsync_file, prepare, replace_file

FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """``kept.json``. ``anchor`` is what the kept file started from, ``head`` what the file that replaced it did.

    ``since`` is a copy of the kept file whose rows its successor was not given; None if it was given all.
    ``restoring``: rows of the successor were being carried back onto the kept file when the run was cut off.
    ``carrying``: rows written to the kept file, those of ``goal``, were about to be committed to live when the run was
    cut off; so many of them stood there already.
    ``entry`` is the name by which ``db.toml`` named it.
    """

    how: str
    path: str
    name: str
    base: str
    journal_mode: str
    anchor: Mapping[str, Any] | None
    head: Mapping[str, Any]
    signature: Any = None
    since: str | None = None
    restoring: bool = False
    carrying: int | None = None
    entry: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Kept:
        if data.get("format") != FORMAT:
            raise UnknownFormat(what="kept.json", found=data.get("format"), known=FORMAT)
        return cls(**{key: data[key] for key in cls.__dataclass_fields__ if key in data})


def load(place: Place) -> Kept | None:
    data = read_json(place.state / "kept.json")
    return Kept.from_json(data) if data else None


def remember_signature(place: Place, kept: Kept, seen: Signature | None) -> None:
    """Note how the kept file looked from outside before its rows were read, or while nobody could write.

    So an unwritten one is recognised without opening it. Looked at later, a row that came meanwhile would go unseen.
    """
    if seen is not None:
        settled = {"signature": seen.to_json(), "restoring": False, "carrying": None}
        write_json(place.state / "kept.json", {**kept.to_json(), **settled})


def stray_changes(place: Place, kept: Kept, *, remember: bool = True) -> Changes | None:
    """Return what was written to the kept file after the swap; None if nothing was.

    ``remember`` notes an unwritten file's looks in kept.json, which only the run that has the lock may do.
    """
    path, base = Path(kept.path), Path(kept.base)
    now = signature(path)
    if now is None or not base.exists() or now.to_json() == kept.signature:
        return None
    live = LiveFile(path, place.db)
    try:
        changes = compare(base, live)
    finally:
        live.close()
    if not changes.dirty:
        if remember:
            remember_signature(place, kept, now)
        return None
    return changes


def goal(kept: Kept) -> Path:
    """Where the state of the kept file is saved whose rows are being carried over."""
    return Path(f"{kept.base}.goal")


def carry_strays(place: Place, kept: Kept, live: Path, rules: Rules) -> None:
    """Replay what was written to the kept file after the swap onto the live file, as one more writer.

    Two files change, live and then ``base``. A run that dies in between must not do it again: what the server has made
    of those rows since would be taken back. Nor may rows that come later pass for carried: so what is carried over is
    a copy of the kept file, which takes the place of ``base`` when live has its rows.
    """
    if kept.carrying is not None and goal(kept).exists():
        kept = _carry(place, kept, live, rules)
    if kept.carrying is not None:  # what it was said of has been done
        kept = replace(kept, carrying=None)
        write_json(place.state / "kept.json", kept.to_json())
    seen = signature(Path(kept.path))
    source = LiveFile(Path(kept.path), place.db)
    try:
        snapshot(source, goal(kept))
    finally:
        source.close()
    kept = _carry(place, kept, live, rules)
    remember_signature(place, kept, seen)


def _carry(place: Place, kept: Kept, live: Path, rules: Rules) -> Kept:
    def about_to(already: int) -> None:
        write_json(place.state / "kept.json", {**kept.to_json(), "carrying": already})

    base = Path(kept.base)
    fsync_file(goal(kept))
    try:
        replay(place.db, base, goal(kept), live, rules, shared=True, about_to=about_to, cut_off=kept.carrying)
    except Refused:
        # Refused is not cut off: nothing was committed, so nothing that comes to stand there later is ours.
        write_json(place.state / "kept.json", kept.to_json())
        raise
    replace_file(goal(kept), base)
    done = replace(kept, carrying=None)
    write_json(place.state / "kept.json", done.to_json())
    return done


def set_aside(place: Place, kept: Kept, run: str) -> Path:
    """Move the kept file to ``backups/``, with what was written to it since; return its new path."""
    aside = place.state / "backups" / f"{run}.{kept.name}"
    aside.parent.mkdir(exist_ok=True)
    path = Path(kept.path)
    for suffix in ("-wal", "-journal", ""):
        there = path.with_name(path.name + suffix)
        if there.exists():
            _move(there, aside.with_name(aside.name + suffix))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    fsync_folder(aside.parent)
    Path(kept.base).unlink(missing_ok=True)
    return aside


def _move(source: Path, target: Path) -> None:
    """Rename a file, or copy it to another file system: a live file may have been a link to one."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_file(source, target)
        source.unlink()


def forget(place: Place) -> None:
    """Remove the record of a kept file."""
    (place.state / "kept.json").unlink(missing_ok=True)


def take_back(place: Place, kept: Kept) -> None:
    """Give the kept file the rows again that it had before a restoring, which was cut off, carried others onto it.

    They are live's, which went on since: as strays they would bring back what was deleted there.
    """
    path, base = Path(kept.path), Path(kept.base)
    if path.exists() and base.exists():
        fresh = path.with_name(f".{path.name}.part")
        copy_file(base, fresh)
        prepare(fresh, path, "delete")
        for sidecar in sidecars(path):
            sidecar.unlink(missing_ok=True)
        replace_file(fresh, path)
    remember_signature(place, kept, signature(path))


def drop(place: Place, kept: Kept) -> None:
    """Remove the kept file and what belongs to it; the record goes first, so that nothing points at a missing file."""
    forget(place)
    path = Path(kept.path)
    if path != place.live():
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    Path(kept.base).unlink(missing_ok=True)
