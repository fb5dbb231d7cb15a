"""Creating by flags, over a store that has only put: dead flags, slow creators, two of one name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from b2m.buckets import tokens
from b2m.buckets.flagged import FlaggedBucket
from b2m.buckets.folder import FolderBucket
from b2m.buckets.protocol import Names
from b2m.errors import BucketError, ObjectExists, ObjectMissing, UsageError

NAME = "ipm/commits/00000006.json"


class Store(FolderBucket):
    """A folder whose steps a test can follow and hold up; its own create is never used."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.steps: list[str] = []
        self.before: dict[str, Callable[[], object]] = {}  # by step, used once
        self.after: dict[str, Callable[[], object]] = {}

    def put(self, name: str, data: bytes | Iterable[bytes]) -> int:
        step = f"put {tokens.parse(name).kind}"
        self._step(step)
        size = super().put(name, data)
        self.after.pop(step, lambda: None)()
        return size

    def list(self, prefix: str) -> Names:
        self._step("list")
        return super().list(prefix)

    def delete(self, name: str) -> None:
        self._step(f"delete {tokens.parse(name).kind}")
        super().delete(name)

    def create(self, name: str, data: bytes) -> None:
        raise AssertionError("this store has no create")

    def _step(self, step: str) -> None:
        self.steps.append(step)
        self.before.pop(step, lambda: None)()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "bucket").mkdir()
    return Store(tmp_path / "bucket")


@pytest.fixture
def bucket(store: Store) -> FlaggedBucket:
    return FlaggedBucket(store, stale=1.5, wait=0.02)


def stored(store: Store) -> list[tuple[str, str]]:
    """What is stored for the tests' name: kind and letter of the token."""
    found = tokens.about(NAME, FolderBucket(store.root).list("ipm/commits"))
    return sorted((item.kind, item.token[:1]) for item in found)


def test_an_object_is_stored_under_its_creator_s_token(bucket: FlaggedBucket, store: Store) -> None:
    bucket.create(NAME, b"{}")
    [physical] = FolderBucket(store.root).list("")
    assert tokens.parse(physical).name == NAME
    assert physical.startswith("ipm/commits/00000006-f")
    assert physical.endswith(".json")
    assert len(physical) == len(NAME) + 25
    assert bucket.list("ipm/commits") == [NAME]
    assert store.steps == ["put flag", "list", "put created", "list", "delete flag", "list"]


@pytest.mark.parametrize("token", ["f" + "0" * 23, "f" * 24])  # one that goes before ours, one that goes after
def test_a_dead_creator_s_flag_holds_a_name_up_no_longer_than_it_may(
    bucket: FlaggedBucket, store: Store, token: str
) -> None:
    FolderBucket(store.root).put(tokens.flag_name(NAME, token), b"")
    began = time.monotonic()
    bucket.create(NAME, b"{}")
    assert 1.5 < time.monotonic() - began < 6
    assert stored(store) == [("created", "f")]


def test_a_dead_flag_of_a_name_that_is_taken_holds_nobody_up(bucket: FlaggedBucket, store: Store) -> None:
    bucket.create(NAME, b"first")
    FolderBucket(store.root).put(tokens.flag_name(NAME, "f" + "0" * 23), b"")
    began = time.monotonic()
    with pytest.raises(ObjectExists):
        bucket.create(NAME, b"second")
    assert time.monotonic() - began < 1
    bucket.list("ipm/commits")
    bucket.create("ipm/commits/00000007.json", b"")
    assert stored(store) == [("created", "f")]


def test_a_creator_that_others_never_let_in_says_so(store: Store) -> None:
    bucket = FlaggedBucket(store, stale=1000.0, wait=0.01)
    bucket._patience = 0.5
    flag = tokens.flag_name(NAME, "f" + "0" * 23)
    FolderBucket(store.root).put(flag, b"")
    with pytest.raises(BucketError, match="others have been creating it for 0 s; try later") as caught:
        bucket.create(NAME, b"{}")
    assert flag in str(caught.value)
    assert "put created" not in store.steps
    assert stored(store) == [("flag", "f")]


def test_a_store_that_is_too_slow_for_flags_is_told_from_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = FlaggedBucket(store, stale=0.15, wait=0.01)
    bucket._patience = 0.5
    listing = store.list

    def slow(prefix: str) -> list[str]:
        time.sleep(0.06)
        return listing(prefix)

    monkeypatch.setattr(store, "list", slow)
    with pytest.raises(BucketError, match="the store is too slow, or this process was stopped"):
        bucket.create(NAME, b"{}")
    assert stored(store) == []


