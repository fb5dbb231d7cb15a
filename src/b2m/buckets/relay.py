"""A bucket on the host of a run, whose creates are made by the machine that the run was started from.

Bulk data goes straight between the host and the store. What makes a lease or a version come into being does not: the
key that may do it stays where it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress

from b2m.buckets.protocol import CHUNK, Bucket, Capabilities, Create, Names
from b2m.errors import BucketError, ObjectExists


class RelayedBucket:
    """A bucket with another's ``create``."""

    def __init__(self, near: Bucket, create: Create) -> None:
        self._near = near
        self._create = create
        self.name = near.name
        self.counters = near.counters

    def create(self, name: str, data: bytes) -> None:
        self.counters.add(requests=1, up=len(data))
        self._create(name, data)

    def settle(self, db: str) -> None:
        """Have the machine that makes the creates finish what a dead run of its own left decided; BucketError.

        Every create does that for its database first, so an object of no meaning is created and removed.
        """
        name = f"{db}/settled-{secrets.token_hex(8)}"
        with suppress(ObjectExists):  # nobody else has this name: ours, after an answer that was lost
            self.create(name, b"")
        with suppress(BucketError):
            self.delete(name)

    def get(self, name: str) -> bytes:
        return self._near.get(name)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        return self._near.get_range(name, start, length)

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        return self._near.stream(name, chunk)

    def size(self, name: str) -> int:
        return self._near.size(name)

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        return self._near.put(name, data)

    def list(self, prefix: str) -> Names:
        return self._near.list(prefix)

    def delete(self, name: str) -> None:
        self._near.delete(name)

    def prepare(self) -> None:
        self._near.prepare()

    def probe(self) -> Capabilities:
        return self._near.probe()
