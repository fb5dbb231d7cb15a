"""Time as leases need it: a clock that nobody sets and that goes on while the machine sleeps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

# time.monotonic() stands still while a laptop sleeps: a lease that lapsed in that time would look held.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What a lease asks of time; tests have their own."""

    def steady(self) -> float:
        """Return seconds since some moment of this boot; never goes backwards, is never set."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970, as far as this machine knows."""
        ...

    def boot(self) -> str | None:
        """Return what names this boot of this machine: steady times of one boot compare. None if nothing does."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    def steady(self) -> float:
        return time.clock_gettime(_STEADY)

    def wall(self) -> float:
        return time.time()

    def boot(self) -> str | None:
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return None

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
