"""A create for a store that has only put: flags, as restic locks without conditions.

Whoever wants to create a name

1. puts a flag of its own beside it, waits ``WAIT`` seconds, and lists what is stored for that name;
2. gives up with ObjectExists if the name is taken; yields to any other live flag, so that of two creators who both
   wrote their flags at least one sees the other's; a listing that lacks our own flag is too old to say anything;
3. alone: puts the object under a name with its token, lists again, removes its object if another is there too, and
   takes the flag down.

The one with the lowest token keeps its flag up until the others have gone; they take theirs down and come back after
a random pause. A flag is ignored and removed by whoever has itself seen it for ``STALE`` seconds, so that a dead
creator holds a name up for no longer. A creator writes nothing any more ``STALE / 3`` seconds after it raised its
flag. One that is stopped for longer between looking at the clock and writing can still come second: it sees that and
removes its object; readers meanwhile, and for ever if it dies in that moment, see two and refuse (created.py).

Costs of a create that meets nobody: two puts, a delete, and two listings; on B2 only these two (class C) are charged.
"""

from __future__ import annotations

import random
import secrets
from contextlib import suppress

from b2m.buckets import tokens
from b2m.buckets.clock import Clock
from b2m.buckets.created import CreatedObjects, Store
from b2m.buckets.protocol import Capabilities, Names
from b2m.errors import BucketError, ObjectExists

WAIT = 0.2  # seconds between a flag and the listing: restic's
STALE = 30.0  # seconds after which a flag that was seen all the time counts as a dead creator's

_LOOKS = (0.1, 0.3, 0.6, 1.0, 0.0)  # seconds after each listing that lacks what was just written
_LARGEST = 64 << 10  # bytes of an object that is surely written, or given up, while its flag is fresh
_MOST_LITTER = 10  # objects of dead creators that one create removes


