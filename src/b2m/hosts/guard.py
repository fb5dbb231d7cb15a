"""A small process that gives the server back if the run dies while it holds it.

``Guard`` is the run's end, ``main`` the guard's own. They share a pipe: a byte from the run says that it is alive,
``DISARM`` that the hold is over, and end-of-file that the run is dead. The guard inherits the run's lock on the
database, so that no other run comes in between, and settles the journal exactly as the next run would.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress

from b2m.faults import clean_environment
from b2m.hosts.place import Place
from b2m.hosts.service import ServiceError

ALIVE, DISARM, ABANDON, READY = b".", b"x", b"a", b"r"
READY_TIMEOUT = 20.0
PAUSES = (0.5, 2.0, 8.0)  # seconds before another attempt to settle: a server left away is the worst end
LAST_COMMAND_TIMEOUT = 20.0  # seconds that a killed run's service command may still take


class Guard:
    """The run's handle on its guard."""

    def __init__(self, place: Place, locks: tuple[int, ...], patience: float) -> None:
        """Start the guard, which inherits the held ``locks``, and wait until it watches.

        ``patience`` is how long, in seconds, it bears silence.
        """
        read_end, self.alive_fd = os.pipe()
        ready_read, ready_write = os.pipe()
        arguments = json.dumps(
            {
                "place": place.to_json(),
                "pipe": read_end,
                "ready": ready_write,
                "patience": patience,
                "run": os.getpid(),
            }
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "b2m.hosts.guard", arguments],
                pass_fds=(read_end, ready_write, *locks),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=clean_environment(),
            )
        finally:
            os.close(read_end)
            os.close(ready_write)
        self._last_beat = 0.0
        try:
            watching, _, _ = select.select([ready_read], [], [], READY_TIMEOUT)
            if not watching or os.read(ready_read, 1) != READY:
                self._process.kill()
                os.close(self.alive_fd)
                raise ServiceError("the guard process did not start; nothing was touched")
        finally:
            os.close(ready_read)

    def beat(self) -> None:
        """Tell the guard, at most once a second, that the run is alive."""
        now = time.monotonic()
        if now - self._last_beat >= 1.0:
            self._last_beat = now
            # Without its guard the run goes on: the next one would find the journal.
            with suppress(BrokenPipeError):
                os.write(self.alive_fd, ALIVE)

    def disarm(self) -> None:
        """End the guard; the hold is over."""
        # It may have ended by itself, having nothing left to guard.
        with suppress(BrokenPipeError):
            os.write(self.alive_fd, DISARM)
        os.close(self.alive_fd)
        self._process.wait()

    def abandon(self) -> None:
        """Let the guard act as if the run had died, but once: the run has tried already, and says so to a person."""
        with suppress(BrokenPipeError):
            os.write(self.alive_fd, ABANDON)
        os.close(self.alive_fd)


def main(argument: str) -> None:
    """Watch the pipe of a run, and settle the journal if the run ends without disarming."""
    options = json.loads(argument)
    place = Place.from_json(options["place"])
    # Everything that settling needs is loaded now: when it is needed, the disk may be full or the files replaced.
    from b2m.hosts.recovery import recover_host

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.write(options["ready"], READY)
    os.close(options["ready"])
    end = _wait_for_end(options["pipe"], options["patience"], options["run"])
    if end != DISARM:
        _log(place, f"run {options['run']} died while it held {place.db}")
        for pause in (None,) if end == ABANDON else (*PAUSES, None):
            try:
                for act in recover_host(place):
                    _log(place, act)
                break
            except Exception as error:
                _log(place, traceback.format_exc())
                _log(place, f"{type(error).__name__}: {error}")
            if pause is not None:
                time.sleep(pause)


def _wait_for_end(pipe: int, patience: float, run: int) -> bytes:
    """Return how the run let go of the pipe: DISARM, ABANDON, or nothing if it died."""
    while True:
        heard, _, _ = select.select([pipe], [], [], patience)
        if not heard:
            if os.getppid() != run:
                # Dead, and yet the pipe is open: its last service command hangs, or left a daemon that has it.
                return b""
            # Hung or stopped: a run that says nothing must not keep the server away. Still our parent, so still it.
            os.kill(run, signal.SIGKILL)
            patience = LAST_COMMAND_TIMEOUT
            continue
        said = os.read(pipe, 4096)
        for word in (DISARM, ABANDON):
            if word in said:
                return word
        if not said:
            return b""


def _log(place: Place, text: str) -> None:
    # A full disk must not keep the guard from its work.
    with suppress(OSError), (place.state / "guard.log").open("a", encoding="utf-8") as out:
        out.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")


if __name__ == "__main__":
    main(sys.argv[1])
