"""An upload that is never answered, and a signal that ends it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from typing import Any

from b2m.buckets import open_bucket
from b2m.errors import Interrupted
from b2m.signals import Signals

MB = 1 << 20


def put_until_told(connection: Any, config: Mapping[str, Any], megabytes: int) -> None:
    """Upload what is never answered, and say what ended it."""
    with Signals():
        try:
            open_bucket(config).put("large", (b"x" * MB for _ in range(megabytes)))
        except Interrupted as error:
            connection.send(str(error))
            connection.recv()


def assert_a_signal_ends(process: BaseProcess, connection: Any, within: float) -> None:
    """Send SIGTERM to a process that is in ``put_until_told``; it must come out of that in so many seconds."""
    began = time.monotonic()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert connection.recv() == "interrupted by signal 15"
    assert time.monotonic() - began < within
