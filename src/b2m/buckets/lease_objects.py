"""The objects of which leases are made, and what can be read from them.

::

    <db>/lease/00000012.json                  the claim: who took the lease, and for how long without a renewal
    <db>/lease/00000012.renew.00000003.json   the third sign of life
    <db>/lease/00000012.release.json          it was given back

A claim is created; the others have one writer, their claim's holder, and always one content, ``SIGN``: they are put.
None is ever changed. The claim with the highest number, the epoch, decides; the others are history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from b2m.buckets.protocol import Bucket
from b2m.errors import ObjectDamaged, ObjectMissing, UnknownFormat

FORMAT = 1
SIGN = b"{}\n"

_ATTEMPTS = 5

_NAME = re.compile(r"(?P<epoch>\d{8,})(?:\.(?:(?P<release>release)|renew\.(?P<renewal>\d{8,})))?\.json")


class Claim(BaseModel):
    """The content of a claim; ``ttl`` in seconds, ``taken`` in ISO 8601 by the holder's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    db: str
    epoch: int
    token: str
    owner: str
    host: str
    work: str
    pid: int
    reason: str
    ttl: float
    taken: str

    def to_bytes(self) -> bytes:
        return json.dumps(self.model_dump(), indent=1, sort_keys=True).encode() + b"\n"


@dataclass(frozen=True)
class LeaseView:
    """A lease as others see it.

    ``age`` in seconds is for people: it compares two clocks, and is negative if the holder's is ahead of ours.
    """

    db: str
    epoch: int
    token: str
    owner: str
    host: str
    work: str
    reason: str
    ttl: float
    since: str
    renewals: int
    age: float


@dataclass(frozen=True)
class Ledger:
    """What one listing of a database's lease objects says of its newest epoch; epoch 0: there never was a lease."""

    epoch: int
    renewals: int
    released: bool
    old: Sequence[str]  # names of the objects of epochs that are long past

    @property
    def free(self) -> bool:
        return self.epoch == 0 or self.released


def claim_name(db: str, epoch: int) -> str:
    return f"{db}/lease/{epoch:08d}.json"


def renewal_name(db: str, epoch: int, number: int) -> str:
    return f"{db}/lease/{epoch:08d}.renew.{number:08d}.json"


def release_name(db: str, epoch: int) -> str:
    return f"{db}/lease/{epoch:08d}.release.json"


def read_ledger(bucket: Bucket, db: str, keep: int = 20) -> Ledger:
    """List a database's lease objects once and say what they mean; ``keep`` epochs do not count as old."""
    parsed = []
    for name in bucket.list(f"{db}/lease"):
        if found := _NAME.fullmatch(name.rpartition("/")[2]):
            parsed.append((int(found["epoch"]), found["release"] is not None, int(found["renewal"] or 0), name))
    claims = [epoch for epoch, release, renewal, _ in parsed if not release and not renewal]
    epoch = max(claims, default=0)
    return Ledger(
        epoch=epoch,
        renewals=max((renewal for of, _, renewal, _ in parsed if of == epoch), default=0),
        released=any(release for of, release, _, _ in parsed if of == epoch),
        old=[name for of, _, _, name in parsed if of <= epoch - keep],
    )


def read_claim(bucket: Bucket, db: str, epoch: int) -> Claim:
    """Return a claim; ObjectMissing, ObjectDamaged, UnknownFormat."""
    name = claim_name(db, epoch)
    raw = bucket.get(name)
    try:
        data = json.loads(raw)
        found = data["format"]
        if isinstance(found, int) and found > FORMAT:
            raise UnknownFormat(what=f"{name} in bucket {bucket.name}", found=found, known=FORMAT)
        claim = Claim.model_validate(data)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        what = "it is no claim of a lease; if nobody works on the database, run: b2m unlock --force"
        raise ObjectDamaged(bucket=bucket.name, name=name, what=what) from error
    if (claim.db, claim.epoch) != (db, epoch):
        raise ObjectDamaged(bucket=bucket.name, name=name, what="it is the claim of another lease")
    return claim


def read_holder(bucket: Bucket, db: str) -> tuple[Ledger, Claim | None]:
    """Return what a listing says, and the claim of the lease that is held now; None if it is free."""
    for attempt in range(_ATTEMPTS):
        ledger = read_ledger(bucket, db)
        if ledger.free:
            break
        try:
            return ledger, read_claim(bucket, db, ledger.epoch)
        except ObjectMissing:
            # Many others came and went since the listing, so that the claim is history that was removed.
            if attempt == _ATTEMPTS - 1:
                raise
    return ledger, None


def view(claim: Claim, renewals: int, now: float) -> LeaseView:
    """Show a claim to people; ``now`` in seconds since 1970."""
    try:
        age = now - datetime.fromisoformat(claim.taken).timestamp()
    except ValueError:
        age = 0.0
    return LeaseView(
        db=claim.db,
        epoch=claim.epoch,
        token=claim.token,
        owner=claim.owner,
        host=claim.host,
        work=claim.work,
        reason=claim.reason,
        ttl=claim.ttl,
        since=claim.taken,
        renewals=renewals,
        age=age,
    )


def look(bucket: Bucket, db: str) -> LeaseView | None:
    """Return the lease that is held now, lapsed or not; None if nobody holds one."""
    ledger, claim = read_holder(bucket, db)
    return view(claim, ledger.renewals, datetime.now(UTC).timestamp()) if claim else None