class FlaggedBucket(CreatedObjects):
    """Gives ``create`` to a store whose put cannot be conditional; ``why`` says so to people."""

    def __init__(
        self,
        inner: Store,
        *,
        why: str = "the store has no create-if-absent",
        wait: float = WAIT,
        stale: float = STALE,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(inner, clock=clock)
        self._why = why
        self._wait = wait
        self._stale = stale
        self._limit = stale / 3
        self._patience = 2 * stale + 10
        self._seen: dict[str, float] = {}  # flags of others, by the steady time at which they were first seen

    def create(self, name: str, data: bytes) -> None:
        self._refuse_locked(tokens.check_own_name(name))
        if len(data) > _LARGEST:
            what = f"cannot create {name}: its {len(data)} bytes are too many to be written before a flag is stale"
            raise BucketError(bucket=self.name, what=what)
        deadline = self._clock.steady() + self._patience
        # Only the first look is made with a flag up: who meets others waits for them without one, and bars nobody.
        while not self._try(name, data):
            others = self._live(name, self._beginning(name))
            while self._clock.steady() <= deadline and others:
                self._clock.sleep(random.uniform(0.5, 2.5) * max(self._wait, 0.05))
                others = self._live(name, self._beginning(name))
            if self._clock.steady() > deadline:
                raise BucketError(bucket=self.name, what=self._gave_up(name, others))
        self._tidy()

    def probe(self) -> Capabilities:
        """Say which way is used; that the store keeps what it is told is seen by creating one name twice."""
        name = f"b2m-probe-{secrets.token_hex(8)}"
        try:
            self.create(name, b"first")
            try:
                self.create(name, b"second")
            except ObjectExists:
                return Capabilities(self.get(name) == b"first", f"creates by flags, since {self._why}")
            return Capabilities(False, "a second create of one name succeeded: the listing is not up to date")
        finally:
            self.delete(name)

    def _gave_up(self, name: str, others: Names) -> str:
        if others:
            what = f"others have been creating it for {self._patience:.0f} s; try later (flags: {', '.join(others)})"
        else:
            what = f"the store is too slow, or this process was stopped: {self._limit:.0f} s passed before each write"
        return f"cannot create {name}: {what}"

    def _try(self, name: str, data: bytes) -> bool:
        """Create the object; False if somebody else was in the way. ObjectExists, BucketError."""
        token = tokens.new_token(tokens.BY_FLAGS)
        flag = tokens.flag_name(name, token)
        raised = self._clock.steady()
        alone = False
        try:
            self._inner.put(flag, b"")
            self._clock.sleep(self._wait)
            alone = self._is_alone(name, token, raised)
        finally:
            if not alone:
                self._drop(flag)
        if alone:
            self._write(name, data, token)
            self._drop(flag)
        return alone

    def _is_alone(self, name: str, token: str, raised: float) -> bool:
        """Wait until no other flag is up; False if this flag has to yield, ObjectExists if the name is taken."""
        while others := self._live(name, self._listing_with(tokens.flag_name(name, token), name), token):
            # Of those who see each other the lowest stays, else all would come and go together.
            if min(tokens.parse(flag).token for flag in others) < token or self._is_late(raised):
                return False
            self._clock.sleep(random.uniform(0.5, 1.0) * max(self._wait, 0.05))
        return not self._is_late(raised)

    def _write(self, name: str, data: bytes, token: str) -> None:
        """Write the object that only this creator may write now, and make sure that it is the only one.

        After an error nobody can say whether it was written: the flag stays up, until others call it stale.
        """
        physical = tokens.created_name(name, token)
        self._inner.put(physical, data)
        found = [s for s in tokens.about(name, self._listing_with(physical, name)) if s.kind in ("put", "created")]
        if len(found) > 1:
            self._inner.delete(physical)
            self._drop(tokens.flag_name(name, token))
            self._known.pop(name, None)
            raise ObjectExists(bucket=self.name, name=name)
        self._known[name] = tuple(found)

    def _live(self, name: str, listed: Names, own: str = "") -> Names:
        """Return the flags of others that count, lowest token first; ObjectExists if the name is taken."""
        found = tokens.about(name, listed)
        if any(stored.kind in ("put", "created") for stored in found):
            raise ObjectExists(bucket=self.name, name=name)
        now = self._clock.steady()
        live = []
        for stored in found:
            if stored.kind != "flag" or stored.token == own:
                continue
            if now - self._seen.setdefault(stored.physical, now) > self._stale:
                self._drop(stored.physical)
            else:
                live.append(stored.physical)
        return sorted(live)

    def _listing_with(self, physical: str, name: str) -> Names:
        """List what is stored for a name; a listing without what was just written is out of date."""
        for pause in _LOOKS:
            listed = self._beginning(name)
            if physical in listed:
                return listed
            if pause:
                self._clock.sleep(pause)
        what = f"its listing does not show {physical}, which was just written; nothing can be created safely, try later"
        raise BucketError(bucket=self.name, what=what)

    def _is_late(self, raised: float) -> bool:
        return self._clock.steady() - raised > self._limit

    def _drop(self, physical: str) -> None:
        """Remove a flag, or what a dead creator left; if that fails, others will."""
        with suppress(BucketError):
            self._inner.delete(physical)
            self._seen.pop(physical, None)

    def _tidy(self) -> None:
        for physical in list(self._litter)[:_MOST_LITTER]:
            del self._litter[physical]
            self._drop(physical)

    def _refuse_locked(self, name: str) -> None:
        """Refuse to mix: who creates through a lock bucket does not see flags."""
        folder = name.rpartition("/")[0]
        for known, found in list(self._known.items()):
            if known.rpartition("/")[0] == folder and any(s.token.startswith(tokens.BY_SWAP) for s in found):
                what = f"cannot create {name}: {known} was created through a lock bucket; give this bucket its locks:"
                raise BucketError(bucket=self.name, what=what)
