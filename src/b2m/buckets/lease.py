"""The lease: the right to change one database in a bucket, for one run at a time.

It makes collisions rare; commits and their tokens make them harmless. It runs where the run was started, since the
key that may write leases stays there.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from b2m.buckets.clock import Clock, SystemClock
from b2m.buckets.lease_held import Lease
from b2m.buckets.lease_objects import (
    SIGN,
    Claim,
    LeaseView,
    claim_name,
    look,
    read_claim,
    read_holder,
    read_ledger,
    release_name,
    view,
)
from b2m.buckets.lease_seen import Moment, Observer
from b2m.buckets.protocol import Bucket
from b2m.errors import BucketError, ExistsTwice, Locked, ObjectDamaged, ObjectExists, ObjectMissing

__all__ = ["Lease", "LeaseView", "abandon", "acquire", "break_lease", "look"]

_MOST_RACES = 100  # each lost one had a winner, unless the store contradicts itself
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0  # seconds between two looks at a lease that is held


def acquire(
    bucket: Bucket,
    db: str,
    *,
    owner: str,
    host: str,
    work: str,
    reason: str,
    ttl: float = 60.0,
    wait: float = 0.0,
    seen: Path,
    clock: Clock | None = None,
) -> Lease:
    """Take the lease on a database, waiting up to ``wait`` seconds; Locked if somebody else keeps it.

    The caller holds the work folder's flock: a lease with the same ``work`` id belongs to a dead predecessor and is
    taken over at once. Anybody else's is taken over when this machine saw it unrenewed for longer than its holder's
    ``ttl``, over several runs if need be, remembered in the file ``seen``.
    """
    clock = clock or SystemClock()
    observer = Observer(seen, clock)
    deadline = clock.steady() + wait
    pause = _FIRST_PAUSE
    races = 0
    while races < _MOST_RACES:
        before = Moment.now(clock)
        ledger, holder = read_holder(bucket, db)
        if holder is not None and holder.work != work:
            unchanged = observer.unchanged_for(bucket.name, holder.token, ledger, before)
            if unchanged <= holder.ttl:
                _pause_or_give_up(clock, holder, deadline, pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
                continue
        races += 1
        claim = Claim(
            db=db,
            epoch=ledger.epoch + 1,
            token=secrets.token_hex(16),
            owner=owner,
            host=host,
            work=work,
            pid=os.getpid(),
            reason=reason,
            ttl=ttl,
            taken=_iso(clock),
        )
        began = clock.steady()
        if _create_claim(bucket, claim):
            after = read_ledger(bucket, db)
            if after.epoch == claim.epoch:
                observer.forget()
                _remove(bucket, after.old)
                return Lease(bucket, claim, began, clock)
    what = f"the lease on {db} can be neither taken nor seen, since the store contradicts itself; run again later"
    raise BucketError(bucket=bucket.name, what=what)


def abandon(bucket: Bucket, db: str, work: str) -> bool:
    """Give back the lease of a dead run, if it had one; the caller holds the flock of its work folder ``work``."""
    _, claim = read_holder(bucket, db)
    if claim is None or claim.work != work:
        return False
    bucket.put(release_name(db, claim.epoch), SIGN)
    return True


def break_lease(bucket: Bucket, db: str, who: str) -> LeaseView | None:
    """Take the lease from whoever holds it and leave it free; return what was broken, None if it was free.

    The former holder notices at its next step that changes anything. Locked if somebody took it in this moment.
    """
    ledger = read_ledger(bucket, db)
    if ledger.free:
        return None
    clock = SystemClock()
    claim = Claim(
        db=db,
        epoch=ledger.epoch + 1,
        token=secrets.token_hex(16),
        owner=who,
        host="",
        work="",
        pid=os.getpid(),
        reason="unlock --force",
        ttl=60.0,
        taken=_iso(clock),
    )
    try:
        broken = read_claim(bucket, db, ledger.epoch)
    except (ExistsTwice, ObjectDamaged, ObjectMissing):
        # What nobody can read must be breakable too.
        broken = claim.model_copy(update={"owner": "unknown", "epoch": ledger.epoch, "token": "", "reason": "unknown"})
    if not _create_claim(bucket, claim):
        winner = read_claim(bucket, db, claim.epoch)
        raise Locked(db=db, owner=winner.owner, since=winner.taken)
    bucket.put(release_name(db, claim.epoch), SIGN)
    return view(broken, ledger.renewals, clock.wall())


def _create_claim(bucket: Bucket, claim: Claim) -> bool:
    """Tell whether the claim is ours now; after an answer that settles nothing, the bucket is asked again."""
    try:
        bucket.create(claim_name(claim.db, claim.epoch), claim.to_bytes())
    except BucketError as error:
        try:
            return read_claim(bucket, claim.db, claim.epoch).token == claim.token
        except ObjectMissing:
            if isinstance(error, ObjectExists):
                return False
            raise error from None
    return True


def _pause_or_give_up(clock: Clock, holder: Claim, deadline: float, pause: float) -> None:
    left = deadline - clock.steady()
    if left <= 0:
        raise Locked(db=holder.db, owner=holder.owner, since=holder.taken)
    # Not all who wait shall come at the same moment.
    clock.sleep(min(left, pause * random.uniform(0.75, 1.0)))


def _remove(bucket: Bucket, names: Sequence[str]) -> None:
    """Remove objects of epochs long past; what fails is left to the next holder."""
    with suppress(BucketError):
        for name in names:
            bucket.delete(name)


def _iso(clock: Clock) -> str:
    return datetime.fromtimestamp(clock.wall(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
