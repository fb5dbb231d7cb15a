"""Processes that are forked from one that has loaded b2m: loading is most of what a short command costs.

They are processes of their own, but for their start. With B2M_TEST_FORKS=0 all start as a user's do.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FORKS = os.environ.get("B2M_TEST_FORKS") != "0"
CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
if _FORKS:
    CONTEXT.set_forkserver_preload(["tests.support.loaded"])
_AT_START = ("PYTHON", "LC_", "LANG", "TZ", "HOME")  # variables that Python, or a library, reads as it is loaded
_MAIN = str(Path(__file__).resolve().parents[2] / "src" / "b2m" / "__main__.py")


def become(environ: Mapping[str, str], cwd: str) -> None:
    """Let a fork be as if the process that wants it had started it, not the one that it is forked from."""
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.chdir(cwd)


def can_run(env: Mapping[str, str]) -> bool:
    """Tell whether a command with these further variables may be a fork."""
    return _FORKS and not any(name.startswith(_AT_START) for name in env)


class Command:
    """A command line of b2m that runs: as ``subprocess.Popen``, with what it prints captured as text."""

    def __init__(self, args: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.args = ["b2m", *args]
        pipes = [CONTEXT.Pipe(duplex=False) for _ in ("out", "err")]
        self._readers = [reader for reader, _ in pipes]
        writers = [writer for _, writer in pipes]
        self._process = CONTEXT.Process(target=_command, args=(list(args), dict(env), str(cwd), *writers))
        self._process.start()
        for writer in writers:
            writer.close()

    def ended(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and until nobody holds its output; TimeoutExpired, and then it is killed."""
        texts = {reader.fileno(): b"" for reader in self._readers}
        until = time.monotonic() + timeout
        try:
            with selectors.DefaultSelector() as selector:
                for end in texts:
                    selector.register(end, selectors.EVENT_READ)
                while selector.get_map():
                    for key, _ in selector.select(self._left(until, timeout)):
                        piece = os.read(key.fd, 65_536)
                        texts[key.fd] += piece
                        if not piece:
                            selector.unregister(key.fd)
            self._process.join(self._left(until, timeout))
            self._left(until, timeout)
        finally:
            self._process.kill()
            self._process.join()
            for reader in self._readers:
                reader.close()
        out, err = (text.decode() for text in texts.values())
        return subprocess.CompletedProcess(self.args, self._process.exitcode, out, err)

    def _left(self, until: float, timeout: float) -> float:
        left = until - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return left


def _command(args: Sequence[str], env: Mapping[str, str], cwd: str, out: Any, err: Any) -> None:
    for writer, standard in ((out, 1), (err, 2)):
        os.dup2(writer.fileno(), standard)
        writer.close()
    become(env, cwd)
    sys.argv, sys.path[0] = [_MAIN, *args], cwd
    from b2m.tasks.program import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
