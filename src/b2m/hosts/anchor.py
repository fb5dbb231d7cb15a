"""The anchor: a read-only copy of the version that the live file started from, with what the bucket said of it.

``anchor.json`` names the file and is replaced atomically; a file that no ``anchor.json`` names is a leftover.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from b2m.errors import AnchorDamaged, Refused, UnknownFormat
from b2m.hosts.place import Place, fsync_folder, read_json, write_json
from b2m.versions.pack import hash_file

FORMAT = 1


@dataclass(frozen=True)
class Anchor:
    """What a host remembers of the version it started from.

    ``derived``: after a rollback the file is that version with what was published from here since; no bucket has it.
    """

    number: int
    token: str
    blake3: str
    size: int
    bucket_id: str
    derived: bool = False

    @property
    def file_name(self) -> str:
        return f"anchor-{self.number:08d}-{self.blake3[:16]}.db"

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Anchor:
        if data.get("format") != FORMAT:
            raise UnknownFormat(what="anchor.json", found=data.get("format"), known=FORMAT)
        known = {key: data[key] for key in ("number", "token", "blake3", "size", "bucket_id")}
        return cls(**known, derived=bool(data.get("derived")))


def load(place: Place) -> Anchor | None:
    """Return the anchor's record, or None if this host has none."""
    path = place.state / "anchor.json"
    if not path.exists():
        return None
    data = read_json(path)
    try:
        if data is not None:
            return Anchor.from_json(data)
    except (KeyError, TypeError):
        pass
    raise AnchorDamaged(db=place.db, host=place.host, path=path, what="is not readable")


def path_of(place: Place, anchor: Anchor) -> Path:
    return place.state / anchor.file_name


def check(place: Place, anchor: Anchor) -> Path:
    """Return the anchor's file after reading all of it: what it decides must not rest on a rotten disk."""
    path = path_of(place, anchor)
    if not path.exists():
        raise AnchorDamaged(db=place.db, host=place.host, path=path, what="is gone")
    if hash_file(path) != (anchor.blake3, anchor.size):
        raise AnchorDamaged(db=place.db, host=place.host, path=path, what="is not what it was when it was written")
    return path


def is_whole(place: Place, anchor: Anchor) -> bool:
    """Tell whether the anchor's file is the version that it bears the number of."""
    with suppress(AnchorDamaged):
        return not anchor.derived and check(place, anchor).exists()
    return False


def install(place: Place, source: Path, anchor: Anchor) -> None:
    """Make ``source``, a file of the state folder's file system, the anchor's file, and remember it.

    May be repeated after a crash at any point: the file's move and the record's replacement are each atomic.
    """
    target = path_of(place, anchor)
    if source.exists() and source != target:
        source.chmod(0o444)
        os.replace(source, target)
        fsync_folder(place.state)
    write_json(place.state / "anchor.json", anchor.to_json())


def sweep(place: Place, keep: set[str]) -> None:
    """Remove anchor files other than the current one and those named in ``keep``; all stay if the record is lost."""
    try:
        current = load(place)
    except Refused:
        return  # whoever looks next says so
    if current is None:
        return
    names = keep | {current.file_name}
    for path in place.state.glob("anchor-*.db"):
        if path.name not in names:
            path.unlink(missing_ok=True)
