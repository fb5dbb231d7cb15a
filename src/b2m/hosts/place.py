"""The files of one database on one host.

::

    <folder>/db.toml                     which file is live
    <folder>/ipm-db-v5.db                live
    <folder>/.b2m/ipm/lock               held by the one run that may change live
    <folder>/.b2m/ipm/journal.jsonl      intents of a run that is under way, or was cut off
    <folder>/.b2m/ipm/anchor.json, anchor-*.db
    <folder>/.b2m/ipm/kept.json, kept/   the file that was live before, and the rows it then had
    <folder>/.b2m/ipm/work/<run>/        candidates and snapshots, on the file system of live
    <folder>/.b2m/ipm/runs/              run records
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from b2m.versions import dbtoml


@dataclass(frozen=True)
class Place:
    """Names of one database's files on one host; ``pattern`` holds ``{version}`` where names are versioned."""

    db: str
    host: str
    folder: Path
    pattern: str
    key: str
    naming: str

    @property
    def state(self) -> Path:
        return self.folder / ".b2m" / self.db

    @property
    def toml(self) -> Path:
        return self.folder / "db.toml"

    @property
    def journal(self) -> Path:
        return self.state / "journal.jsonl"

    @property
    def versioned(self) -> bool:
        return self.naming == "versioned"

    def work(self, run: str) -> Path:
        return self.state / "work" / run

    def live(self) -> Path:
        """Return the path of the live file, symlinks resolved; it may not exist."""
        return Path(os.path.realpath(self.folder / self.entry()))

    def entry(self) -> str:
        """Return the name of the live file in the folder; it may be that of a symlink.

        ``db.toml`` decides; without an entry there, the file with the highest number that fits the pattern.
        """
        name = dbtoml.read(self.toml).get(self.key) if self.toml.exists() else None
        return name or self.newest_name() or self.file_name(1)

    def file_name(self, version: int) -> str:
        return self.pattern.replace("{version}", str(version))

    def file_version(self, path: Path) -> int | None:
        """Return the number in a file's name; None if the name has none."""
        if "{version}" not in self.pattern:
            return None
        found = re.fullmatch(re.escape(self.pattern).replace(re.escape("{version}"), r"(\d+)"), path.name)
        return int(found.group(1)) if found else None

    def newest_name(self, but: str | None = None) -> str | None:
        """Return the name in the folder that fits the pattern and has the highest number, ``but`` one; None if none."""
        if not self.folder.is_dir():
            return None
        names = [path.name for path in self.folder.iterdir() if path.is_file() and path.name != but]
        numbered = [(self.file_version(self.folder / name), name) for name in names]
        found = max(((number, name) for number, name in numbered if number is not None), default=None)
        if found:
            return found[1]
        return self.pattern if "{version}" not in self.pattern and (self.folder / self.pattern).exists() else None

    def work_id(self) -> str:
        """Return the random id of this state folder, made on first use: it tells our leases from others'."""
        known = self.known_work_id()
        if known is not None:
            return known
        self.state.mkdir(parents=True, exist_ok=True)
        made = secrets.token_hex(16)
        write_atomic(self.state / "id", f"{made} {self._origin()}\n".encode())
        return made

    def known_work_id(self) -> str | None:
        """Return this state folder's id; None if it has none yet, or is a copy: a copy's lease is not ours to take."""
        try:
            known, _, origin = (self.state / "id").read_text(encoding="ascii").strip().partition(" ")
        except FileNotFoundError:
            return None
        return known if origin == self._origin() else None

    def _origin(self) -> str:
        """Tell where the state folder is: copied with its database, it would be another run's."""
        try:
            machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
        except OSError:
            machine = ""
        return f"{machine or socket.gethostname()}:{self.state.stat().st_ino}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Place:
        return cls(**{**data, "folder": Path(data["folder"])})


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a small file so that a reader, or a crash, sees the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:  # writes all, or raises: os.write may write a part on a full disk
            file.write(data)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def write_json(path: Path, data: Any) -> None:
    write_atomic(path, json.dumps(data, indent=1).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None if the file is absent or not one (it was never written half)."""
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
