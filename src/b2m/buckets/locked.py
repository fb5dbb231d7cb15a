"""A create that is decided by compare-and-swap on a small record elsewhere: B2's lock bucket.

The record has one entry a database, and in it, for each folder, the number that was created last and its creator's
token. A create

1. stages its content as ``<name>-<token>.staged`` beside the object to be;
2. reads the record, finishes what it calls pending (below), and lists: ObjectExists if the name is taken;
3. swaps the record: ``commits:00000006:<token>:p``, pending. This decides: of all who want 00000006 one wins, for ever;
4. puts the object under its name with the token, and removes what it staged. The next swap drops the ``p``.

Readers need nothing but the bucket: a name exists when its object does, after step 4. They never see an object that
could still lose, and never two. Whoever dies before step 3 has left a staged object that nobody minds; it goes when
the name is taken. Whoever dies between 3 and 4 has won, and nobody sees it yet: the next one who creates something of
that database, or a process with the lock key that reads it for the first time, puts the object from what is staged.
So a crash holds nobody up. One consequence is for recovery: that a creation of one's own did not happen is known only
to one who had ``settle`` called with the lock key (opening.py, relay.py).

Of names without a number (the marker) the entry is removed again once the object is there. Costs of a create: two puts,
a delete, and three requests that B2 charges (class C): read, list, swap.
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from b2m.buckets import tokens
from b2m.buckets.clock import Clock
from b2m.buckets.created import CreatedObjects, Store
from b2m.buckets.protocol import Capabilities, Names
from b2m.errors import BucketError, ObjectExists, ObjectMissing

T = TypeVar("T")

_PATIENCE = 60.0  # seconds in which one create may lose swaps to those of others
_MOST_LITTER = 10
_NUMBER = re.compile(r"(\d{8,})\.json")
_PROBE = "b2m-probe"
_PROBES = 10
_KEY = 50  # B2: letters, digits and - in at most so many


class Record(Protocol):
    """A small mapping that is read with its revision and replaced only if that is still the same."""

    def read(self) -> tuple[int, dict[str, str]]: ...

    def swap(self, revision: int, info: Mapping[str, str]) -> bool: ...


@dataclass(frozen=True)
class Entry:
    """The last creation in a folder, or of a name without a number; ``number`` is "" for the latter."""

    place: str  # the folder, or the whole name
    number: str
    token: str
    pending: bool

    @property
    def name(self) -> str:
        return f"{self.place}/{self.number}.json" if self.number else self.place


class LockedBucket(CreatedObjects):
    """Gives ``create`` to a store whose put cannot be conditional, by a record that can be."""

    def __init__(self, inner: Store, record: Record, *, where: str, clock: Clock | None = None) -> None:
        super().__init__(inner, clock=clock)
        self._record = record
        self._where = where  # how people call the record
        self._own: str | None = None  # the token of our last creation that is complete
        self._settled: set[str] = set()  # keys of the record in which nothing was pending when they were last seen

    def create(self, name: str, data: bytes) -> None:
        token = tokens.new_token(tokens.BY_SWAP)
        staged = tokens.staged_name(tokens.check_own_name(name), token)
        key = self._key(_db(name))
        self._settled.discard(key)
        won = False
        try:
            self._inner.put(staged, data)
            won = self._win(name, key, token)
        except ObjectExists:
            self._drop(staged)
            raise
        # Any other error may have come after the swap was made: what is staged stays, for whoever finishes it.
        assert won
        self._inner.put(tokens.created_name(name, token), data)
        self._own = token
        self._drop(staged)
        self._known.pop(name, None)
        if not _entry(name, token).number:
            self._forget(key, token)
        self._settled.add(key)
        for physical in list(self._litter)[:_MOST_LITTER]:
            del self._litter[physical]
            self._drop(physical)

    def list(self, prefix: str) -> Names:
        self._settle_once(prefix.partition("/")[0])
        return super().list(prefix)

    def probe(self) -> Capabilities:
        """Try the record itself with a key of its own, removed again: a swap of an old revision must fail."""
        how = f"creates by compare-and-swap on {self._where}"
        mark = secrets.token_hex(8)
        for _ in range(_PROBES):
            revision, info = self._record.read()
            others = {key: value for key, value in info.items() if key != _PROBE}
            try:
                if not self._record.swap(revision, {**others, _PROBE: mark}):
                    continue  # somebody else's change came between
                if self._record.swap(revision, others):
                    return Capabilities(False, f"{self._where} lets a swap of an old revision succeed")
                return Capabilities(True, how)
            finally:
                self._forget(_PROBE, mark)
        return Capabilities(True, f"{how} (not tried, since it is changed all the time)")

    def _win(self, name: str, key: str, token: str) -> bool:
        """Return when the record says that the name is this token's; ObjectExists, BucketError."""
        deadline = self._clock.steady() + _PATIENCE
        ours = _entry(name, token)
        unclear: BucketError | None = None
        while self._clock.steady() < deadline:
            revision, info = self._record.read()
            entries = _parsed(info.get(key, ""))
            last = entries.get(ours.place)
            if last is not None and last.token == token:
                return True
            for entry in entries.values():
                if entry.pending and entry.token != self._own:
                    self._finish(entry)
            if any(s.kind in ("put", "created") for s in tokens.about(name, self._beginning(name))):
                raise ObjectExists(bucket=self.name, name=name)
            if last is not None:
                self._refuse_older(name, ours, last, key)
            # All are there by now; only of numbers must be remembered that they were given away.
            done = {place: replace(entry, pending=False) for place, entry in entries.items() if entry.number}
            try:
                if self._record.swap(revision, {**info, key: _rendered({**done, ours.place: ours})}):
                    return True
                unclear = None
            except BucketError as error:
                # It may have been made: the next look at the record says. What fails twice is not worth a third try.
                if unclear is not None:
                    raise
                unclear = error
            self._clock.sleep(random.uniform(0.01, 0.2))
        what = f"cannot create {name}: {self._where} was changed by others for {_PATIENCE:.0f} s; run again later"
        raise BucketError(bucket=self.name, what=what)

    def _refuse_older(self, name: str, ours: Entry, last: Entry, key: str) -> None:
        """Refuse a number that was given away, though a listing does not show it: numbers only go up."""
        if not ours.number or int(ours.number) > int(last.number):
            return
        try:
            self._inner.size(tokens.created_name(last.name, last.token))
        except ObjectMissing:
            what = (
                f"{self._where} says that {last.name} was created, but it is not there; if this bucket was emptied on "
                f"purpose, remove {key} from the lock bucket's info (docs/buckets.md#an-emptied-bucket)"
            )
            raise BucketError(bucket=self.name, what=what) from None
        raise ObjectExists(bucket=self.name, name=name)

    def _finish(self, entry: Entry) -> None:
        """Put the object of a decided creation, if its creator did not get to it."""
        final, staged = tokens.created_name(entry.name, entry.token), tokens.staged_name(entry.name, entry.token)
        if final in self._beginning(entry.name):
            return
        # Asked for by name, since a listing may be out of date. The creator removes what it staged only after its put.
        try:
            data = self._inner.get(staged)
        except ObjectMissing:
            return
        self._inner.put(final, data)
        self._drop(staged)
        self._known.pop(entry.name, None)

    def _reading(self, name: str, read: Callable[[str], T]) -> T:
        if tokens.is_numbered(name):
            self._settle_once(_db(name))
        return super()._reading(name, read)

    def _settle_once(self, db: str) -> None:
        """Finish what a dead predecessor, or our own create that failed, left pending; once, for it is a request."""
        key = self._key(db)
        if key not in self._settled:
            self.settle(db)

    def settle(self, db: str) -> None:
        """Finish what was decided for a database and is not there yet; BucketError."""
        key = self._key(db)
        _, info = self._record.read()
        for entry in _parsed(info.get(key, "")).values():
            if entry.pending:
                self._finish(entry)
        self._settled.add(key)

    def _forget(self, key: str, token: str) -> None:
        """Remove what a key holds of this token: a name without a number, whose object shows that it is taken."""
        with suppress(BucketError):
            for _ in range(3):
                revision, info = self._record.read()
                items = info.get(key, "").split(",")
                left = [item for item in items if token not in item.split(":")]
                if len(left) == len(items):
                    return
                wanted = {**info, key: ",".join(left)} if left else {k: v for k, v in info.items() if k != key}
                if self._record.swap(revision, wanted):
                    return

    def _key(self, db: str) -> str:
        """Return the record's key for a database, "" for what belongs to none; short, and no other bucket's."""
        digest = hashlib.sha256(f"{self.name}\n{db}".encode()).hexdigest()[:12]
        return f"{digest}-{re.sub('[^A-Za-z0-9]+', '-', db) or 'bucket'}"[:_KEY].rstrip("-")

    def _drop(self, physical: str) -> None:
        with suppress(BucketError):
            self._inner.delete(physical)


def _db(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _entry(name: str, token: str) -> Entry:
    folder, _, last = name.rpartition("/")
    if folder and (number := _NUMBER.fullmatch(last)):
        return Entry(folder, number[1], token, True)
    return Entry(name, "", token, True)


def _parsed(value: str) -> dict[str, Entry]:
    entries = {}
    for item in filter(None, value.split(",")):
        place, number, token, state = item.split(":")
        entries[place] = Entry(place, number, token, state == "p")
    return entries


def _rendered(entries: Mapping[str, Entry]) -> str:
    return ",".join(
        f"{entry.place}:{entry.number}:{entry.token}:{'p' if entry.pending else ''}"
        for _, entry in sorted(entries.items())
    )