def test_a_creator_that_was_stopped_before_it_wrote_begins_anew(bucket: FlaggedBucket, store: Store) -> None:
    store.before["list"] = lambda: time.sleep(0.6)  # longer than a third of stale
    bucket.create(NAME, b"{}")
    assert store.steps[:5] == ["put flag", "list", "delete flag", "list", "put flag"]
    assert store.steps.count("put created") == 1


def test_a_creator_that_was_stopped_while_it_wrote_comes_second_and_leaves(bucket: FlaggedBucket, store: Store) -> None:
    faster = FlaggedBucket(FolderBucket(store.root), stale=0.2, wait=0.02)
    store.before["put created"] = lambda: faster.create(NAME, b"faster")
    with pytest.raises(ObjectExists):
        bucket.create(NAME, b"slow")
    assert bucket.get(NAME) == b"faster"
    assert stored(store) == [("created", "f")]


def test_a_name_that_exists_twice_is_refused_by_readers_and_shown_once(bucket: FlaggedBucket, store: Store) -> None:
    for token in ("f" + "a" * 23, "f" + "b" * 23):
        store.put(tokens.created_name(NAME, token), token.encode())
    assert bucket.list("ipm/commits") == [NAME]
    for read in (bucket.get, bucket.size, lambda name: list(bucket.stream(name))):
        with pytest.raises(BucketError, match=r"exists twice, as 00000006-fa+\.json and 00000006-fb+\.json") as caught:
            read(NAME)
        assert not isinstance(caught.value, ObjectMissing)
    with pytest.raises(ObjectExists):
        bucket.create(NAME, b"third")


def test_a_second_object_that_goes_at_once_fails_no_reader(bucket: FlaggedBucket, store: Store) -> None:
    for token in ("f" + "a" * 23, "f" + "b" * 23):
        store.put(tokens.created_name(NAME, token), token.encode())
    second = tokens.created_name(NAME, "f" + "b" * 23)
    timer = threading.Timer(0.6, lambda: FolderBucket(store.root).delete(second))
    timer.start()
    assert bucket.get(NAME) == b"f" + b"a" * 23
    timer.join()


def test_a_listing_that_fails_is_not_no_flags(bucket: FlaggedBucket, store: Store) -> None:
    def fails() -> None:
        raise BucketError(bucket="b", what="timed out")

    store.before["list"] = fails
    with pytest.raises(BucketError, match="timed out"):
        bucket.create(NAME, b"{}")
    assert stored(store) == []


def test_a_listing_without_our_own_flag_is_out_of_date(
    bucket: FlaggedBucket, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "list", lambda prefix: [])
    with pytest.raises(BucketError, match="which was just written; nothing can be created safely"):
        bucket.create(NAME, b"{}")
    assert stored(store) == []


def test_an_answer_that_was_lost_leaves_the_flag_up(bucket: FlaggedBucket, store: Store) -> None:
    def fails() -> None:
        raise BucketError(bucket="b", what="the connection was reset")

    store.after["put created"] = fails
    with pytest.raises(BucketError, match="connection was reset"):
        bucket.create(NAME, b"ours")
    assert stored(store) == [("created", "f"), ("flag", "f")]
    assert bucket.get(NAME) == b"ours"
    with pytest.raises(ObjectExists):
        bucket.create(NAME, b"again")


def test_flags_and_a_lock_bucket_are_not_mixed(bucket: FlaggedBucket, store: Store) -> None:
    store.put(tokens.created_name(NAME, "c" + "a" * 23), b"")
    bucket.list("ipm/commits")
    with pytest.raises(
        BucketError, match=r"00000006.json was created through a lock bucket; give this bucket its locks:"
    ):
        bucket.create("ipm/commits/00000007.json", b"")
    bucket.create("ipm/other/00000001.json", b"")


@pytest.mark.parametrize(
    "name",
    [
        tokens.created_name(NAME, "f" + "a" * 23),
        tokens.flag_name(NAME, "f" + "a" * 23),
        tokens.staged_name(NAME, "c" + "a" * 23),
    ],
)
def test_names_that_mean_something_else_are_refused(bucket: FlaggedBucket, name: str) -> None:
    with pytest.raises(UsageError, match="it has the form of a created object's token"):
        bucket.put(name, b"")
    with pytest.raises(UsageError):
        bucket.create(name, b"")


@pytest.mark.parametrize(
    "name",
    [
        "b2m.json",
        "db.toml",
        "ipm/pause.json",
        "ipm/runs/20260921T180004Z-9f3a.json",
        "ipm/lease/00000012.renew.00000003.json",
        "ipm/packs/00000006-from-00000005-" + "c" + "0" * 63 + ".pack",
        "ipm/files/ipm-db-v6.db",
    ],
)
def test_names_that_b2m_puts_are_no_created_names(name: str) -> None:
    assert tokens.parse(name) == tokens.Stored(name, name, "", "put")
