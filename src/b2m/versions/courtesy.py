"""What lies in the bucket for tools that are not b2m: ``db.toml``, and versions as plain files.

It is a courtesy: b2m itself never reads it, and a run does not fail because it could not be written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from b2m.buckets.protocol import CHUNK, Bucket
from b2m.versions import dbtoml, log

NAME = "db.toml"
_ATTEMPTS = 4


class Listed(Protocol):
    """How ``db.toml`` names one database: its key, and the pattern of its file names."""

    @property
    def key(self) -> str: ...
    @property
    def file(self) -> str: ...


def entries(bucket: Bucket, listed: Mapping[str, Listed]) -> dict[str, str]:
    """Return the entries of databases, computed from their heads; one without a version has none. BucketError."""
    found = {}
    for db, each in listed.items():
        if numbers := log.numbers(bucket, db):
            found[each.key] = each.file.replace("{version}", str(numbers[-1]))
    return found


def publish_plain(bucket: Bucket, db: str, name: str, path: Path) -> int:
    """Put a version's file into the bucket as it is, ``<db>/files/<name>``; return its size in bytes. BucketError."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    return bucket.put(f"{db}/files/{name}", chunks())


def publish(bucket: Bucket, listed: Mapping[str, Listed]) -> None:
    """Write the bucket's copy; BucketError.

    Runs of two databases may do so at once: each looks again after its write, so that the last one has seen both.
    """
    wanted = entries(bucket, listed)
    for _ in range(_ATTEMPTS):
        bucket.put(NAME, dbtoml.render(wanted).encode())
        now = entries(bucket, listed)
        if now == wanted:
            return
        wanted = now
