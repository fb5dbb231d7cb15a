"""What b2m needs of a bucket, whichever store is behind it.

Names are relative to the bucket's prefix and have ``/`` between their segments. Every method raises BucketError,
or one of its subclasses, and no error of the store's own library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from b2m.errors import UsageError
from b2m.object_names import is_object_name

CHUNK = 1 << 20

Create = Callable[[str, bytes], None]
"""What makes an object that must not be there yet: a bucket's ``create``."""

Names = list[str]  # inside a class with a method named list, the builtin cannot be named


@dataclass(frozen=True)
class Capabilities:
    """What a store was seen to do, as opposed to what it says it does."""

    create_is_atomic: bool
    detail: str


class Counters:
    """What a bucket object has sent and received; may be added to from several threads."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._lock = threading.Lock()

    def add(self, *, requests: int = 0, up: int = 0, down: int = 0) -> None:
        with self._lock:
            self.requests += requests
            self.bytes_up += up
            self.bytes_down += down


class Bucket(Protocol):
    """A store of named byte strings with one conditional write."""

    name: str
    counters: Counters

    def get(self, name: str) -> bytes:
        """Return a small object; ObjectMissing if there is none."""
        ...

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from offset ``start``: fewer at the object's end, none behind it."""
        ...

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield an object in pieces of at most ``chunk`` bytes; ObjectMissing before the first of them."""
        ...

    def size(self, name: str) -> int:
        """Return an object's size in bytes; ObjectMissing if there is none."""
        ...

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        """Write or replace an object at once, durably, in bounded memory; return its size in bytes.

        An error raised by the iterable comes out as it is, and leaves the object as it was.
        """
        ...

    def create(self, name: str, data: bytes) -> None:
        """Write a small object durably; ObjectExists, and no change, if the name is taken."""
        ...

    def list(self, prefix: str) -> Names:
        """Return the sorted names below ``prefix``, whole segments, or all for ``""``; a failure is never []."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; a missing one is fine."""
        ...

    def prepare(self) -> None:
        """Make the place that holds the objects, if the store has such a thing; only ``bucket.init`` calls this."""
        ...

    def probe(self) -> Capabilities:
        """Find out with objects of its own, removed again, what the store really does."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A bucket in which a creation may be decided before everybody sees it."""

    def settle(self, db: str) -> None:
        """Make seen what was decided for a database by somebody who died then; BucketError."""
        ...


def check_name(name: str) -> str:
    """Return the name of an object; UsageError for one that some store would not keep as it is."""
    if not is_object_name(name):
        raise UsageError(what=f"{name!r} is no name of an object: letters, digits and _ . @ + = ~ - between slashes")
    return name


def is_name(name: str) -> bool:
    """Tell whether ``name`` is one that b2m can have written."""
    return is_object_name(name)
