"""How long this machine itself has seen a lease without a sign of life.

Clocks of two machines are never compared. What was seen is kept in a file, so that a run that does not wait breaks a
dead run's lease at one of its next visits.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from b2m.buckets.clock import Clock
from b2m.buckets.lease_objects import Ledger


@dataclass(frozen=True)
class Moment:
    """A point in time on this machine; steady times compare only within one boot."""

    steady: float
    wall: float
    boot: str | None

    @classmethod
    def now(cls, clock: Clock) -> Moment:
        return cls(clock.steady(), clock.wall(), clock.boot())

    def until(self, later: Moment) -> float | None:
        """Return the seconds between two moments; None if the clocks cannot tell."""
        if self.boot is None or later.boot is None:
            # Without a name of the boot only the wall clock is left: believe it unless it was set back.
            return later.wall - self.wall if later.wall >= self.wall else None
        return later.steady - self.steady if self.boot == later.boot else None


class Observer:
    """Watches one database's lease from one work folder."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._object, self._first = self._load()

    def unchanged_for(self, bucket: str, token: str, ledger: Ledger, before: Moment) -> float:
        """Take in what a listing showed and return for how many seconds it has been the same.

        ``before`` is a moment before that listing began; the first sight counts from after its listing, so that
        the time is never counted too long. A restart of the machine starts the observation anew.
        """
        seen = f"{bucket} {ledger.epoch} {ledger.renewals} {token}"
        if seen == self._object and self._first is not None:
            elapsed = self._first.until(before)
            if elapsed is not None:
                return max(0.0, elapsed)
        self._object, self._first = seen, Moment.now(self._clock)
        self._save()
        return 0.0

    def forget(self) -> None:
        """Drop the observation: the lease was taken."""
        self._object, self._first = "", None
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _load(self) -> tuple[str, Moment | None]:
        try:
            data = json.loads(self._path.read_bytes())
            return str(data["object"]), Moment(**data["first_seen"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", None  # no observation, or none that can be used: begin anew, which only takes longer

    def _save(self) -> None:
        assert self._first is not None
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        # A full disk must not stop a run here; without the file the next visit begins anew.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"object": self._object, "first_seen": asdict(self._first)}))
            temporary.replace(self._path)
