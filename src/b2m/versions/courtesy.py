"""``db.toml`` in the bucket: which file the newest version of each database is, for tools that are not b2m.

It is a courtesy: b2m itself never reads it, and a run does not fail because it could not be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from b2m.buckets.protocol import Bucket
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
