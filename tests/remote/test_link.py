"""The near end's first moments with an agent, by a stream that the test plays."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any

import pytest

from b2m.errors import HostUnreachable
from b2m.remote.channel import MAGIC, PROTOCOL
from b2m.remote.link import Link

HELLO = MAGIC + json.dumps({"protocol": PROTOCOL + 1, "version": "9"}).encode() + b"\n"


class Stream:
    """What a login prints, a part at a time; a part that takes longer than the reader waits is a timeout."""

    def __init__(self, *parts: bytes, pause: float, then: bytes = b"") -> None:
        self.parts, self.pause, self.then = deque(parts), pause, then
        self.timeout: float | None = None
        self.closed = False
        self.began = time.monotonic()

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def recv(self, _: int) -> bytes:
        assert time.monotonic() < self.began + 10, "it is listened to for ever"
        assert self.timeout is not None
        if self.timeout < self.pause:
            time.sleep(self.timeout)
            raise TimeoutError
        time.sleep(self.pause)
        return self.parts.popleft() if self.parts else self.then

    def recv_stderr(self, _: int) -> bytes:
        return b""

    def close(self) -> None:
        self.closed = True


def link(stream: Stream) -> Any:
    """An end of a connection over which a login prints."""

    class Login:
        def start(self, command: str) -> Stream:
            return stream

    made = Link.__new__(Link)
    made.__dict__.update(host="prod", _ssh=Login(), _errors=deque())
    return made


def test_a_login_that_prints_for_ever_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2M_FAULT_HELLO", "0.5")
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match=r"b2m's agent did not start there: \.\.\.+; look with: b2m bootstrap"):
        link(Stream(pause=0.05, then=b"."))._start("agent")
    assert 0.5 <= time.monotonic() - began < 5


def test_a_login_that_prints_nothing_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2M_FAULT_HELLO", "0.2")
    with pytest.raises(HostUnreachable, match="b2m's agent did not start there; look with: b2m bootstrap"):
        link(Stream(pause=60))._start("agent")


def test_what_a_login_prints_before_the_hello_is_passed_over() -> None:
    stream = Stream(b"Welcome to prod\n", HELLO[:5], HELLO[5:], pause=0.01)
    assert link(stream)._start("agent")["version"] == "9"
    assert stream.closed, "an agent that speaks another protocol is let go"


def test_what_an_agent_says_late_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that warns first lets the reading of standard error begin with the timeout of the first line."""
    said: deque[bytes | TimeoutError] = deque(
        [b"bash: warning: setlocale\n", TimeoutError(), b"Traceback\nboom", b"\n", b""]
    )

    class Errors:
        def recv_stderr(self, _: int) -> bytes:
            found = said.popleft()
            if isinstance(found, TimeoutError):
                raise found
            return found

    made = link(Stream(pause=0))
    made._drain(Errors())
    assert list(made._errors) == ["bash: warning: setlocale", "Traceback", "boom"]
