"""The bracket in which the server does not use a database."""

from __future__ import annotations

import time
from contextlib import suppress

from b2m import faults
from b2m.hosts.guard import Guard
from b2m.hosts.place import Place
from b2m.hosts.service import Service
from b2m.journal import Journal

GUARD_GRACE = 30.0  # seconds of silence, beyond the longest step without a sign of life, that the guard bears


class Hold:
    """One hold: the guard watches, the intent is journaled, then the server is told to let go."""

    def __init__(self, place: Place, journal: Journal, service: Service, lock_fd: int, max_downtime: float) -> None:
        self.service = service
        self.max_downtime = max_downtime
        self._journal = journal
        patience = max(service.start_timeout, service.stop_timeout, max_downtime)
        patience += faults.setting("GUARD_GRACE", GUARD_GRACE)
        self._guard = Guard(place, lock_fd, patience)
        self.began = 0.0
        self.deadline = float("inf")
        self.downtime: float | None = None

    def take_away(self) -> None:
        """Make the server let go; b2m's own work then has ``max_downtime`` seconds."""
        self._journal.append("hold", service=self.service.to_json())
        self.began = self.began or time.monotonic()
        self.service.take_away(self._guard.alive_fd)
        self.deadline = time.monotonic() + self.max_downtime

    def beat(self) -> None:
        self._guard.beat()

    def give_back(self) -> None:
        """Let the server have the database again; returns when it is healthy, or raises ServiceError."""
        self.deadline = float("inf")
        self.service.give_back()
        if self.downtime is None:
            self.downtime = time.monotonic() - self.began

    def end(self) -> None:
        """Note in the journal that the hold is over, and end the guard."""
        # The server is well, so a disk too full for this entry undoes nothing: the next run gives back once more.
        with suppress(OSError):
            self._journal.append("released")
        self._guard.disarm()
