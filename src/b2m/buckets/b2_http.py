"""b2sdk's HTTP client with an end to everything: timeouts, tries, and a deadline for each call of ours.

b2sdk's own limits can add up to hours (FACTS.md), and its numbers of tries cannot be set. It is a heavy library: only
b2_account.py imports this module, when a bucket is used.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from b2sdk.v3 import B2Http, B2HttpApiConfig, B2Session, HttpCallback, InMemoryAccountInfo
from b2sdk.v3.exception import B2Error, B2HttpCallbackPreRequestException

from b2m.buckets.clock import SystemClock
from b2m.buckets.protocol import Counters

_steady = SystemClock().steady  # goes on while the machine sleeps: a write that woke up may be far too late
CONNECT = 10.0  # seconds for a connection
READ = 30.0  # seconds without a byte
UPLOAD_READ = 60.0  # seconds until an upload that was sent is answered
TRIES = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.3, 5.0  # seconds between two tries, where the server does not say how long


class OutOfTime(B2HttpCallbackPreRequestException):  # type: ignore[misc]  # b2sdk has no types
    """The deadline of a call passed; nothing more is sent for it."""


class Deadlines(threading.local):
    """The steady time at which this thread's call must end."""

    at: float = float("inf")

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        before, self.at = self.at, min(self.at, _steady() + seconds)
        try:
            yield
        finally:
            self.at = before

    def left(self) -> float:
        return self.at - _steady()


class _Hook(HttpCallback):  # type: ignore[misc]
    """Counts requests, refuses those that come too late, and keeps what the last 404 said."""

    def __init__(self, counters: Counters, deadlines: Deadlines, said: threading.local) -> None:
        self._counters = counters
        self._deadlines = deadlines
        self._said = said

    def pre_request(self, method: str, url: str, headers: dict[str, str]) -> None:
        if self._deadlines.left() <= 0:
            raise OutOfTime
        self._counters.add(requests=1)

    def post_request(self, method: str, url: str, headers: dict[str, str], response: Any) -> None:
        if response.status_code == 404:
            self._said.text = response.content.decode("utf-8", "replace") if method != "HEAD" else ""


class _Http(B2Http):  # type: ignore[misc]
    """Tries again what may succeed, as often and as long as we want, when the server wants it."""

    deadlines: Deadlines

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        data: Any = None,
        try_count: int = TRIES,
        params: Any = None,
        *,
        stream: bool = False,
        _timeout: int | None = None,
    ) -> Any:
        tries = min(try_count, TRIES)
        for attempt in range(1, tries + 1):
            try:
                return super().request(
                    method, url, headers, data, try_count=1, params=params, stream=stream, _timeout=_timeout
                )
            except B2Error as error:
                if attempt == tries or not may_try_again(error):
                    raise
                pause = pause_after(error, attempt)
                if pause >= self.deadlines.left():
                    raise
            time.sleep(pause)
        raise AssertionError("unreachable")


class _Requests(requests.Session):
    """A session whose requests never wait for long, whatever b2sdk asks for."""

    def __init__(self, deadlines: Deadlines) -> None:
        super().__init__()
        self._deadlines = deadlines

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        left = max(1.0, self._deadlines.left())
        read = UPLOAD_READ if "b2_upload" in url else READ
        kwargs["timeout"] = (min(CONNECT, left), min(read, left))
        return super().request(method, url, *args, **kwargs)


class Session(B2Session):  # type: ignore[misc]
    """b2sdk's session, bounded; ``said.text`` is the body of the last 404 of this thread."""

    B2HTTP_CLASS = staticmethod(_Http)

    def __init__(self, counters: Counters) -> None:
        self.deadlines = Deadlines()
        self.said = threading.local()
        config = B2HttpApiConfig(http_session_factory=lambda: _Requests(self.deadlines))
        super().__init__(InMemoryAccountInfo(), api_config=config)
        http = self.raw_api.b2_http
        http.deadlines = self.deadlines
        http.add_callback(_Hook(counters, self.deadlines, self.said))


def may_try_again(error: B2Error) -> bool:
    """Tell whether the same request may succeed later; 501 says that it never will."""
    return bool(error.should_retry_http()) and not str(error).startswith("501")


def pause_after(error: B2Error, attempt: int) -> float:
    """Return how many seconds to wait after the ``attempt``-th failure: what the server said, or ever longer."""
    if error.retry_after_seconds is not None:
        return float(error.retry_after_seconds)
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))
