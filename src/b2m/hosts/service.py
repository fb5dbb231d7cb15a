"""The server that has a database open: told to let go of it, told to take it again, and asked how it is.

Commands are the inventory's shell lines, run in the host's workdir. Each may be run again after a crash, so it
must be idempotent: stopping what is stopped, or connecting what is connected, succeeds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from b2m.faults import clean_environment

NOT_FOUND = (126, 127)  # what a shell ends with if it cannot run a command
UNWELL = 3.0  # seconds that a server has to get well that was not before it was held

# A bracket that holds signals back.
Shield = Callable[[], AbstractContextManager[None]]


class ServiceError(Exception):
    """A service command or its health probe failed; the text has the command's last lines."""


@dataclass(frozen=True)
class Service:
    """A service as the inventory describes it; times in seconds."""

    name: str
    away: str
    back: str
    verb: str  # "stop" or "disconnect": how ``away`` is called in messages
    cwd: str
    health_url: str | None
    health_command: str | None
    start_timeout: float
    stop_timeout: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Service:
        return cls(**data)

    def take_away(self, alive_fd: int | None = None, shielded: Shield = nullcontext) -> None:
        """Make the server let go of the database.

        The command runs ``shielded`` from signals: one that is still under way would come after what undoes it.
        ``alive_fd`` is the write end of the guard's pipe: while this command runs, even after our own death, the
        guard waits, so that a late "disconnect" cannot come after its "connect".
        """
        with shielded():
            _run(self.away, self.cwd, self.stop_timeout, pass_fd=alive_fd)

    def give_back(self, *, was_well: bool = True, shielded: Shield = nullcontext) -> str | None:
        """Let the server have the database again, and wait until it is healthy.

        The command runs ``shielded`` from signals, for the same reason as the other.
        A server that was not well before it was held need not be afterwards: what is wrong with it after a moment is
        returned.
        """
        until = time.monotonic() + self.start_timeout
        with shielded():
            _run(self.back, self.cwd, self.start_timeout)
        try:
            self.wait_healthy(until if was_well else min(until, time.monotonic() + UNWELL))
        except ServiceError:
            if was_well:
                raise
            return self.problem()
        return None

    def wait_healthy(self, until: float) -> None:
        """Probe until the server is healthy; ServiceError when ``until`` (monotonic) has passed."""
        pause = 0.02
        while True:
            problem = self.problem(max(0.2, until - time.monotonic()))
            if problem is None:
                return
            if time.monotonic() + pause > until:
                raise ServiceError(f"{self.name} is not healthy after {self.start_timeout:g} s: {problem}")
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)

    def problem(self, timeout: float = 5.0) -> str | None:
        """Return what is wrong with the server, None if it is well; one probe of at most ``timeout`` seconds."""
        if self.health_url:
            # Imported here: most runs never hold a server, and this import takes as long as the rest of them.
            import http.client
            import urllib.error
            import urllib.request

            try:
                with urllib.request.urlopen(self.health_url, timeout=min(timeout, 5.0)) as answer:
                    return None if answer.status < 400 else f"{self.health_url} answered {answer.status}"
            except urllib.error.HTTPError as error:
                return f"{self.health_url} answered {error.code}"
            except (OSError, ValueError, http.client.HTTPException) as error:
                # One that starts may answer with anything, which is no reason to stop asking.
                return f"{self.health_url}: {getattr(error, 'reason', None) or error or type(error).__name__}"
        if self.health_command:
            try:
                _run(self.health_command, self.cwd, min(timeout, 5.0))
            except ServiceError as error:
                return str(error)
        return None


def _run(command: str, cwd: str, timeout: float, pass_fd: int | None = None) -> None:
    # A file, not a pipe: a daemon that the command starts may keep its standard output open for ever.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environment(),
                start_new_session=True,  # Ctrl-C is for b2m, which then undoes; it must not cut a command in two
                pass_fds=() if pass_fd is None else (pass_fd,),
            )
        except OSError as error:
            raise ServiceError(f"`{command}` cannot be run in {cwd}: {error.strerror or error}") from None
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            raise ServiceError(f"`{command}` did not end within {timeout:g} s{_tail(output)}") from None
        except BaseException:
            # Interrupted: let the command finish, so that what undoes it comes after it.
            _end_after(process, timeout)
            raise
        if code != 0:
            where = f" (it ran in {cwd}, the host's workdir in inventory.yaml)" if code in NOT_FOUND else ""
            raise ServiceError(f"`{command}` ended with exit code {code}{_tail(output)}{where}")


def _tail(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - 2000))
    lines = [line.strip() for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    return ": " + " / ".join(lines[-3:]) if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_after(process: subprocess.Popen[bytes], timeout: float) -> None:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        _end(process)
