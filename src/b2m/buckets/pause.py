"""A pause: somebody asks every runner to leave a database alone for a while.

It is one object, ``<db>/pause.json``, so that it is seen from every host. Unlike a lease it is for people: it ends at a
time that they named, by the clock of whoever asks, and anybody may end it before.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from b2m.buckets.protocol import Bucket
from b2m.errors import ObjectDamaged, ObjectMissing, UnknownFormat, UsageError

FORMAT = 1
LONGEST = timedelta(days=30)  # what lasts longer is not a pause, but a database that nobody syncs


class Pause(BaseModel):
    """Who paused a database, from when to when, and why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    owner: str
    since: AwareDatetime
    until: AwareDatetime
    reason: str

    @property
    def ends(self) -> str:
        """The end in ISO 8601, in UTC."""
        return self.until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def line(self) -> str:
        return f"paused until {self.ends} by {self.owner}: {self.reason}"


def pause_name(db: str) -> str:
    return f"{db}/pause.json"


def read_pause(bucket: Bucket, db: str) -> Pause | None:
    """Return the pause of a database that is in force now; ObjectDamaged, UnknownFormat for one nobody can read."""
    name = pause_name(db)
    try:
        raw = bucket.get(name)
    except ObjectMissing:
        return None
    try:
        data = json.loads(raw)
        found = data["format"]
        if isinstance(found, int) and found > FORMAT:
            raise UnknownFormat(what=f"{name} in bucket {bucket.name}", found=found, known=FORMAT)
        pause = Pause.model_validate(data)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        what = f"it is no pause; remove it with: b2m resume --db {db}"
        raise ObjectDamaged(bucket=bucket.name, name=name, what=what) from error
    return pause if pause.until > datetime.now(UTC) else None


def begin_pause(bucket: Bucket, db: str, owner: str, seconds: float, reason: str) -> Pause:
    """Pause a database, in place of a pause that it has; UsageError for no time, more than 30 days, or no reason."""
    if not 0 < seconds <= LONGEST.total_seconds():
        raise UsageError(what=f"--for must be a time of up to {LONGEST.days} days: 30m, 4h, 2d")
    if not reason.strip():
        raise UsageError(what='say why, for those who wonder: --reason "new categories are loaded"')
    now = datetime.now(UTC).replace(microsecond=0)
    pause = Pause(owner=owner, since=now, until=now + timedelta(seconds=seconds), reason=" ".join(reason.split()))
    bucket.put(pause_name(db), json.dumps(pause.model_dump(mode="json"), indent=1, sort_keys=True).encode() + b"\n")
    return pause


def end_pause(bucket: Bucket, db: str) -> Pause | None:
    """End a database's pause, one that nobody can read too; return what was in force."""
    try:
        pause = read_pause(bucket, db)
    except (ObjectDamaged, UnknownFormat):
        pause = None
    bucket.delete(pause_name(db))
    return pause
