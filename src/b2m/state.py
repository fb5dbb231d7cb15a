"""From facts to one state, or one refusal: an ordered decision table whose first fitting row wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from b2m import errors
from b2m.facts import Facts

StateName = Literal["up_to_date", "ready_to_upload", "outdated_db", "locked", "refused"]
STATES: tuple[StateName, ...] = ("up_to_date", "ready_to_upload", "outdated_db", "locked")

MAX_SKEW = 300.0  # seconds


@dataclass(frozen=True)
class Verdict:
    """A database's state; ``refusal`` says why where the state is ``refused``."""

    state: StateName
    refusal: errors.Refused | None = None

    @property
    def reason(self) -> str | None:
        return self.refusal.reason if self.refusal else None


def classify(facts: Facts) -> Verdict:
    """Return the state of a database; total, and without any effect."""
    for fits, verdict in TABLE:
        if fits(facts):
            return verdict(facts)
    raise AssertionError("the last row of the table fits everything")


def _refuse(make: Callable[[Facts], errors.Refused]) -> Callable[[Facts], Verdict]:
    return lambda facts: Verdict("refused", make(facts))


def _state(name: StateName) -> Callable[[Facts], Verdict]:
    return lambda facts: Verdict(name)


def _bucket_lost(facts: Facts) -> str | None:
    """Why the bucket is not the one that this host's versions are in; None if it is."""
    bucket, anchor = facts.in_bucket, facts.anchor
    if bucket.problem is not None:
        return bucket.problem
    if anchor is None:
        return None
    if bucket.bucket_id != anchor.bucket_id:
        return f"this host's v{anchor.number} came from another bucket ({anchor.bucket_id[:8]}…)"
    if facts.head is None or facts.head.number < anchor.number:
        found = "no version" if facts.head is None else f"nothing newer than v{facts.head.number}"
        return f"this host has v{anchor.number}, but the bucket has {found}"
    return None


def _number(facts: Facts) -> int:
    return facts.anchor.number if facts.anchor else 0


def _head(facts: Facts) -> int:
    return facts.head.number if facts.head else 0


def _problem(facts: Facts) -> errors.Refused:
    assert facts.on_host.problem is not None
    return facts.on_host.problem


def _work_to_do(facts: Facts) -> bool:
    return facts.live.dirty or _number(facts) != _head(facts) or facts.anchor is None


def _held_by_another(facts: Facts) -> bool:
    lease = facts.in_bucket.lease
    return lease is not None and not lease.ours


TABLE: tuple[tuple[Callable[[Facts], bool], Callable[[Facts], Verdict]], ...] = (
    # A run that is under way here: what else was seen may be half of what it does.
    (lambda f: f.on_host.busy is not None, _state("locked")),
    (
        lambda f: f.on_host.unfinished is not None,
        _refuse(lambda f: errors.Unfinished(db=f.db, run=f.on_host.unfinished, host=f.host)),
    ),
    (
        lambda f: _bucket_lost(f) is not None,
        _refuse(lambda f: errors.BucketLost(db=f.db, what=_bucket_lost(f))),
    ),
    (lambda f: f.on_host.problem is not None, _refuse(_problem)),
    (
        lambda f: f.anchor is not None and not f.live.exists,
        _refuse(lambda f: errors.LiveMissing(db=f.db, host=f.host, path=f.live.path, version=_number(f))),
    ),
    (
        lambda f: not f.live.exists and f.head is None,
        _refuse(lambda f: errors.NothingHere(db=f.db, host=f.host, path=f.live.path)),
    ),
    (
        lambda f: f.live.exists and f.head is not None and f.anchor is None,
        _refuse(lambda f: errors.NoBase(db=f.db, host=f.host, path=f.live.path, head=_head(f))),
    ),
    (
        lambda f: f.in_bucket.ancestry == "changed",
        _refuse(lambda f: errors.ChangedUnderNumber(db=f.db, version=_number(f))),
    ),
    (
        lambda f: f.in_bucket.ancestry == "diverged",
        _refuse(lambda f: errors.Diverged(db=f.db, version=_number(f), head=_head(f))),
    ),
    (
        lambda f: abs(f.in_bucket.skew) > MAX_SKEW,
        _refuse(lambda f: errors.ClockSkew(db=f.db, seconds=round(f.in_bucket.skew))),
    ),
    (
        lambda f: f.direction == "bucket_to_host" and f.live.dirty,
        _refuse(lambda f: errors.ReadOnlyHost(db=f.db, path=f.live.path, rows=f.live.changed_rows, host=f.host)),
    ),
    (
        lambda f: f.direction == "bucket_to_host" and f.head is None,
        _refuse(lambda f: errors.NothingHere(db=f.db, host=f.host, path=f.live.path)),
    ),
    (lambda f: not _work_to_do(f), _state("up_to_date")),
    (_held_by_another, _state("locked")),
    (lambda f: f.head is not None and _number(f) != _head(f), _state("outdated_db")),
    (lambda f: True, _state("ready_to_upload")),
)
