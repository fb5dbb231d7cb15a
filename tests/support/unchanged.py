"""What a run leaves as it found it: a picture of a world's files, without what looking and refusing may write."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# Locks, records, verdicts and leases say that somebody was here; SQLite's -shm and empty -wal that it looked.
_MAY_CHANGE = re.compile(
    r"(^|/)\.b2m/([^/]+/)?(lock|id|verdict\.json|lease-seen\.json|guard\.log|db\.toml\.lock|runs/.*)$"
    r"|(^|/)\.b2m/service-\w+\.lock$"
    r"|^bucket/[^/]+/(lease|runs)/|^bucket/\.tmp/|-shm$|^shadow-|\.pyc$"
)

Picture = dict[str, str]


def picture(root: Path) -> Picture:
    """Return the hash of every file below a folder that a run which changes nothing must leave alone."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif (
            path.is_file() and not _MAY_CHANGE.search(name) and not (name.endswith("-wal") and not path.stat().st_size)
        ):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
