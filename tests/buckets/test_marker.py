"""A bucket says which one it is, or it is not opened."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from b2m.buckets import Bucket, open_bucket
from b2m.buckets.marker import NAME, init_bucket, read_marker
from b2m.errors import ObjectDamaged, ObjectMissing, UnknownFormat
from tests.buckets.backends import Backend
from tests.buckets.conftest import Config
from tests.support.processes import together


@pytest.fixture
def config(backend: Backend, tmp_path: Path) -> Config:
    """What opens a bucket that was not set up."""
    return backend.make(tmp_path)


def test_a_bucket_that_was_never_set_up_has_no_marker(bucket: Bucket) -> None:
    with pytest.raises(ObjectMissing):
        read_marker(bucket)


def test_setting_up_again_keeps_the_id(bucket: Bucket) -> None:
    marker = init_bucket(bucket)
    assert init_bucket(bucket) == marker
    assert read_marker(bucket) == marker


def _init(index: int, barrier: Barrier, config: Config) -> str:
    bucket = open_bucket(config)
    barrier.wait(60)
    return init_bucket(bucket).id


def test_processes_that_set_up_at_once_agree_on_one_id(config: Config) -> None:
    assert len(set(together(_init, 6, config))) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "id": "short", "created": "2026-01-01"}',
        b'{"format": 1, "id": "0123456789abcdef0123456789abcdef"}',
        b'{"format": "1", "id": "0123456789abcdef0123456789abcdef", "created": "2026-01-01"}',
    ],
)
def test_a_damaged_marker_is_an_error(bucket: Bucket, content: bytes) -> None:
    bucket.put(NAME, content)
    with pytest.raises(ObjectDamaged, match=r"object b2m\.json is damaged"):
        read_marker(bucket)


def test_a_newer_format_is_refused_and_not_set_up_over(bucket: Bucket) -> None:
    bucket.put(NAME, b'{"format": 2, "something": "new"}')
    for attempt in (read_marker, init_bucket):
        with pytest.raises(UnknownFormat, match="has format 2, this b2m reads up to 1: install a newer b2m"):
            attempt(bucket)
