"""Large objects go to an S3 store in parts, several at a time, while their bytes are still being made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

PART = 5 << 20  # bytes; the least that S3 allows, so that a slow line gets each part across in time
PARALLEL = 4
_LEAVE = 2.0  # seconds that an upload gets to withdraw its parts; a lifecycle rule removes what it leaves
_WAITING = 4  # pieces between whoever makes them and the parts


class SendFailed(Exception):
    """What went wrong with sending, as opposed to making, the bytes."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Stop(Exception):
    """Ends an upload whose source failed; it is thrown away."""


class Upload:
    """Sends the pieces it is given through ``send``, in a thread of its own.

    The pieces are made in the caller's thread, so that a signal or an error there ends the upload at once, and comes
    out as it is.
    """

    def __init__(self, send: Callable[[Iterator[bytes]], object]) -> None:
        self._send = send
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._stopped = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)

    def run(self, pieces: Iterable[bytes]) -> int:
        """Send all pieces and return their size in bytes; raises what ``pieces`` raises, SendFailed for ``send``."""
        size = 0
        self._thread.start()
        try:
            for piece in pieces:
                if not self._give(piece):
                    break
                size += len(piece)
            else:
                self._give(None)
            while self._thread.is_alive():
                self._thread.join(0.2)  # a join without end would keep signals waiting
        except BaseException:
            self._stop()
            raise
        if self._error is not None:
            raise SendFailed(self._error)
        return size

    def _give(self, piece: bytes | None) -> bool:
        """Hand a piece to the thread; False if it has ended."""
        while self._thread.is_alive():
            try:
                self._pieces.put(piece, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def _stop(self) -> None:
        """Let the thread see at its next piece that there is none; a part under way ends by its own timeout."""
        self._stopped = True
        with suppress(queue.Empty):
            while True:
                self._pieces.get_nowait()
        self._pieces.put(None)
        self._thread.join(_LEAVE)

    def _take(self) -> Iterator[bytes]:
        while True:
            piece = self._pieces.get()
            if self._stopped:
                raise _Stop
            if piece is None:
                return
            yield piece

    def _run(self) -> None:
        try:
            self._send(self._take())
        except Exception as error:  # it is raised again in the caller's thread
            self._error = error
