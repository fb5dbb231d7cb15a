"""A lease that this process holds: renewed by a thread, asked before every step that cannot be undone."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType

from b2m.buckets.clock import Clock
from b2m.buckets.lease_objects import SIGN, Claim, read_ledger, release_name, renewal_name
from b2m.buckets.protocol import Bucket
from b2m.errors import BucketError, LeaseLost

# The holder stops itself well before an observer may call it dead.
_LAPSES_AFTER = 0.8
_PATIENCE = 0.5  # seconds to wait for a look that was begun before, where nobody waits for a store


class Lease:
    """A lease that was acquired; a context manager that gives it back.

    ``began`` is the steady time, in seconds, at which the creation of the claim began.
    """

    def __init__(self, bucket: Bucket, claim: Claim, began: float, clock: Clock) -> None:
        self.db = claim.db
        self.epoch = claim.epoch
        self.token = claim.token
        self.owner = claim.owner
        self.ttl = claim.ttl
        self.since = claim.taken
        self.errors: list[str] = []
        self._bucket = bucket
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed = began
        self._renewals = 0
        self._lost: str | None = None
        self._released = False
        self._stop = threading.Event()
        self._ahead: threading.Thread | None = None
        self._thread = threading.Thread(target=self._renew_forever, name=f"lease {self.db}", daemon=True)
        self._thread.start()

    def ensure(self, *, look: bool = True) -> None:
        """Return while the lease is surely ours; LeaseLost if it lapsed, was taken over or broken.

        With ``look`` the bucket is asked too, so that BucketError may come out; without, only the time decides, and
        what ``look_ahead`` saw, if it ends soon.
        """
        if self._released:
            raise LeaseLost(bucket=self._bucket.name, db=self.db, what="it was released")
        if look and self._lost is None:
            self._look()
        elif self._ahead is not None:
            self._ahead.join(_PATIENCE)
        # Last, since the look itself may have taken long.
        self._check_time()
        if self._lost is not None:
            raise LeaseLost(bucket=self._bucket.name, db=self.db, what=self._lost)

    def look_ahead(self) -> None:
        """Begin to ask the bucket, for an ``ensure`` that comes in a moment and must not take long."""

        def look() -> None:
            with suppress(BucketError):
                self._look()

        self._ahead = threading.Thread(target=look, name=f"lease {self.db}, a look", daemon=True)
        self._ahead.start()

    def renew(self) -> None:
        """Show a sign of life; the thread does this every third of the ttl. LeaseLost, BucketError."""
        began = self._clock.steady()
        # A process that was stopped for long must not revive a lease that others may have taken meanwhile.
        self.ensure()
        # Each try has a name of its own: an earlier one may have been written although its answer was lost, and others
        # would not see that it was written again.
        self._renewals += 1
        number = self._renewals
        # The only writer of this name is this lease: a put will do, which in some stores costs less than a create.
        self._bucket.put(renewal_name(self.db, self.epoch, number), SIGN)
        with self._lock:
            self._renewed = max(self._renewed, began)
        if number > 2:
            with suppress(BucketError):
                self._bucket.delete(renewal_name(self.db, self.epoch, number - 2))

    def release(self) -> None:
        """Give the lease back; BucketError if that cannot be written. May be called again."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        if self._released:
            return
        self._bucket.put(release_name(self.db, self.epoch), SIGN)
        self._released = True

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.release()
        except BucketError:
            # The error that ended the block says more; the lease expires by itself.
            if error is None:
                raise

    def _renew_forever(self) -> None:
        pause = self.ttl / 3
        while not self._stop.wait(pause):
            try:
                self.renew()
                pause = self.ttl / 3
            except LeaseLost:
                return
            except Exception as error:  # whatever a store's library throws must not end the renewals
                self.errors.append(str(error))
                del self.errors[:-20]
                pause = self.ttl / 15

    def _look(self) -> None:
        epoch = read_ledger(self._bucket, self.db).epoch
        if epoch > self.epoch:
            self._lost = f"epoch {epoch} came after our {self.epoch}"
        elif epoch < self.epoch:
            self._lost = f"its objects are gone from epoch {self.epoch} on"

    def _check_time(self) -> None:
        with self._lock:
            silent = self._clock.steady() - self._renewed
        if self._lost is None and silent > self.ttl * _LAPSES_AFTER:
            why = f": {self.errors[-1]}" if self.errors else ""
            self._lost = f"not renewed for {silent:.0f} s{why}"
