"""Messages over two byte streams: JSON objects in lines of bounded length, signs of life, and an end that is noticed.

A line begins with ``.``, or with ``+`` if the message goes on in the next one: one long line would be copied again and
again by the SSH library. Both sides send a ping when they have said nothing for a while, and take a silence of three
times that long for the end of the connection.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from b2m import faults

PROTOCOL = 1
MAGIC = b"b2m-agent "
SLICE = 32 << 10  # bytes of a message in one line
PING = 5.0  # seconds without a word, after which one is said
SILENCE = 15.0  # seconds without a word, after which nobody is there any more
NOISE = 64 << 10  # bytes that a login may print before the agent says anything

Message = dict[str, Any]


class Closed(OSError):
    """The other side is gone; an OSError, so that an event's sink which cannot send is dropped."""


class Channel:
    """One side of a conversation; ``read`` returns b"" at the end, ``write`` sends all of what it is given."""

    def __init__(self, read: Callable[[int], bytes], write: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """``end`` closes the streams, and frees whatever is stuck in a read or a write of them."""
        self._read = read
        self._write = write
        self._end = end
        self._sending = threading.Lock()
        self._heard = self._said = time.monotonic()
        self._closed = threading.Event()
        self.inbox: queue.Queue[Message | None] = queue.Queue()

    def start(self, on_message: Callable[[Message], bool]) -> None:
        """Listen and give signs of life in threads; what ``on_message`` does not take (False) goes to ``inbox``.

        At the end of the connection ``inbox`` gets None.
        """
        threading.Thread(target=self._listen, args=(on_message,), name="channel", daemon=True).start()
        threading.Thread(target=self._keep_alive, name="channel alive", daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message; Closed if nobody is there."""
        raw = json.dumps(message, separators=(",", ":")).encode("ascii")
        parts = [raw[at : at + SLICE] for at in range(0, len(raw), SLICE)]
        data = b"".join((b"." if part is parts[-1] else b"+") + part + b"\n" for part in parts)
        with self._sending:
            if self._closed.is_set():
                raise Closed("the connection is closed")
            try:
                for at in range(0, len(data), SLICE):
                    self._write(data[at : at + SLICE])
            except (OSError, EOFError) as error:
                self.close()
                raise Closed(str(error) or "the connection was cut") from error
            self._said = time.monotonic()

    def close(self) -> None:
        """End the conversation; may be called again, and from any thread."""
        if not self._closed.is_set():
            self._closed.set()
            self._end()
            self.inbox.put(None)

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def _listen(self, on_message: Callable[[Message], bool]) -> None:
        try:
            for message in self._messages():
                if message.get("type") != "ping" and not on_message(message):
                    self.inbox.put(message)
        except (OSError, EOFError, ValueError):
            pass
        self.close()

    def _messages(self) -> Iterator[Message]:
        parts: list[bytes] = []
        for line in lines(self._read, self._hear):
            parts.append(line[1:])
            if line[:1] == b".":
                message = json.loads(b"".join(parts))
                parts = []
                if isinstance(message, dict):
                    yield message
            elif line[:1] != b"+":
                raise ValueError("what came is no message")

    def _hear(self) -> None:
        self._heard = time.monotonic()

    def _keep_alive(self) -> None:
        ping, silence = faults.setting("PING", PING), faults.setting("SILENCE", SILENCE)
        while not self._closed.wait(min(1.0, ping / 2)):
            now = time.monotonic()
            if now - self._heard > silence:
                self.close()
            elif now - self._said >= ping and not self._sending.locked():
                # In a thread of its own: a write that is stuck must not keep the silence from being noticed.
                threading.Thread(target=self._ping, daemon=True).start()

    def _ping(self) -> None:
        with contextlib.suppress(OSError):
            self.send({"type": "ping"})


def lines(read: Callable[[int], bytes], heard: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """Yield the lines of a stream without their ends; ValueError for one that no side sends."""
    rest = b""
    while data := read(SLICE):
        heard()
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
        if len(rest) > 2 * SLICE:
            raise ValueError("a line without an end")
