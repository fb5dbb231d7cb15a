"""The bracket in which the server does not use a database."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import nullcontext, suppress
from hashlib import sha256

from b2m import faults
from b2m.hosts.guard import Guard
from b2m.hosts.place import Place
from b2m.hosts.service import Service, ServiceError, Shield
from b2m.journal import Journal

GUARD_GRACE = 30.0  # seconds of silence, beyond the longest step without a sign of life, that the guard bears


class Hold:
    """One hold: the guard watches, the intent is journaled, then the server is told to let go."""

    def __init__(self, place: Place, journal: Journal, service: Service, lock_fd: int, max_downtime: float) -> None:
        """Wait for other databases' holds of the same service, and start the guard; ServiceError if they do not end."""
        self.service = service
        self.max_downtime = max_downtime
        self._journal = journal
        grace = faults.setting("GUARD_GRACE", GUARD_GRACE)
        patience = max(service.start_timeout, service.stop_timeout, max_downtime) + grace
        longest = service.start_timeout + service.stop_timeout + max_downtime + grace
        self._turn = _turn(place, service, longest)
        try:
            self._guard = Guard(place, (lock_fd, self._turn), patience)
        except BaseException:
            os.close(self._turn)
            raise
        self.was_well = service.problem() is None
        self.still_unwell: str | None = None  # what is wrong with a server that was not well before
        self.began = 0.0
        self.deadline = float("inf")
        self.downtime: float | None = None

    def take_away(self, shielded: Shield = nullcontext) -> None:
        """Make the server let go; b2m's own work then has ``max_downtime`` seconds."""
        self._journal.append("hold", service=self.service.to_json(), was_well=self.was_well)
        self.began = self.began or time.monotonic()
        self.service.take_away(self._guard.alive_fd, shielded)
        self.deadline = time.monotonic() + self.max_downtime

    def beat(self) -> None:
        self._guard.beat()

    def give_back(self, shielded: Shield = nullcontext) -> None:
        """Let the server have the database again; returns when it is as well as before, or raises ServiceError."""
        self.deadline = float("inf")
        self.still_unwell = self.service.give_back(was_well=self.was_well, shielded=shielded)
        if self.downtime is None:
            self.downtime = time.monotonic() - self.began

    def end(self) -> None:
        """Note in the journal that the hold is over, and end the guard."""
        # The server is well, so a disk too full for this entry undoes nothing: the next run gives back once more.
        with suppress(OSError):
            self._journal.append("released")
        self._guard.disarm()
        os.close(self._turn)

    def abandon(self) -> None:
        """Leave to the guard, at once, what the run could not end."""
        self._guard.abandon()
        os.close(self._turn)


def _turn(place: Place, service: Service, wait: float) -> int:
    """Return the held lock of a service, as a file descriptor that the guard inherits.

    Where one command stops the server of several databases, two runs must not start it in one another's hold. A
    service with a command for each database has a lock for each.
    """
    name = sha256(f"{service.cwd}\0{service.away}\0{service.back}".encode()).hexdigest()[:16]
    fd = os.open(place.folder / ".b2m" / f"service-{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if time.monotonic() > until:
                    what = f"{service.name} is kept away for another database for more than {wait:g} s"
                    raise ServiceError(what) from None
                time.sleep(0.02)
    except BaseException:
        os.close(fd)
        raise
