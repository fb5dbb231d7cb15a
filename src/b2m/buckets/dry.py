"""A bucket that is read as it is, and of which a write is only measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from b2m.buckets.protocol import CHUNK, Bucket, Capabilities, Counters, Names
from b2m.errors import ObjectExists, ObjectMissing


class DryBucket:
    """Stands in for a bucket in a rehearsal; ``counters.bytes_up`` says what would have been sent."""

    def __init__(self, real: Bucket) -> None:
        self.name = real.name
        self.counters = Counters()
        self._real = real

    def get(self, name: str) -> bytes:
        return self._real.get(name)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        return self._real.get_range(name, start, length)

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        return self._real.stream(name, chunk)

    def size(self, name: str) -> int:
        return self._real.size(name)

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        size = sum(map(len, [data] if isinstance(data, bytes) else data))
        self.counters.add(requests=1, up=size)
        return size

    def create(self, name: str, data: bytes) -> None:
        try:
            self._real.size(name)
        except ObjectMissing:
            self.put(name, data)
        else:
            raise ObjectExists(bucket=self.name, name=name)

    def list(self, prefix: str) -> Names:
        return self._real.list(prefix)

    def delete(self, name: str) -> None:
        self.counters.add(requests=1)

    def prepare(self) -> None:
        return None

    def probe(self) -> Capabilities:
        return Capabilities(create_is_atomic=False, detail="nothing is written in a rehearsal")
