"""The objects of an S3 store, as they are: what its writes can do is found out here, what to make of it elsewhere."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import chain
from threading import Barrier
from typing import Any

from b2m.buckets.protocol import CHUNK, Capabilities, Names, check_name, is_name
from b2m.buckets.s3_failure import Failure
from b2m.buckets.s3_requests import ATTEMPTS, PART_SECONDS, NoConditions, Requests
from b2m.buckets.s3_upload import PARALLEL, PART, SendFailed, Upload
from b2m.errors import BucketError, ObjectExists, ObjectMissing

SMALL = 64 << 10  # bytes; what is larger may take longer than a small request on a slow line
RACERS, RACES = 4, 3  # creates of one name at the same moment, and how often, to see whether a store decides them
_UPLOADED_BY = "b2m-upload"  # metadata of an object that went up in parts: whose upload it was


class S3Store:
    """One bucket, or what is below a prefix of it; ``create`` is a conditional write as the store takes it."""

    def __init__(self, url: str, endpoint: str | None, region: str, path_style: bool, key_id: str, key: str) -> None:
        self._requests = Requests(url, endpoint, region, path_style, key_id, key)
        self.name = url
        self.counters = self._requests.counters
        prefix = url.removeprefix("s3://").strip("/").partition("/")[2]
        self._prefix = f"{prefix}/" if prefix else ""
        self.small_within: float | None = None  # seconds, after which the write of a small object is not begun again

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, name: str) -> bytes:
        import obstore

        key, client = self._key_of(name), self._requests.client("read")
        data = self._requests.make(f"cannot read {name}", lambda: bytes(obstore.get(client, key).bytes()), name)
        self.counters.add(down=len(data))
        return data

    def get_range(self, name: str, start: int, length: int) -> bytes:
        import obstore

        key, client = self._key_of(name), self._requests.client("read")
        if length <= 0:
            self.size(name)
            return b""

        def read() -> bytes:
            return bytes(obstore.get(client, key, options={"range": (start, start + length)}).bytes())

        data = self._requests.make(f"cannot read {name}", read, name, behind_the_end=b"")
        self.counters.add(down=len(data))
        return data

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield an object's pieces; a connection that is cut goes on from there, if the object is still the same."""
        import obstore

        key, client = self._key_of(name), self._requests.client("read")
        doing = f"cannot read {name}"
        opened = self._requests.make(doing, lambda: obstore.get(client, key), name)
        etag, total, done, cuts = opened.meta["e_tag"], opened.meta["size"], 0, 0
        while True:
            try:
                for buffer in opened.stream(min_chunk_size=min(chunk, CHUNK)):
                    view = memoryview(buffer)
                    for at in range(0, len(view), chunk):
                        piece = bytes(view[at : at + chunk])
                        done += len(piece)
                        cuts = 0
                        self.counters.add(down=len(piece))
                        yield piece
                if done != total:
                    raise BucketError(bucket=self.name, what=f"{doing}: {done} of {total} bytes came; run again")
                return
            except obstore.exceptions.BaseError as error:
                failure = Failure.of(error)
                cuts += 1
                if not failure.passing or cuts >= ATTEMPTS:
                    raise self._requests.error(failure, doing, cuts) from None
            if done == total:
                return
            time.sleep(self._requests.pause_after(failure, cuts))
            rest: Any = {"range": {"offset": done}, "if_match": etag}
            opened = self._requests.make(doing, lambda rest=rest: obstore.get(client, key, options=rest), name)  # type: ignore[misc]

    def size(self, name: str) -> int:
        import obstore

        key, client = self._key_of(name), self._requests.client("small")
        doing = f"cannot look at {name}"
        try:
            return self._requests.make(doing, lambda: obstore.head(client, key)["size"], name)
        except ObjectMissing:
            # An answer to HEAD has no text: only reading tells a missing object from a missing bucket.
            first: Any = {"range": (0, 1)}
            return self._requests.make(doing, lambda: obstore.get(client, key, options=first).meta["size"], name)

    def written_at(self, name: str) -> datetime:
        """Return when an object was written, by the store's clock."""
        import obstore

        key, client = self._key_of(name), self._requests.client("small")
        found = self._requests.make(f"cannot look at {name}", lambda: obstore.head(client, key), name)
        return found["last_modified"]

    def list(self, prefix: str) -> Names:
        if prefix:
            check_name(prefix)
        return self._list(prefix, None, lambda name: True)

    def list_beginning(self, beginning: str) -> Names:
        """Return the names that begin so, from one page of a listing that starts just before them."""
        folder, _, last = beginning.rpartition("/")
        if not last[-1:].isalnum():
            return [name for name in self.list(folder) if name.startswith(beginning)]
        before = f"{self._prefix}{beginning[:-1]}{chr(ord(last[-1]) - 1)}~~~~"
        return self._list(folder, before, lambda name: name.startswith(beginning))

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        check_name(name)
        pieces = iter([data] if isinstance(data, bytes) else data)
        first = _first_part(pieces)
        size = self._put_whole(name, first) if len(first) < PART else self._put_parts(name, chain([first], pieces))
        self.counters.add(up=size)
        return size

    def delete(self, name: str) -> None:
        import obstore

        key, client = self._key_of(name), self._requests.client("small")
        with suppress(ObjectMissing):  # most stores do not say so
            self._requests.make(f"cannot delete {name}", lambda: obstore.delete(client, key), name)

    def create(self, name: str, data: bytes) -> None:
        """Write an object on the condition that there is none; NoConditions for a store that answers 501.

        An answer that does not come says nothing, so that it is tried again: then ObjectExists may mean our own
        first try. Whoever creates has a token in the object, and reads it.
        """
        import obstore

        key, client = self._key_of(name), self._requests.client("small" if len(data) <= SMALL else "whole")
        self._requests.make(
            f"cannot create {name}", lambda: obstore.put(client, key, data, mode="create"), name, creating=True
        )
        self.counters.add(up=len(data))

    def prepare(self) -> None:
        """See that the bucket is there; making one needs rights that no key of b2m's should have."""
        self.list_beginning("b2m")

    def probe(self) -> Capabilities:
        """Create one name twice: a store may refuse the second, refuse both, or take no notice of the condition.

        Then create a name several times at the same moment: a store may look first and write later, and let all win
        (SeaweedFS before 2026 did, issue 8800).
        """
        name = f"b2m-probe-{secrets.token_hex(8)}"
        try:
            with suppress(ObjectExists):  # by our own first try, whose answer was lost
                self.create(name, b"first")
            try:
                self.create(name, b"second")
            except ObjectExists:
                if self.get(name) != b"first":
                    return Capabilities(False, "a refused write changed the object")
            else:
                return Capabilities(False, "the store ignores conditions on writes")
            for _ in range(RACES):
                self.delete(name)
                if not self._has_one_winner(name):
                    return Capabilities(False, "the store lets several creates at the same moment succeed")
            return Capabilities(True, "conditional writes")
        except NoConditions:
            return Capabilities(False, "the store answers 501 to conditional writes")
        finally:
            self.delete(name)

    def _has_one_winner(self, name: str) -> bool:
        """Let several create one name at once; tell whether at most one was told so, and it has its object."""
        together = Barrier(RACERS)

        def create(racer: int) -> bytes | None:
            data = b"%d" % racer
            together.wait()
            try:
                self.create(name, data)
            except ObjectExists:
                return None
            return data

        with ThreadPoolExecutor(RACERS) as pool:
            winners = [data for data in pool.map(create, range(RACERS)) if data is not None]
        return not winners or winners == [self.get(name)]

    def _put_whole(self, name: str, data: bytes) -> int:
        key = self._key_of(name)
        small = len(data) <= SMALL
        send = self._send_small if small else self._send_whole
        within = self.small_within if small else None
        self._requests.make(f"cannot write {name}", lambda: send(key, data), name, within=within)
        return len(data)

    def _send_small(self, key: str, data: bytes) -> None:
        import obstore

        obstore.put(self._requests.client("small"), key, data, use_multipart=False)

    def _send_whole(self, key: str, data: bytes) -> None:
        """Send in a thread of its own: on a slow line a signal would have to wait for it."""
        import obstore

        client = self._requests.client("whole")
        try:
            Upload(lambda taken: obstore.put(client, key, b"".join(taken), use_multipart=False)).run([data])
        except SendFailed as failed:
            raise failed.error from None

    def _put_parts(self, name: str, pieces: Iterable[bytes]) -> int:
        """Upload in parts; the object appears, or is replaced, when all are there."""
        import obstore

        key, client = self._key_of(name), self._requests.client("parts")
        ours: Any = {_UPLOADED_BY: secrets.token_hex(16)}
        sent = 0

        def counted() -> Iterator[bytes]:
            nonlocal sent
            for piece in pieces:
                sent += len(piece)
                yield piece

        def send(taken: Iterator[bytes]) -> object:
            return obstore.put(
                client, key, taken, attributes=ours, use_multipart=True, chunk_size=PART, max_concurrency=PARALLEL
            )

        try:
            Upload(send).run(counted())
        except SendFailed as failed:
            # The last request may have been carried out although its answer was lost.
            if not self._is_ours(key, ours[_UPLOADED_BY], sent):
                failure = Failure.of(failed.error)
                raise self._requests.error(failure, f"cannot write {name}", 1, PART_SECONDS) from None
        finally:
            self.counters.add(requests=2 + -(-sent // PART))
        return sent

    def _is_ours(self, key: str, token: str, size: int) -> bool:
        """Tell whether an object is the one that this upload made."""
        import obstore

        head: Any = {"head": True}
        try:
            found = self._requests.make(
                "cannot look", lambda: obstore.get(self._requests.client("small"), key, options=head), key
            )
        except BucketError:
            return False
        attributes: Any = found.attributes
        return found.meta["size"] == size and attributes.get(_UPLOADED_BY) == token

    # -- requests --------------------------------------------------------------------------------------------------

    def _list(self, folder: str, before: str | None, wanted: Callable[[str], bool]) -> Names:
        """List what is below a folder; with ``before`` from there on, and only until the first name not wanted."""
        import obstore

        client = self._requests.client("read")

        def pages() -> Names:
            found: Names = []
            for page, batch in enumerate(obstore.list(client, f"{self._prefix}{folder}", offset=before)):
                self.counters.add(requests=min(page, 1))
                names = [meta["path"].removeprefix(self._prefix) for meta in batch]
                found += filter(wanted, names)
                if before is not None and not wanted(names[-1]):
                    break
            return sorted(filter(is_name, found))

        return self._requests.make(f"cannot list {folder or 'it'}", pages)

    def _key_of(self, name: str) -> str:
        return self._prefix + check_name(name)


def _first_part(pieces: Iterator[bytes]) -> bytes:
    """Return what comes first: all, or at least one part."""
    found, size = [], 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size >= PART:
            break
    return b"".join(found)
