"""The backends that the conformance suite runs against: a further one is one more entry."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from b2m.buckets import Bucket, open_bucket
from b2m.buckets.marker import init_bucket
from b2m.errors import BucketError, ObjectExists


def _set_up(config: Mapping[str, object]) -> None:
    init_bucket(open_bucket(config))


@dataclass(frozen=True)
class Backend:
    """How to get an empty store of one type, and how to take it away."""

    name: str
    make: Callable[[Path], Mapping[str, object]]  # returns the config; any process can open the bucket from it
    vanish: Callable[[Mapping[str, object]], None]
    set_up: Callable[[Mapping[str, object]], None] = _set_up  # leaves a bucket as it is when runs find it
    create_requests: int = 1  # what a create costs that meets nobody
    create_copies: int = 1  # how often it sends the content
    pace: int = 1  # how many times longer its creates take than a folder's: tests do so many fewer
    large: int = 50  # megabytes that pass in
    grown: int = 12  # further megabytes of memory


def _make_folder(tmp: Path) -> Mapping[str, object]:
    (tmp / "bucket").mkdir()
    return {"type": "folder", "path": str(tmp / "bucket")}


def _remove_folder(config: Mapping[str, object]) -> None:
    shutil.rmtree(str(config["path"]))


BACKENDS = [Backend("folder", _make_folder, _remove_folder)]


class LosesAnswers:
    """A bucket whose creates and puts are applied although their caller is told something else."""

    def __init__(self, inner: Bucket, answer: type[BucketError] = BucketError) -> None:
        self.inner = inner
        self.answer = answer

    def __getattr__(self, attribute: str) -> object:
        return getattr(self.inner, attribute)

    def create(self, name: str, data: bytes) -> None:
        self.inner.create(name, data)
        if self.answer is ObjectExists:
            raise ObjectExists(bucket=self.inner.name, name=name)
        raise self.answer(bucket=self.inner.name, what="the connection was reset")

    def put(self, name: str, data: bytes) -> int:
        self.inner.put(name, data)
        raise BucketError(bucket=self.inner.name, what="the connection was reset")


def opened(config: Mapping[str, object]) -> Bucket:
    return open_bucket(config)
