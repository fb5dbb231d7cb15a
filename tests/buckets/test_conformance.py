"""What b2m relies on in every bucket, whatever the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle, repeat
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest

from b2m.buckets import Bucket, open_bucket
from b2m.buckets.marker import NAME
from b2m.errors import BucketError, ObjectExists, ObjectMissing, UsageError
from tests.buckets.backends import Backend
from tests.buckets.conftest import Config
from tests.support.processes import alone, peak_memory, running, together
from tests.support.settings import trials

MB = 1 << 20


def _names(bucket: Bucket) -> list[str]:
    """Return the names of all objects but the marker."""
    return [name for name in bucket.list("") if name != NAME]


def test_what_was_put_is_read_back(bucket: Bucket) -> None:
    assert bucket.put("ipm/a.json", b"one") == 3
    assert bucket.get("ipm/a.json") == b"one"
    assert bucket.size("ipm/a.json") == 3


def test_another_opener_reads_what_was_put(bucket: Bucket, config: Config) -> None:
    bucket.put("a", b"one")
    assert open_bucket(config).get("a") == b"one"


def test_put_replaces(bucket: Bucket) -> None:
    bucket.put("a", b"a long first content")
    bucket.put("a", b"short")
    assert bucket.get("a") == b"short"


def test_an_empty_object_is_an_object(bucket: Bucket) -> None:
    bucket.put("empty", b"")
    assert bucket.get("empty") == b""
    assert bucket.size("empty") == 0
    assert list(bucket.stream("empty")) == []
    assert _names(bucket) == ["empty"]


def test_create_makes_an_object(bucket: Bucket) -> None:
    bucket.create("ipm/commits/00000001.json", b"{}")
    assert bucket.get("ipm/commits/00000001.json") == b"{}"


def test_create_fails_and_changes_nothing_if_the_name_exists(bucket: Bucket) -> None:
    bucket.create("a", b"first")
    with pytest.raises(ObjectExists, match="an object a exists already"):
        bucket.create("a", b"second")
    assert bucket.get("a") == b"first"


def test_create_fails_on_a_name_that_was_put(bucket: Bucket) -> None:
    bucket.put("a", b"first")
    with pytest.raises(ObjectExists):
        bucket.create("a", b"second")


def test_a_deleted_name_can_be_created_again(bucket: Bucket) -> None:
    bucket.create("a", b"first")
    bucket.delete("a")
    bucket.create("a", b"second")
    assert bucket.get("a") == b"second"


def test_a_missing_object_is_told_from_a_failure(bucket: Bucket) -> None:
    bucket.put("ipm/there", b"")
    for name in ("nothing", "ipm/nothing", "ipm", "ipm/there/below"):
        with pytest.raises(ObjectMissing):
            bucket.get(name)
        with pytest.raises(ObjectMissing):
            bucket.size(name)
        with pytest.raises(ObjectMissing):
            bucket.get_range(name, 0, 1)
        with pytest.raises(ObjectMissing):
            next(bucket.stream(name))


def test_deleting_a_missing_object_is_fine(bucket: Bucket) -> None:
    bucket.delete("nothing")
    bucket.delete("no/thing")


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 4, b"0123"), (3, 4, b"3456"), (8, 4, b"89"), (10, 4, b""), (50, 4, b""), (4, 0, b""), (0, 99, b"0123456789")],
)
def test_ranges_are_cut_at_the_end(bucket: Bucket, start: int, length: int, expected: bytes) -> None:
    bucket.put("digits", b"0123456789")
    assert bucket.get_range("digits", start, length) == expected


def test_streams_come_in_bounded_pieces(bucket: Bucket) -> None:
    content = bytes(range(256)) * 1000
    bucket.put("a", content)
    pieces = list(bucket.stream("a", chunk=10_000))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 10_000


def test_a_listing_is_sorted_and_goes_down(bucket: Bucket) -> None:
    names = ["b", "a/2", "a/10", "a/b/c", "A", "a.json"]
    for name in names:
        bucket.put(name, b"")
    assert _names(bucket) == sorted(names)


def test_a_prefix_is_whole_segments(bucket: Bucket) -> None:
    for name in ("ipm/commits/1", "ipm/commits2/1", "ipm/commits.json", "ipm2/commits/1"):
        bucket.put(name, b"")
    assert bucket.list("ipm/commits") == ["ipm/commits/1"]
    assert bucket.list("ipm") == ["ipm/commits.json", "ipm/commits/1", "ipm/commits2/1"]
    assert bucket.list("ip") == []


def test_a_prefix_without_objects_lists_nothing(bucket: Bucket) -> None:
    assert bucket.list("ipm/commits") == []


def test_host_names_and_large_numbers_are_names(bucket: Bucket) -> None:
    name = "ipm/lease/ops.example.org@2026/00000012.renew.00000001.json"
    bucket.put(name, b"x")
    assert bucket.list("ipm/lease/ops.example.org@2026") == [name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        "./a",
        ".hidden",
        "a/.hidden",
        "a b",
        "a\\b",
        "a\nb",
        "é",
        "x" * 999,
    ],
)
def test_names_that_a_store_would_not_keep_are_refused(bucket: Bucket, name: str) -> None:
    with pytest.raises(UsageError):
        bucket.put(name, b"")
    with pytest.raises(UsageError):
        bucket.create(name, b"")
    with pytest.raises(UsageError):
        bucket.get(name)
    with pytest.raises(UsageError):
        bucket.delete(name)


def test_a_put_whose_source_fails_leaves_the_object_as_it_was(bucket: Bucket) -> None:
    def torn() -> Iterator[bytes]:
        yield b"half of "
        raise OSError(5, "the source cannot be read")

    bucket.put("a", b"old")
    with pytest.raises(OSError, match="the source cannot be read"):
        bucket.put("a", torn())
    assert bucket.get("a") == b"old"
    with pytest.raises(OSError, match="the source cannot be read"):
        bucket.put("new", torn())
    assert _names(bucket) == ["a"]


def test_probing_finds_an_atomic_create_and_leaves_nothing(bucket: Bucket) -> None:
    assert bucket.probe().create_is_atomic
    assert _names(bucket) == []


def test_requests_and_bytes_are_counted(backend: Backend, bucket: Bucket) -> None:
    bucket.create("first", b"")  # a store may have to be found out about, once
    counters = bucket.counters

    def since(before: tuple[int, int, int]) -> tuple[int, int, int]:
        now = (counters.requests, counters.bytes_up, counters.bytes_down)
        return now[0] - before[0], now[1] - before[1], now[2] - before[2]

    start = since((0, 0, 0))
    bucket.put("a", [b"12345", b"678"])
    assert since(start) == (1, 8, 0)
    bucket.create("b", b"9")
    assert since(start) == (1 + backend.create_requests, 8 + backend.create_copies, 0)
    bucket.get("a")
    bucket.get_range("a", 0, 2)
    assert since(start) == (3 + backend.create_requests, 8 + backend.create_copies, 10)


def test_a_store_that_vanished_is_an_error_and_never_looks_empty(
    backend: Backend, bucket: Bucket, config: Config
) -> None:
    bucket.put("a", b"")
    backend.vanish(config)
    for again in (bucket, open_bucket(config)):
        with pytest.raises(BucketError) as caught:
            again.list("")
        assert not isinstance(caught.value, ObjectMissing)
        with pytest.raises(BucketError) as caught:
            again.get("a")
        assert not isinstance(caught.value, ObjectMissing)
        with pytest.raises(BucketError):
            again.delete("a")
        with pytest.raises(BucketError):
            again.put("a", b"")
        with pytest.raises(BucketError):
            again.create("a", b"")


def _create_all(index: int, barrier: Barrier, config: Config, names: int) -> list[int]:
    bucket = open_bucket(config)
    won = []
    for number in range(names):
        barrier.wait(60)
        try:
            bucket.create(f"race/{number:04d}", b"%d" % index)
            won.append(number)
        except ObjectExists:
            pass
    return won


def test_of_eight_processes_exactly_one_creates_each_name(backend: Backend, bucket: Bucket, config: Config) -> None:
    names = trials(ci=60, full=200) // backend.pace
    wins = together(_create_all, 8, config, names)
    assert sorted(number for won in wins for number in won) == list(range(names))
    for index, won in enumerate(wins):
        for number in won:
            assert bucket.get(f"race/{number:04d}") == b"%d" % index


def _put_alternating(connection: Any, config: Config) -> None:
    bucket = open_bucket(config)
    for letter in cycle((b"B", b"A")):
        bucket.put("a", [letter * 100_000] * 10)


def test_a_reader_sees_one_whole_object_while_it_is_replaced(bucket: Bucket, config: Config) -> None:
    bucket.put("a", b"A" * 1_000_000)
    with running(_put_alternating, config):
        seen: set[bytes] = set()
        reads, until = 0, time.monotonic() + 60
        while reads < trials(ci=150, full=2000) or len(seen) < 2:  # the writer may need a while to start
            assert time.monotonic() < until or len(seen) == 2, f"only {seen} was seen in {reads} reads"
            reads += 1
            content = bucket.get("a")
            seen.add(content[:1])
            assert content in (b"A" * 1_000_000, b"B" * 1_000_000)
            time.sleep(0.001)
    assert seen == {b"A", b"B"}


def _put_forever(connection: Any, config: Config, name: str) -> None:
    def endless() -> Iterator[bytes]:
        for piece in repeat(b"x" * 65_536):
            connection.send("writing")
            yield piece

    open_bucket(config).put(name, endless())


def test_a_process_killed_during_put_leaves_no_object(bucket: Bucket, config: Config) -> None:
    bucket.put("old", b"old")
    for name in ("new", "old"):
        with running(_put_forever, config, name) as (process, connection):
            for _ in range(20):
                assert connection.recv() == "writing"
            process.kill()
            process.join()
    assert _names(bucket) == ["old"]
    assert bucket.get("old") == b"old"


def _put_and_stream(config: Config, megabytes: int) -> tuple[int, int]:
    bucket = open_bucket(config)
    bucket.put("warm", b"x")
    list(bucket.stream("warm"))
    before = peak_memory()
    bucket.put("large", (b"x" * MB for _ in range(megabytes)))
    read = sum(len(piece) for piece in bucket.stream("large"))
    return read, peak_memory() - before


def test_large_objects_pass_in_bounded_memory(backend: Backend, config: Config) -> None:
    read, grown = alone(_put_and_stream, config, backend.large)
    assert read == backend.large * MB
    assert grown < backend.grown * MB
