"""A store whose put cannot be conditional, as readers see it: created objects under the names they were created by.

How a name is won is the matter of the two subclasses, FlaggedBucket and LockedBucket; what they leave is read here.
An object that was created is stored under a name with its creator's token (tokens.py). A listing shows each name
once. Reading a name of which two objects exist is an error that names both, for neither may hide the other; since a
creator that finds itself second removes its object at once, a reader looks again for a few seconds first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from b2m.buckets import tokens
from b2m.buckets.clock import Clock, SystemClock
from b2m.buckets.protocol import CHUNK, Capabilities, Counters, Names, check_name
from b2m.errors import ExistsTwice, ObjectMissing

T = TypeVar("T")

_LOOKS = (0.1, 0.3, 0.6, 1.0, 1.5, 0.0)  # seconds after each look at a name that exists twice
_ATTEMPTS = 3  # of reading an object that is deleted and created again at the same time


class Store(Protocol):
    """What a store must do: the Bucket protocol without a conditional write."""

    name: str
    counters: Counters

    def get(self, name: str) -> bytes: ...

    def get_range(self, name: str, start: int, length: int) -> bytes: ...

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]: ...

    def size(self, name: str) -> int: ...

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int: ...

    def list(self, prefix: str) -> Names: ...

    def delete(self, name: str) -> None: ...

    def prepare(self) -> None: ...


@runtime_checkable
class ListsBeginnings(Protocol):
    """A store that can list by the beginning of a name, not only by whole segments: fewer names come back."""

    def list_beginning(self, beginning: str) -> Names: ...


class CreatedObjects:
    """The Bucket protocol over the stored names of ``inner``, but for ``create`` and ``probe``."""

    def __init__(self, inner: Store, *, clock: Clock | None = None) -> None:
        self.name = inner.name
        self.counters = inner.counters
        self._inner = inner
        self._clock = clock or SystemClock()
        # From listings: the stored objects of a name. Only saves requests, since an object never changes its content.
        self._known: dict[str, tuple[tokens.Stored, ...]] = {}
        self._litter: dict[str, None] = {}

    def get(self, name: str) -> bytes:
        return self._reading(name, self._inner.get)

    def get_range(self, name: str, start: int, length: int) -> bytes:
        return self._reading(name, lambda physical: self._inner.get_range(physical, start, length))

    def size(self, name: str) -> int:
        return self._reading(name, self._inner.size)

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        def begin(physical: str) -> tuple[bytes | None, Iterator[bytes]]:
            pieces = self._inner.stream(physical, chunk)
            return next(pieces, None), pieces

        first, rest = self._reading(name, begin)
        if first is not None:
            yield first
            yield from rest

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        return self._inner.put(tokens.check_own_name(name), data)

    def list(self, prefix: str) -> Names:
        listed = [tokens.parse(physical) for physical in self._inner.list(prefix)]
        objects = _grouped(listed)
        known = {name: found for name, found in list(self._known.items()) if not _is_below(name, prefix)}
        self._known = known | objects
        # What stands beside an object that exists has done its duty; its writer may have died before removing it.
        self._litter.update({s.physical: None for s in listed if s.kind in ("flag", "staged") and s.name in objects})
        return sorted(objects)

    def delete(self, name: str) -> None:
        found = self._known.get(check_name(name)) or self._look_once(name)
        for stored in found:
            self._inner.delete(stored.physical)
        self._known.pop(name, None)

    def prepare(self) -> None:
        self._inner.prepare()

    def probe(self) -> Capabilities:
        raise NotImplementedError

    def _beginning(self, name: str) -> Names:
        """List at least everything that is stored for a name, in one request."""
        beginning = tokens.beginning(name)
        if isinstance(self._inner, ListsBeginnings):
            return self._inner.list_beginning(beginning)
        return self._inner.list(beginning.rpartition("/")[0])

    def _reading(self, name: str, read: Callable[[str], T]) -> T:
        """Call ``read`` with the stored name of the one object of this name; ObjectMissing."""
        known = self._known.get(check_name(name), ())
        if len(known) == 1 or not (known or tokens.is_numbered(name)):
            try:
                return read(known[0].physical if known else name)
            except ObjectMissing:
                self._known.pop(name, None)
        for _ in range(_ATTEMPTS):
            physical = self._look(name)
            try:
                return read(physical)
            except ObjectMissing:
                self._known.pop(name, None)
        raise ObjectMissing(bucket=self.name, name=name)

    def _look(self, name: str) -> str:
        """Return the stored name of the one object of this name; ObjectMissing, BucketError if there are two."""
        for pause in _LOOKS:
            found = self._look_once(name)
            if not found:
                raise ObjectMissing(bucket=self.name, name=name)
            if len(found) == 1:
                self._known[name] = found
                return found[0].physical
            if pause:
                self._clock.sleep(pause)
        raise ExistsTwice(bucket=self.name, what=fork(name, found))

    def _look_once(self, name: str) -> tuple[tokens.Stored, ...]:
        return _grouped(tokens.about(name, self._beginning(name))).get(name, ())


def fork(name: str, found: Iterable[tokens.Stored]) -> str:
    """Say that a name exists twice, and what to do."""
    both = " and ".join(stored.physical.rpartition("/")[2] for stored in found)
    return (
        f"{name} exists twice, as {both}: two runs created it at the same time, and which one is right only a person "
        "can say; delete the other one by hand (docs/buckets.md#a-name-that-exists-twice)"
    )


def _grouped(listed: Iterable[tokens.Stored]) -> dict[str, tuple[tokens.Stored, ...]]:
    grouped: dict[str, tuple[tokens.Stored, ...]] = {}
    for stored in listed:
        if stored.kind in ("put", "created"):
            grouped[stored.name] = (*grouped.get(stored.name, ()), stored)
    return grouped


def _is_below(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(f"{prefix}/")
