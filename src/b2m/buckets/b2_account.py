"""A key of Backblaze B2 at work: authorized when first used, its rights known, its errors in our words.

No message of b2sdk's is passed on as it is where it may hold a token or a signed address.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from b2m.buckets.protocol import Counters
from b2m.buckets.rights import Rights
from b2m.errors import BucketError, ObjectMissing

if TYPE_CHECKING:
    from b2m.buckets.b2_http import Session

T = TypeVar("T")

DATA_RIGHTS = ("listFiles", "readFiles", "writeFiles", "deleteFiles")
LOCK_RIGHTS = ("listBuckets", "writeBuckets")
CALL = 60.0  # seconds for one call of ours, all tries together


class Account:
    """One key and the one bucket that it is used for; ``url`` is ``b2://bucket/prefix``, ``needs`` its rights."""

    def __init__(self, url: str, realm: str, key_id: str, key: str, needs: tuple[str, ...]) -> None:
        self.url = url
        parts = urlsplit(url)
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self.counters = Counters()
        self._realm = realm
        self._key_id = key_id
        self._key = key
        self._needs = needs
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._bucket_id: str | None = None

    @property
    def session(self) -> Session:
        """b2sdk's session, authorized; BucketError for a wrong key or one that may not see this bucket."""
        with self._lock:
            if self._session is None:
                from b2m.buckets.b2_http import Session

                session = Session(self.counters)
                with self._errors("cannot log in", session, authorizing=True), session.deadlines.within(CALL):
                    session.authorize_account(self._realm, self._key_id, self._key)
                self._session = session
                self._check_restrictions()
            return self._session

    def account_id(self) -> str:
        return str(self.session.account_info.get_account_id())

    def bucket_id(self) -> str:
        """Return the bucket's id, by one request if the key is not restricted to the bucket; BucketError."""
        if self._bucket_id is None:
            session = self.session
            own = [item["id"] for item in self._allowed()["buckets"] or [] if item["name"] == self.bucket]
            self._bucket_id = own[0] if own else self._find()["bucketId"]
            assert session is not None
        return str(self._bucket_id)

    def rights(self) -> Rights:
        """Return what the key may do, as the store said when it was authorized."""
        assert self.session is not None
        allowed = self._allowed()
        has = tuple(sorted(allowed["capabilities"]))
        only = ", ".join(str(item["name"]) for item in allowed["buckets"] or []) or None
        # A key that is restricted to the bucket was told its id with its rights; any other has to look it up.
        needs = self._needs if only else dict.fromkeys((*self._needs, "listBuckets"))
        missing = tuple(right for right in needs if right not in has)
        return Rights(self.url, has, missing, only, allowed["namePrefix"])

    def call(self, doing: str, function: Callable[[Session], T], *, needs: str, within: float = CALL) -> T:
        """Return ``function(session)``; BucketError says what was being done and which right is missing."""
        session = self.session
        with self._errors(doing, session, needs=needs), session.deadlines.within(within):
            return function(session)

    def describe(self) -> dict[str, Any]:
        """Return the bucket as the store has it now, never from a cache: its id, revision and bucketInfo."""
        return self._find()

    def check_there(self) -> None:
        """Raise BucketError if the bucket is gone: a missing object and a missing bucket answer alike."""
        listed = {"start_file_name": self.prefix or None, "max_file_count": 1, "prefix": self.prefix}
        bucket = self.bucket_id()
        self.call("cannot list it", lambda session: session.list_file_names(bucket, **listed), needs="listFiles")

    def _find(self) -> dict[str, Any]:
        account = self.account_id()
        answer = self.call(
            "cannot find it",
            lambda session: session.list_buckets(account, bucket_name=self.bucket),
            needs="listBuckets",
        )
        if not answer["buckets"]:
            what = "there is no such bucket in this account, or the key may not see it; make it, or use another key"
            raise BucketError(bucket=self.url, what=what)
        found: dict[str, Any] = answer["buckets"][0]
        return found

    def _allowed(self) -> dict[str, Any]:
        assert self._session is not None
        allowed: dict[str, Any] = self._session.account_info.get_allowed()
        return allowed

    def _check_restrictions(self) -> None:
        allowed = self._allowed()
        only = [item["name"] for item in allowed["buckets"] or []]
        what = None
        if only and self.bucket not in only:
            what = f"the key is restricted to {', '.join(map(str, only))}: use a key for this bucket"
        elif not self.prefix.startswith(allowed["namePrefix"] or ""):
            what = (
                f"the key is restricted to names that begin with {allowed['namePrefix']!r}: use another key or prefix"
            )
        if what:
            self._session = None
            raise BucketError(bucket=self.url, what=what)

    @contextmanager
    def _errors(self, doing: str, session: Session, *, needs: str = "", authorizing: bool = False) -> Iterator[None]:
        """Turn b2sdk's errors into BucketError; what is missing into ObjectMissing without a name."""
        from b2sdk.v3.exception import B2Error, FileNotPresent

        try:
            yield
        except B2Error as error:
            # Its base is what a HEAD request raises; b2sdk does not export it.
            if isinstance(error, FileNotPresent.__base__):
                raise ObjectMissing(bucket=self.url, name="") from error
            raise BucketError(bucket=self.url, what=f"{doing}: {self._why(error, needs, authorizing)}") from error

    def _why(self, error: Exception, needs: str, authorizing: bool) -> str:
        from b2sdk.v3 import exception as b2

        from b2m.buckets.b2_http import OutOfTime

        if isinstance(error, b2.ClockSkew):
            return "this machine's clock differs from the store's by more than ten minutes: set it"
        if isinstance(error, b2.Unauthorized):
            if authorizing:
                return "the store does not know this key: check key_id and key, and whether it was deleted"
            if needs and needs not in self._allowed()["capabilities"]:
                wanted = dict.fromkeys((*self._needs, needs))
                return f"the key lacks the right {needs}: use a key that has {', '.join(wanted)}"
            return "the store refused the key; it may have been deleted, or be restricted to other names"
        if isinstance(error, b2.CapExceeded):
            return "the account's cap is reached: raise it in Backblaze's console, under Caps & Alerts"
        if isinstance(error, b2.BucketIdNotFound):
            return "there is no such bucket any more"
        if isinstance(error, b2.B2RequestTimeout | OutOfTime | b2.RequestTimeout):
            return "the store did not answer in time; run again later"
        if isinstance(error, b2.B2ConnectionError | b2.UnknownHost | b2.ConnectionReset | b2.BrokenPipe):
            return "the store cannot be reached; check the network, run again later"
        if isinstance(error, b2.TooManyRequests):
            return "the store is asked too often (429); run again later"
        if isinstance(error, b2.ServiceError):
            return f"the store failed ({str(error)[:60]}); run again later"
        if isinstance(error, b2.BadRequest | b2.BadJson):
            return f"the store refused the request: {str(error)[:200]}"
        return f"{type(error).__name__}; run again later"
