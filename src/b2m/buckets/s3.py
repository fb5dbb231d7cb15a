"""A bucket in a store that speaks S3: AWS, MinIO, R2, B2's S3 endpoint, and others.

Some stores refuse a write whose name is taken, some answer 501 to the condition, some ignore it. Where it is refused,
objects are created by it; elsewhere by flags (flagged.py), under names with tokens. All who use one bucket must do the
same, or one would not see the other: so it is decided once, by a probe, when ``bucket.init`` creates the marker, and
the name under which the marker is stored tells everybody. Reading the marker, which every command does first anyway,
costs no further request where creates are conditional, and one listing elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime

from b2m.buckets import tokens
from b2m.buckets.flagged import STALE, FlaggedBucket
from b2m.buckets.protocol import CHUNK, Bucket, Capabilities, Names
from b2m.buckets.s3_requests import NoConditions
from b2m.buckets.s3_store import S3Store
from b2m.errors import BucketError, ObjectMissing

MARKER = "b2m.json"
_BY_MARKER = "the store could not create atomically when the bucket was set up"


class S3Bucket:
    """A bucket, or what is below a prefix of it, at ``s3://bucket/prefix``; without an endpoint, AWS's."""

    def __init__(
        self,
        url: str,
        key_id: str,
        key: str,
        endpoint: str | None = None,
        region: str = "us-east-1",
        path_style: bool = True,
    ) -> None:
        self._store = S3Store(url, endpoint, region, path_style, key_id, key)
        self.name = self._store.name
        self.counters = self._store.counters
        # Until it is decided: sees what was created in either way.
        self._view: Bucket = FlaggedBucket(self._store)
        self._decided = False

    def get(self, name: str) -> bytes:
        if self._decided or name != MARKER:
            return self._view.get(name)
        try:
            data = self._store.get(name)
        except ObjectMissing:
            data = self._view.get(name)
            self._decide(FlaggedBucket(self._store, why=_BY_MARKER))
        else:
            self._decide(self._store)
        return data

    def get_range(self, name: str, start: int, length: int) -> bytes:
        return self._view.get_range(name, start, length)

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        return self._view.stream(name, chunk)

    def size(self, name: str) -> int:
        return self._view.size(name)

    def written_at(self, name: str) -> datetime:
        return self._store.written_at(name)

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        return self._view.put(name, data)

    def create(self, name: str, data: bytes) -> None:
        tokens.check_own_name(name)
        if not self._decided:
            try:
                self.get(MARKER)
            except ObjectMissing:
                self._decide_by_probe()
        try:
            self._view.create(name, data)
        except NoConditions:
            what = (
                f"cannot create {name}: the store answers 501 to conditional writes, but did them when the bucket was "
                "set up; if it was moved here, end all runs and then: b2m bucket.init"
            )
            raise BucketError(bucket=self.name, what=what) from None

    def list(self, prefix: str) -> Names:
        return self._view.list(prefix)

    def delete(self, name: str) -> None:
        self._view.delete(name)

    def prepare(self) -> None:
        """See what the store does now: a bucket that was moved to one that does less is told so by its marker."""
        self._store.prepare()
        try:
            marker = self.get(MARKER)
        except ObjectMissing:
            self._decide_by_probe()
            return
        if self._view is self._store:
            self._decide_by_probe()
            if self._view is not self._store:
                # Made of the marker itself, so that whoever does this again, or at once, writes the same object.
                token = tokens.BY_FLAGS + hashlib.sha256(marker).hexdigest()[: tokens.DIGITS]
                self._store.put(tokens.created_name(MARKER, token), marker)
                self._store.delete(MARKER)

    def probe(self) -> Capabilities:
        """Say how objects are created here, and that it was seen to work."""
        found = self._store.probe()
        if self._decided and self._view is self._store:
            return found
        if found.create_is_atomic and not self._decided:
            return found
        why = _BY_MARKER if found.create_is_atomic else found.detail
        return FlaggedBucket(self._store, why=why).probe()

    def _decide_by_probe(self) -> None:
        found = self._store.probe()
        self._decide(self._store if found.create_is_atomic else FlaggedBucket(self._store, why=found.detail))

    def _decide(self, view: Bucket) -> None:
        self._view, self._decided = view, True
        # A flag must not outlive the time after which others ignore it while its owner still tries to write.
        self._store.small_within = None if view is self._store else STALE / 3
