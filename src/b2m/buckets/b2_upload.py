"""Uploads to B2: one request for what fits into a part, parts side by side for what does not, bounded memory always.

B2 wants parts of at least 5 MB and at most 10,000 of them; their size grows with their number, so that memory stays
small where files are small and a file may still have terabytes.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from b2m.buckets.b2_account import Account
from b2m.errors import BucketError

if TYPE_CHECKING:
    from b2m.buckets.b2_http import Session

PART = 5_000_000
SMALL = 1 << 16
SMALL_WITHIN = 10.0  # seconds: a creator by flags must know when its write cannot arrive any more (flagged.py)
PART_WITHIN = 900.0  # seconds for one part, all tries together: 5 MB at 50 KB/s
_TRIES = 5
_SIDE_BY_SIDE = 2
_LEAVE = 2.0  # seconds that parts under way get to end, when an upload is given up
_KIND = "application/octet-stream"


class Pieces(io.RawIOBase):
    """Some pieces of bytes as one file to read from, without a copy of them all."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._size = sum(map(len, pieces))
        self._at = (0, 0)

    def __len__(self) -> int:
        return self._size

    def sha1(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for piece in self._pieces:
            digest.update(piece)
        return digest.hexdigest()

    def read(self, size: int | None = -1) -> bytes:
        index, offset = self._at
        if index == len(self._pieces):
            return b""
        piece = self._pieces[index]
        end = len(piece) if size is None or size < 0 else min(len(piece), offset + size)
        self._at = (index, end) if end < len(piece) else (index + 1, 0)
        return piece[offset:end]

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) != (0, 0):
            raise io.UnsupportedOperation("only to the beginning")
        self._at = (0, 0)
        return 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def upload(account: Account, name: str, chunks: Iterable[bytes]) -> tuple[int, str, bool]:
    """Store an object under its full name; return its size, its id, and whether one try was enough."""
    parts = in_parts(chunks)
    first = next(parts, Pieces([]))
    second = next(parts, None)
    if second is None:
        identity, tries = _upload_small(account, name, first)
        return len(first), identity, tries == 1
    size, identity = _upload_large(account, name, first, second, parts)
    return size, identity, False


