"""Whether a bucket can be worked with: what its key may do, how versions come into being in it, whose clock is off.

Everything is tried, with an object of its own that is removed again; nothing is believed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from b2m.buckets.marker import read_marker
from b2m.buckets.protocol import Bucket
from b2m.buckets.rights import TellsRights
from b2m.errors import B2mError, BucketError, ObjectMissing

T = TypeVar("T")
Level = Literal["ok", "note", "bad"]

MAX_SKEW = 300.0  # seconds; runs refuse beyond it too


@runtime_checkable
class TellsTime(Protocol):
    """A store that says when an object was written, by its own clock."""

    def written_at(self, name: str) -> datetime: ...


@dataclass(frozen=True)
class Point:
    """One thing that was tried; a bad one says what to do."""

    name: str
    level: Level
    text: str


@dataclass(frozen=True)
class Checked:
    """What came of it. ``publishing`` is how versions come into being here, None if that could not be seen."""

    bucket: str
    url: str
    publishing: str | None
    points: tuple[Point, ...]

    @property
    def ready(self) -> bool:
        return not any(point.level == "bad" for point in self.points)

    def to_json(self) -> dict[str, Any]:
        return {"type": "bucket", "ready": self.ready, **asdict(self)}

    def lines(self) -> list[str]:
        """Return the report for people."""
        first = f"{self.bucket}  {self.url}  {'ready' if self.ready else 'not ready'}"
        return [first, *(f"  {point.level:4}  {point.name:8}  {point.text}" for point in self.points)]


class Check:
    """Tries one bucket; ``open`` returns it, or raises what is wrong with its entry or its secrets."""

    def __init__(self, name: str, url: str, open: Callable[[], Bucket]) -> None:
        self._name = name
        self._url = url
        self._open = open
        self._points: list[Point] = []
        self._publishing: str | None = None

    def run(self) -> Checked:
        bucket = self._try("open", self._open, lambda bucket: "inventory.yaml and its secrets are complete", quiet=True)
        if bucket is not None:
            # A store that does not answer at all would be waited for again and again.
            with suppress(_NoAnswer):
                self._look(bucket)
        return Checked(self._name, self._url, self._publishing, tuple(self._points))

    def _look(self, bucket: Bucket) -> None:
        name = f"b2m-check-{secrets.token_hex(8)}/probe"
        content = secrets.token_bytes(32)
        if isinstance(bucket, TellsRights):
            self._rights(bucket)
        self._try("list", lambda: bucket.list(name.partition("/")[0]), lambda found: "reachable, and the key may list")
        self._marker(bucket)
        if self._try("write", lambda: bucket.put(name, content), lambda size: "the key may write") is not None:
            read = self._try("read", lambda: bucket.get(name), lambda data: "the key may read")
            if read not in (None, content):
                self._add("read", "bad", "what was read is not what was written; use another store")
            if isinstance(bucket, TellsTime):
                self._clock(bucket, name)
            self._try("delete", lambda: bucket.delete(name), lambda _: "the key may delete")
        self._publish(bucket)

    def _rights(self, bucket: TellsRights) -> None:
        for found in self._try("rights", bucket.rights, lambda found: "", quiet=True) or []:
            text = f"{found.line()}; see docs/buckets.md#keys-and-buckets" if found.missing else found.line()
            self._add("rights", "bad" if found.missing else "ok", text)

    def _marker(self, bucket: Bucket) -> None:
        try:
            self._add("set up", "ok", f"id {read_marker(bucket).id}")
        except ObjectMissing:
            self._add("set up", "bad", f"it has no b2m.json; set it up with: b2m bucket.init --bucket {self._name}")
        except B2mError as error:
            self._fail("set up", error)

    def _publish(self, bucket: Bucket) -> None:
        found = self._try("publish", bucket.probe, lambda found: "", quiet=True)
        if found is None:
            return
        self._publishing = found.detail
        if found.create_is_atomic:
            self._add("publish", "ok", found.detail)
        else:
            what = f"{found.detail}: two runs could publish one version; use another store, see docs/buckets.md"
            self._add("publish", "bad", what)

    def _clock(self, bucket: TellsTime, name: str) -> None:
        written = self._try("clock", lambda: bucket.written_at(name), lambda when: "", quiet=True)
        if written is None:
            return
        skew = abs((datetime.now(UTC) - written).total_seconds())
        if skew > MAX_SKEW:
            self._add("clock", "bad", f"it differs from the store's by {skew:.0f} s; set this machine's clock")
        else:
            self._add("clock", "ok", "the store's and this machine's agree")

    def _try(self, name: str, act: Callable[[], T], say: Callable[[T], str], *, quiet: bool = False) -> T | None:
        """Return what ``act`` returns, or None after saying what went wrong."""
        try:
            found = act()
        except B2mError as error:
            self._fail(name, error)
            return None
        if not quiet:
            self._add(name, "ok", say(found))
        return found

    def _fail(self, name: str, error: B2mError) -> None:
        text = str(error.fields["what"]) if type(error) is BucketError else str(error)
        self._add(name, "bad", text)
        if isinstance(error, BucketError) and error.unreachable:
            raise _NoAnswer from error

    def _add(self, name: str, level: Level, text: str) -> None:
        self._points.append(Point(name, level, text))


class _NoAnswer(Exception):
    """Nothing further needs to be tried."""
