"""SIGINT, SIGTERM and SIGHUP as an exception that undoes the run, and sections that they must not cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from b2m.errors import Interrupted

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Turns the first signal into Interrupted, at once or at the end of a shielded section; later ones are ignored."""

    def __init__(self) -> None:
        self._shields = 0
        self._waiting: int | None = None
        self._raised = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold signals back until the section is over."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        self.check()

    def ignore(self) -> None:
        """Let no signal raise any more."""
        self._raised = True

    def check(self) -> None:
        """Raise a signal that was held back, unless it still must be."""
        if self._waiting is not None and not self._shields and not self._raised:
            self._raised = True
            raise Interrupted(self._waiting)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self._waiting is None:
            self._waiting = number
        self.check()
