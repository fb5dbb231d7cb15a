"""The file that was live before the last swap.

It is kept for a rollback, and watched: a connection that b2m could not see may still write to it. ``base`` is a copy of
the rows it had at the swap, so whatever differs now was written after, and belongs into live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from b2m.errors import UnknownFormat
from b2m.hosts.place import Place, read_json, write_json
from b2m.sqlite.diff import Changes, compare
from b2m.sqlite.live import LiveFile
from b2m.sqlite.merge import Replay, Rule, Rules, replay
from b2m.sqlite.signature import signature

FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """``kept.json``. ``anchor`` is what the kept file started from, ``head`` what the file that replaced it did.

    ``since`` is a copy of the kept file whose rows its successor was not given; None if it was given all.
    ``restoring``: rows of the successor were being carried back onto the kept file when the run was cut off.
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

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Kept:
        if data.get("format") != FORMAT:
            raise UnknownFormat(what="kept.json", found=data.get("format"), known=FORMAT)
        return cls(**{key: data[key] for key in cls.__dataclass_fields__})


def load(place: Place) -> Kept | None:
    data = read_json(place.state / "kept.json")
    return Kept.from_json(data) if data else None


def remember_signature(place: Place, kept: Kept) -> None:
    """Note how the kept file looks from outside, so that an unwritten one is recognised without opening it."""
    seen = signature(Path(kept.path))
    if seen is not None:
        write_json(place.state / "kept.json", {**kept.to_json(), "signature": seen.to_json(), "restoring": False})


def stray_changes(place: Place, kept: Kept) -> Changes | None:
    """Return what was written to the kept file after the swap; None if nothing was."""
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
        remember_signature(place, kept)
        return None
    return changes


def carry_strays(place: Place, kept: Kept, live: Path, rules: Rules) -> Replay:
    """Replay what was written to the kept file after the swap onto the live file, as one more writer."""
    if kept.restoring:
        rules = Rules(Rule("theirs"))  # most of it came from live, which may have moved on
    source = LiveFile(Path(kept.path), place.db)
    try:
        done = replay(place.db, Path(kept.base), source, live, rules, forward=Path(kept.base), shared=True)
    finally:
        source.close()
    remember_signature(place, kept)
    return done


def drop(place: Place, kept: Kept) -> None:
    """Remove the kept file and what belongs to it; the record goes first, so that nothing points at a missing file."""
    (place.state / "kept.json").unlink(missing_ok=True)
    path = Path(kept.path)
    if path != place.live():
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    Path(kept.base).unlink(missing_ok=True)
