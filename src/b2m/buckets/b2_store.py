"""A bucket of Backblaze B2 by its native API: everything of the Bucket protocol but a conditional write.

B2 keeps old versions of a name. A delete here removes them all, oldest first, so that no older content shows up again;
a put that replaces leaves the older ones to the bucket's lifecycle rule (docs/buckets.md).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from b2m.buckets import tokens
from b2m.buckets.b2_account import Account
from b2m.buckets.b2_upload import upload
from b2m.buckets.protocol import CHUNK, Names, check_name, is_name
from b2m.errors import BucketError, ObjectDamaged, ObjectMissing

if TYPE_CHECKING:
    from b2m.buckets.b2_http import Session

_PAGE = 10_000  # names a request: the most that B2 gives; it charges for each thousand
_SILENT_TRIES = 5  # of reading on after a download broke off, without a byte in between
_MOST_OWN = 1000

Versions = list[tuple[str, str]]


class B2Store:
    """The objects below ``account``'s prefix."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.name = account.url
        self.counters = account.counters
        # Ids of objects that nobody else writes and that this process wrote at the first try: one version, known.
        self._own: dict[str, str] = {}

    def get(self, name: str) -> bytes:
        return b"".join(self.stream(name))

    def get_range(self, name: str, start: int, length: int) -> bytes:
        if length <= 0:
            self.size(name)
            return b""
        return b"".join(self._download(name, start, start + length - 1, CHUNK))

    def stream(self, name: str, chunk: int = CHUNK) -> Iterator[bytes]:
        return self._download(name, 0, None, chunk)

    def size(self, name: str) -> int:
        return int(self._head(name)["content-length"])

    def written_at(self, name: str) -> datetime:
        """Return when an object was written, by the store's clock; ObjectMissing."""
        return datetime.fromtimestamp(int(self._head(name)["x-bz-upload-timestamp"]) / 1000, UTC)

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        full = self._full(name)
        size, identity, at_once = upload(self.account, full, [data] if isinstance(data, bytes) else data)
        self.counters.add(up=size)
        if at_once and tokens.parse(name).kind in ("flag", "staged"):
            self._own[name] = identity
            if len(self._own) > _MOST_OWN:
                del self._own[next(iter(self._own))]
        return size

    def list(self, prefix: str) -> Names:
        return self._list(self._full(prefix) + "/" if prefix else self.account.prefix)

    def list_beginning(self, beginning: str) -> Names:
        return self._list(self._full(beginning))

    def delete(self, name: str) -> None:
        full = self._full(name)
        identity = self._own.pop(name, None)
        versions = [(identity, "upload")] if identity else self._versions(full)
        for version, action in reversed(versions):
            self._delete_version(full, version, action)

    def prepare(self) -> None:
        self.account.check_there()

    def _full(self, name: str) -> str:
        return self.account.prefix + check_name(name)

    def _head(self, name: str) -> Mapping[str, str]:
        full = self._full(name)
        bucket = self.account.bucket
        try:
            headers: Mapping[str, str] = self.account.call(
                f"cannot look at {name}", lambda s: s.get_file_info_by_name(bucket, full), needs="readFiles"
            )
        except ObjectMissing as error:
            raise self._missing(name) from error
        return headers

    def _missing(self, name: str) -> ObjectMissing:
        """Return the error for a missing object, or raise the one for a missing bucket, which looks alike."""
        said = getattr(self.account.session.said, "text", "")
        if "file with such name does not exist" not in said.lower():
            self.account.check_there()
        return ObjectMissing(bucket=self.name, name=name)

    def _list(self, full: str) -> Names:
        bucket = self.account.bucket_id()
        names: Names = []
        start: str | None = None
        while True:
            ask = partial(_file_names, bucket, start, full)
            answer = self.account.call("cannot list it", ask, needs="listFiles")
            names += [item["fileName"].removeprefix(self.account.prefix) for item in answer["files"]]
            start = answer["nextFileName"]
            if start is None:
                return sorted(filter(is_name, names))

    def _versions(self, full: str) -> Versions:
        """Return the ids and kinds of all versions of a name, newest first."""
        bucket = self.account.bucket_id()
        found: Versions = []
        name: str | None = full
        identity: str | None = None
        while name == full:
            ask = partial(_file_versions, bucket, full, identity)
            answer = self.account.call(f"cannot delete {full}", ask, needs="listFiles")
            found += [(item["fileId"], item["action"]) for item in answer["files"] if item["fileName"] == full]
            name, identity = answer["nextFileName"], answer["nextFileId"]
        return found

    def _delete_version(self, full: str, version: str, action: str) -> None:
        def delete(session: Session) -> None:
            if action == "start":
                session.cancel_large_file(version)
            else:
                session.delete_file_version(version, full)

        with suppress(ObjectMissing):
            self.account.call(f"cannot delete {full}", delete, needs="deleteFiles")

    def _download(self, name: str, start: int, end: int | None, chunk: int) -> Iterator[bytes]:
        """Yield an object's bytes from ``start`` to ``end``, all included, resumed where a connection broke off.

        A whole object is checked against the SHA1 that B2 keeps, if it was uploaded in one piece.
        """
        full = self._full(name)
        source: str | None = None
        digest = hashlib.sha1(usedforsecurity=False)
        expect: str | None = None
        at, last, silent = start, end, 0
        while last is None or at <= last:
            before = at
            try:
                opened = self._open(name, full, source, at, last)
                if opened is None:
                    return
                with opened as response:
                    stop = at + int(response.headers["content-length"])
                    if source is None:
                        source, last = response.headers["x-bz-file-id"], stop - 1
                        expect = response.headers.get("x-bz-content-sha1") if (start, end) == (0, None) else None
                    for piece in self._pieces(name, response, chunk, stop - at):
                        digest.update(piece)
                        at += len(piece)
                        self.counters.add(down=len(piece))
                        yield piece
            except _BrokenOff as error:
                silent = silent + 1 if at == before else 0
                if silent >= _SILENT_TRIES:
                    what = f"cannot read {name}: the download broke off at byte {at}; run again later"
                    raise BucketError(bucket=self.name, what=what) from error
                time.sleep(0.2 * silent)
        if expect and len(expect) == 40 and expect != digest.hexdigest():
            raise ObjectDamaged(bucket=self.name, name=name, what="its SHA1 is not the one that the store keeps")

    def _open(self, name: str, full: str, source: str | None, at: int, last: int | None) -> Any:
        """Return the answer to a download request, of that very version where one was begun; None behind the end."""
        from b2sdk.v3.exception import UnsatisfiableRange

        def request(session: Session) -> Any:
            if source is None:
                url = session.get_download_url_by_name(self.account.bucket, full)
            else:
                url = session.get_download_url_by_id(source)
            # A range without an end cannot be asked for; without one at all, an empty object is no special case.
            wanted = None if at == 0 and last is None else (at, last)
            try:
                return session.download_file_from_url(url, range_=wanted)
            except UnsatisfiableRange:
                return None

        try:
            return self.account.call(f"cannot read {name}", request, needs="readFiles")
        except ObjectMissing as error:
            raise self._missing(name) from error

    def _pieces(self, name: str, response: Any, chunk: int, expected: int) -> Iterator[bytes]:
        """Yield the body; _BrokenOff if it ends early, BucketError if it is longer than it may be."""
        import requests

        received = 0
        try:
            for piece in response.iter_content(chunk_size=chunk):
                received += len(piece)
                if received > expected:
                    raise BucketError(bucket=self.name, what=f"cannot read {name}: more came than was asked for")
                yield piece
        except (requests.RequestException, OSError) as error:
            raise _BrokenOff from error
        finally:
            response.close()
        if received < expected:
            raise _BrokenOff


class _BrokenOff(Exception):
    """A download ended before its time."""


def _file_names(bucket: str, start: str | None, prefix: str, session: Session) -> Any:
    return session.list_file_names(bucket, start_file_name=start, max_file_count=_PAGE, prefix=prefix)


def _file_versions(bucket: str, name: str, start: str | None, session: Session) -> Any:
    return session.list_file_versions(
        bucket, start_file_name=name, start_file_id=start, max_file_count=100, prefix=name
    )
