"""Requests to an S3 store through obstore: timeouts, retries, and errors that people understand.

obstore's own retries repeat a 501 and do not end for minutes, so only the parts of a large upload use them. Everything
else is repeated here, with growing, random pauses, within a total time. The store's Retry-After is not shown by
obstore: a store that asks to slow down waits for a second and more instead.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from b2m.buckets.clock import SystemClock
from b2m.buckets.protocol import Counters
from b2m.buckets.s3_failure import Failure, Place, sentence
from b2m.errors import BucketError, ObjectExists, ObjectMissing

if TYPE_CHECKING:
    from obstore.store import S3Store as Client

T = TypeVar("T")
_steady = SystemClock().steady  # goes on while the machine sleeps: a write that woke up may be far too late
Use = Literal["small", "read", "whole", "parts"]

ATTEMPTS = 6
DEADLINE = 45.0  # seconds, after which a small request is not begun again
ANSWER = 10.0  # seconds for a small request, and for each piece of a large one that is read
CONNECT = 5.0
PART_SECONDS = 300.0  # for one part of a large upload, or for a whole one of that size
_PAUSE, _SLOW_PAUSE, _LONGEST_PAUSE = 0.2, 1.0, 8.0


class NoConditions(BucketError):
    """bucket {bucket}: the store answers 501 to conditional writes"""


class Requests:
    """Makes requests to the bucket at ``url``, and counts them."""

    def __init__(self, url: str, endpoint: str | None, region: str, path_style: bool, key_id: str, key: str) -> None:
        self.name = url
        self.counters = Counters()
        self._bucket = url.removeprefix("s3://").partition("/")[0]
        self._region = region
        self._path_style = path_style
        self._endpoint = (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
        self._key_id, self._key = key_id, key
        self._clients: dict[Use, Client] = {}
        parts = urlsplit(self._endpoint)
        # Not all of the address is shown: it might have a password in it.
        port = f":{parts.port}" if parts.port else ""
        self._place = Place(self._bucket, f"{parts.scheme}://{parts.hostname}{port}", region)

    def client(self, use: Use) -> Client:
        """Return what makes the requests of one kind; obstore's timeout is for a whole request, its body included."""
        if use in self._clients:
            return self._clients[use]
        from obstore.store import S3Store as Client

        options: dict[str, Any] = {"allow_http": True, "connect_timeout": timedelta(seconds=CONNECT)}
        retries = ATTEMPTS if use == "parts" else 0
        if use == "small":
            options["timeout"] = timedelta(seconds=ANSWER)
        elif use == "read":
            options |= {"timeout": timedelta(days=1), "read_timeout": timedelta(seconds=ANSWER)}
        else:
            options["timeout"] = timedelta(seconds=PART_SECONDS)
        endpoint = self._endpoint
        if not self._path_style:
            scheme, _, host = endpoint.partition("://")
            endpoint = f"{scheme}://{self._bucket}.{host}"
        # obstore reads AWS_… of the environment for whatever is not given: a session token there would go out too.
        self._clients[use] = Client(
            self._bucket,
            endpoint=endpoint,
            region=self._region,
            virtual_hosted_style_request=not self._path_style,
            credential_provider=self._credentials,
            skip_signature=False,
            s3_express=False,
            request_payer=False,
            disable_bulk_delete=True,
            conditional_put="etag",
            client_options=options,  # type: ignore[arg-type]
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=PART_SECONDS)},
        )
        return self._clients[use]

    def _credentials(self) -> Any:
        return {"access_key_id": self._key_id, "secret_access_key": self._key, "token": None, "expires_at": None}

    def make(
        self,
        doing: str,
        act: Callable[[], T],
        name: str | None = None,
        *,
        behind_the_end: T | None = None,
        creating: bool = False,
        within: float | None = None,
    ) -> T:
        """Make a request until it is answered for good; ObjectMissing and ObjectExists only with a ``name``.

        It is not begun again after ``within`` seconds, by default DEADLINE.
        """
        import obstore

        began = _steady()
        for tried in range(1, ATTEMPTS + 1):
            self.counters.add(requests=1)
            try:
                return act()
            except (obstore.exceptions.BaseError, FileNotFoundError) as error:
                failure = Failure.of(error)
                if isinstance(error, FileNotFoundError) and not failure.no_bucket and name is not None:
                    raise ObjectMissing(bucket=self.name, name=name) from None
                if isinstance(error, obstore.exceptions.PreconditionError):
                    what = f"{doing}: it was replaced meanwhile; run again"
                    raise BucketError(bucket=self.name, what=what) from None
                if creating and isinstance(error, obstore.exceptions.AlreadyExistsError) and not failure.conflict:
                    raise ObjectExists(bucket=self.name, name=name) from None
                if creating and failure.not_supported:
                    raise NoConditions(bucket=self.name) from None
                if behind_the_end is not None and failure.behind_the_end:
                    return behind_the_end
            pause = self.pause_after(failure, tried)
            if not failure.passing or tried == ATTEMPTS or _steady() + pause - began > (within or DEADLINE):
                break
            time.sleep(pause)
        raise self.error(failure, doing, tried)

    def pause_after(self, failure: Failure, tried: int) -> float:
        """Return the seconds to wait before the next try: growing, and random, so that not all come at once."""
        first = _SLOW_PAUSE if failure.asks_to_slow_down else _PAUSE
        return float(min(first * 2 ** (tried - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.0))

    def error(self, failure: Failure, doing: str, tried: int = 1, seconds: float | None = None) -> BucketError:
        error = BucketError(bucket=self.name, what=sentence(failure, doing, self._place, tried, seconds or ANSWER))
        error.unreachable = failure.kind in ("tls", "connect", "timeout")
        return error