def in_parts(chunks: Iterable[bytes]) -> Iterator[Pieces]:
    """Gather chunks to parts; all but the last have at least the size that B2 wants."""
    gathered: list[bytes] = []
    size = count = 0
    for chunk in chunks:
        while chunk:
            room = PART * (1 + count // 500) - size
            gathered.append(chunk[:room])
            size += len(gathered[-1])
            chunk = chunk[room:]
            if size == PART * (1 + count // 500):
                yield Pieces(gathered)
                gathered, size, count = [], 0, count + 1
    if gathered:
        yield Pieces(gathered)


def _upload_small(account: Account, name: str, data: Pieces) -> tuple[str, int]:
    bucket, sha1 = account.bucket_id(), data.sha1()

    def send(session: Session) -> Any:
        return session.upload_file(bucket, name, len(data), _KIND, sha1, {}, data)

    within = SMALL_WITHIN if len(data) <= SMALL else PART_WITHIN
    answer, tries = _trying(account, f"cannot write {name}", send, within)
    _check_sha1(account, name, sha1, answer)
    return str(answer["fileId"]), tries


def _upload_large(
    account: Account, name: str, first: Pieces, second: Pieces, rest: Iterator[Pieces]
) -> tuple[int, str]:
    bucket = account.bucket_id()
    doing = f"cannot write {name}"
    started = account.call(doing, lambda session: session.start_large_file(bucket, name, _KIND, {}), needs="writeFiles")
    identity = str(started["fileId"])
    try:
        sums, size = _upload_parts(account, name, identity, first, second, rest)
        _finish(account, name, identity, sums, size)
    except BaseException:
        # Nobody sees an unfinished file, but it is paid for; a lifecycle rule removes what a killed process left.
        with suppress(BucketError):
            account.call(doing, lambda session: session.cancel_large_file(identity), needs="writeFiles", within=10.0)
        raise
    return size, identity


def _upload_parts(
    account: Account, name: str, identity: str, first: Pieces, second: Pieces, rest: Iterator[Pieces]
) -> tuple[list[str], int]:
    """Upload parts side by side, never more of them in memory than that and one; return their SHA1s and total size."""
    sums: list[str] = []
    size = 0
    pending: set[Future[None]] = set()
    stopped = threading.Event()
    try:
        part: Pieces | None = first
        ahead: Pieces | None = second
        while part is not None:
            sums.append(part.sha1())
            size += len(part)
            pending.add(_begun(_upload_part, account, name, identity, len(sums), part, sums[-1], stopped))
            del part
            if len(pending) >= _SIDE_BY_SIDE:
                pending = _settle(pending)
            part, ahead = (ahead, None) if ahead is not None else (next(rest, None), None)
        while pending:
            pending = _settle(pending)
    except BaseException:
        # A part under way may take minutes on a slow line: nobody who wants to end waits for that.
        stopped.set()
        wait(pending, timeout=_LEAVE)
        raise
    return sums, size


def _begun(work: Callable[..., None], *args: object) -> Future[None]:
    """Call ``work`` in a thread of its own, which keeps no process from ending, as those of a pool do."""
    future: Future[None] = Future()

    def act() -> None:
        try:
            work(*args)
            future.set_result(None)
        except BaseException as error:  # it is raised again by whoever waits
            future.set_exception(error)

    threading.Thread(target=act, name="b2m upload", daemon=True).start()
    return future


def _settle(pending: set[Future[None]]) -> set[Future[None]]:
    done, left = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left


def _upload_part(
    account: Account, name: str, identity: str, number: int, part: Pieces, sha1: str, stopped: threading.Event
) -> None:
    def send(session: Session) -> Any:
        return session.upload_part(identity, number, len(part), sha1, part)

    answer, _ = _trying(account, f"cannot write part {number} of {name}", send, PART_WITHIN, stopped)
    _check_sha1(account, name, sha1, answer)


def _finish(account: Account, name: str, identity: str, sums: list[str], size: int) -> None:
    doing = f"cannot finish {name}"
    try:
        account.call(doing, lambda session: session.finish_large_file(identity, sums), needs="writeFiles", within=300.0)
    except BucketError as error:
        # An answer that was lost: the store says no to the second try, since the file is finished.
        try:
            found = account.call(doing, lambda session: session.get_file_info_by_id(identity), needs="readFiles")
        except BucketError:
            raise error from None
        if found["action"] != "upload" or found["contentLength"] != size:
            raise


def _trying(
    account: Account, doing: str, send: Any, within: float, stopped: threading.Event | None = None
) -> tuple[Any, int]:
    """Call ``send(session)`` until it succeeds, each time with a fresh upload address; return its answer and tries.

    Once ``stopped`` is set, there is no further try.
    """
    from b2sdk.v3.exception import B2Error, TooManyRequests

    from b2m.buckets.b2_http import pause_after

    def until_sent(session: Session) -> tuple[Any, int]:
        for attempt in range(1, _TRIES + 1):
            try:
                return send(session), attempt
            except B2Error as error:
                again = error.should_retry_upload() or isinstance(error, TooManyRequests)
                given_up = attempt == _TRIES or (stopped is not None and stopped.is_set())
                if given_up or not again or str(error).startswith("501"):
                    raise
                pause = pause_after(error, attempt)
                if pause >= session.deadlines.left():
                    raise
                if stopped is None:
                    time.sleep(pause)
                elif stopped.wait(pause):
                    raise
        raise AssertionError("unreachable")

    return account.call(doing, until_sent, needs="writeFiles", within=max(within, 1.0))


def _check_sha1(account: Account, name: str, sha1: str, answer: Any) -> None:
    if answer["contentSha1"] != sha1:
        what = f"cannot write {name}: the store got other bytes than were sent; run again"
        raise BucketError(bucket=account.url, what=what)
