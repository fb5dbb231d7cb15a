"""The marker ``b2m.json``: it proves that a bucket is one of b2m's, and which one.

An anchor remembers the id, so that an unmounted disk or a wrong prefix never looks like an empty bucket.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from b2m.buckets.protocol import Bucket
from b2m.errors import ObjectDamaged, ObjectExists, UnknownFormat

NAME = "b2m.json"
FORMAT = 1


@dataclass(frozen=True)
class Marker:
    """Which bucket this is; ``created`` is ISO 8601 in UTC."""

    id: str
    created: str
    format: int = FORMAT


def read_marker(bucket: Bucket) -> Marker:
    """Return a bucket's marker; ObjectMissing if it was never set up, ObjectDamaged, UnknownFormat."""
    data = _parse(bucket, bucket.get(NAME))
    found = data.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise UnknownFormat(what=f"bucket {bucket.name}", found=found, known=FORMAT)
    identity, created = data.get("id"), data.get("created")
    if found != FORMAT or not isinstance(created, str) or not re.fullmatch("[0-9a-f]{32}", str(identity)):
        raise ObjectDamaged(bucket=bucket.name, name=NAME, what="its fields are not those of a marker")
    return Marker(id=str(identity), created=created)


def init_bucket(bucket: Bucket) -> Marker:
    """Set a bucket up and return its marker; one that is set up already stays as it is."""
    bucket.prepare()
    marker = Marker(id=secrets.token_hex(16), created=datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        bucket.create(NAME, json.dumps(asdict(marker), indent=1, sort_keys=True).encode() + b"\n")
    except ObjectExists:
        return read_marker(bucket)
    return marker


def _parse(bucket: Bucket, raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise ObjectDamaged(bucket=bucket.name, name=NAME, what="it is not JSON") from error
    if not isinstance(data, dict):
        raise ObjectDamaged(bucket=bucket.name, name=NAME, what="it is not a JSON object")
    return data
