"""What a run tells while it works: events, sent to any number of sinks.

An event is a flat dict with a ``type``; ``--json`` prints it as it is, the console renders some of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from b2m import secrets

Event = dict[str, Any]
Sink = Callable[[Event], None]


class Events:
    """Sends events to sinks and keeps them for the run record, progress excepted."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = list(sinks)
        self.kept: list[Event] = []

    def emit(self, type_: str, **data: Any) -> None:
        self.relay({"type": type_, "at": round(time.time(), 3), **data})

    def relay(self, event: Event) -> None:
        """Send an event on that happened elsewhere, as it is but for secrets: this process may know more of them."""
        if event["type"] != "progress":
            event = secrets.redacted(event)
            self.kept.append(event)
        for sink in tuple(self._sinks):
            try:
                sink(event)
            except OSError:
                # Whoever listened has gone, or its disk is full: that must not stop the work half-way.
                self._sinks.remove(sink)

    def add(self, sink: Sink) -> None:
        """Send what comes from now on to one more sink."""
        self._sinks.append(sink)

    def warn(self, text: str) -> None:
        self.emit("warning", text=text)
