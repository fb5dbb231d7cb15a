"""A shell command of a playbook, run on the host: its output kept, ended with everything it started if it must be."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from b2m.faults import clean_environment

OUTPUT = 64 << 10  # bytes of the output's end that are kept
POLL = 0.05  # seconds between two looks at a signal or a deadline
GRACE = 2.0  # seconds that a command may take to end itself before it is killed


@dataclass(frozen=True)
class Finished:
    """What came of a command; a negative code is the signal that ended it."""

    code: int
    output: str

    @property
    def last_lines(self) -> str:
        """The last lines of the output as one line, for messages."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return " / ".join(lines[-3:])


def run_command(command: str, cwd: str, tick: Callable[[], None]) -> Finished:
    """Run a command by ``/bin/sh -c`` and return what came of it; what ``tick`` raises meanwhile ends it first."""
    # A file, not a pipe: a daemon that the command starts may keep its standard output open for ever.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=clean_environment(),
            start_new_session=True,  # Ctrl-C is for b2m, which then ends the command and undoes
        )
        try:
            while True:
                try:
                    return Finished(process.wait(POLL), _end_of(output))
                except subprocess.TimeoutExpired:
                    tick()
        finally:
            if process.returncode is None:
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            return


def _end_of(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - OUTPUT))
    text = output.read().decode(errors="replace")
    return f"[{size - OUTPUT} bytes before]\n{text}" if size > OUTPUT else text
