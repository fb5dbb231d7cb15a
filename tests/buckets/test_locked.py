"""Creating by compare-and-swap on a lock bucket: who wins, what others see meanwhile, what a crash leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from b2m.buckets import open_bucket, tokens
from b2m.buckets.b2 import open_b2
from b2m.buckets.locked import LockedBucket
from b2m.buckets.protocol import Capabilities, Settles
from b2m.buckets.relay import RelayedBucket
from b2m.errors import BucketError, ObjectExists, ObjectMissing
from tests.support.b2_simulator import Simulator, simulator

Entry = dict[str, Any]
NAME = "ipm/commits/00000006.json"
TOKEN = "c" + "a" * 23


@pytest.fixture
def b2() -> Simulator:
    running = simulator()
    running.clear()
    return running


@pytest.fixture
def entry(b2: Simulator) -> Entry:
    return dict(b2.config(locks=True))


def opened(entry: Mapping[str, Any]) -> LockedBucket:
    bucket = open_b2(**{key: value for key, value in entry.items() if key != "type"})
    assert isinstance(bucket, LockedBucket)
    return bucket


def reader(entry: Entry) -> Any:
    """The bucket as a host sees it that has no lock key."""
    return open_bucket({key: value for key, value in entry.items() if key != "locks"})


def decided(bucket: LockedBucket, name: str = NAME, token: str = TOKEN, content: bytes = b"dead's") -> None:
    """Leave what a creator leaves that died between winning and writing."""
    bucket._inner.put(tokens.staged_name(name, token), content)
    assert bucket._win(name, bucket._key("ipm"), token)


def test_the_record_has_one_key_a_database_with_the_last_number_of_each_folder(b2: Simulator, entry: Entry) -> None:
    bucket = opened(entry)
    bucket.create("b2m.json", b"{}")
    for number in (1, 2, 3):
        bucket.create(f"ipm/lease/{number:08d}.json", b"{}")
        bucket.create(f"ipm/commits/{number:08d}.json", b"{}")
    bucket.create("emoji/commits/00000001.json", b"{}")
    info = b2.info(entry)["info"]
    assert len(info) == 2
    [ipm] = [value for key, value in info.items() if key.endswith("-ipm")]
    commits, lease = ipm.split(",")
    assert (commits.split(":")[:2], lease.split(":")[:2]) == (["ipm/commits", "00000003"], ["ipm/lease", "00000003"])
    assert len(ipm) < 120
    assert all(len(key) <= 50 for key in info)


def test_names_without_a_number_do_not_pile_up_in_the_record(
    b2: Simulator, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each creator died before it took its own entry out again."""
    monkeypatch.setattr(LockedBucket, "_forget", lambda bucket, key, token: None)
    bucket = opened(entry)
    bucket.create(NAME, b"{}")
    for name in ("one", "two", "three"):
        bucket.create(f"ipm/{name}.json", b"{}")
    [ipm] = b2.info(entry)["info"].values()
    assert [item.split(":")[0] for item in ipm.split(",")] == ["ipm/commits", "ipm/three.json"]
    for name in ("one", "two", "three"):
        with pytest.raises(ObjectExists):
            opened(entry).create(f"ipm/{name}.json", b"another's")
    bucket.create("ipm/commits/00000007.json", b"{}")
    [ipm] = b2.info(entry)["info"].values()
    assert [item.split(":")[:2] for item in ipm.split(",")] == [["ipm/commits", "00000007"]]


def test_other_keys_of_the_lock_bucket_are_left_alone(b2: Simulator, entry: Entry) -> None:
    bucket = opened(entry)
    revision, _ = bucket._record.read()
    assert bucket._record.swap(revision, {"somebody-else": "x"})
    bucket.create("b2m.json", b"{}")
    bucket.create(NAME, b"{}")
    info = b2.info(entry)["info"]
    assert info["somebody-else"] == "x"
    assert len(info) == 2


def test_more_databases_than_the_lock_bucket_holds_are_refused(b2: Simulator, entry: Entry) -> None:
    bucket = opened(entry)
    for number in range(10):
        bucket.create(f"db{number}/commits/00000001.json", b"{}")
    with pytest.raises(BucketError, match="its bucketInfo holds 10 databases at most: use another lock bucket"):
        bucket.create("db10/commits/00000001.json", b"{}")
    bucket.create("db9/commits/00000002.json", b"{}")


def test_readers_without_the_lock_key_see_what_was_created(entry: Entry) -> None:
    opened(entry).create(NAME, b"content")
    assert reader(entry).list("ipm/commits") == [NAME]
    assert reader(entry).get(NAME) == b"content"


def test_what_is_not_decided_yet_is_seen_by_nobody(entry: Entry) -> None:
    bucket = opened(entry)
    bucket._inner.put(tokens.staged_name(NAME, TOKEN), b"not yet")
    for other in (reader(entry), opened(entry)):
        assert other.list("ipm") == []
        with pytest.raises(ObjectMissing):
            other.get(NAME)
    opened(entry).create(NAME, b"another's")
    assert reader(entry).get(NAME) == b"another's"


def test_a_winner_that_died_before_it_wrote_is_finished_by_the_next_creator(b2: Simulator, entry: Entry) -> None:
    busy = opened(entry)
    busy.list("ipm/commits")  # its only look at the record is over
    decided(opened(entry))
    assert reader(entry).list("ipm/commits") == []
    assert busy.list("ipm/commits") == []
    with pytest.raises(ObjectExists):
        busy.create(NAME, b"another's")
    assert reader(entry).get(NAME) == b"dead's"
    assert [name for name, _ in b2.versions(entry)] == [tokens.created_name(NAME, TOKEN)]


@pytest.mark.parametrize("look", ["list", "get", "size"])
def test_a_winner_that_died_before_it_wrote_is_finished_by_a_new_process_that_looks(entry: Entry, look: str) -> None:
    decided(opened(entry))
    after = opened(entry)
    looks: dict[str, Any] = {
        "list": lambda: after.list("ipm/commits") == [NAME],
        "get": lambda: after.get(NAME) == b"dead's",
        "size": lambda: after.size(NAME) == 6,
    }
    assert looks[look]()
    assert reader(entry).get(NAME) == b"dead's"


def test_a_creation_elsewhere_in_the_database_finishes_it_too(entry: Entry) -> None:
    busy = opened(entry)
    busy.create("ipm/lease/00000001.json", b"{}")
    decided(opened(entry))
    busy.create("ipm/lease/00000002.json", b"{}")
    assert reader(entry).get(NAME) == b"dead's"


def test_a_swap_whose_answer_was_lost_was_made(b2: Simulator, entry: Entry) -> None:
    bucket = opened(entry)
    bucket.create("ipm/commits/00000005.json", b"{}")
    b2.fault(op="b2_update_bucket", kind="cut", when="after")
    bucket.create(NAME, b"ours")
    assert reader(entry).get(NAME) == b"ours"
    assert b2.info(entry)["revision"] == 3


def test_our_own_creation_that_failed_after_it_was_decided_is_finished_by_our_next_look(
    b2: Simulator, entry: Entry
) -> None:
    bucket = opened(entry)
    bucket.create("ipm/commits/00000005.json", b"{}")
    b2.fault(op="b2_upload_file", kind=503, match="00000006-c", times=5)
    with pytest.raises(BucketError, match="the store failed"):
        bucket.create(NAME, b"ours")
    assert reader(entry).list("ipm/commits") == ["ipm/commits/00000005.json"]
    assert bucket.get(NAME) == b"ours"
    with pytest.raises(ObjectExists):
        bucket.create(NAME, b"again")


def test_numbers_only_go_up(entry: Entry) -> None:
    bucket = opened(entry)
    for number in (5, 6):
        bucket.create(f"ipm/commits/{number:08d}.json", b"{}")
    bucket.delete("ipm/commits/00000005.json")
    with pytest.raises(ObjectExists):
        opened(entry).create("ipm/commits/00000005.json", b"{}")


def test_an_emptied_bucket_is_told_from_a_taken_name(entry: Entry) -> None:
    bucket = opened(entry)
    bucket.create(NAME, b"{}")
    bucket.delete(NAME)
    with pytest.raises(
        BucketError, match=r"ipm/commits/00000006\.json was created, but it is not there; if .* remove \w+-ipm"
    ):
        opened(entry).create("ipm/commits/00000001.json", b"{}")


def test_versions_from_before_the_lock_bucket_count(entry: Entry) -> None:
    before = reader(entry)
    before.create(NAME, b"by flags")
    bucket = opened(entry)
    with pytest.raises(ObjectExists):
        bucket.create(NAME, b"by locks")
    bucket.create("ipm/commits/00000007.json", b"by locks")
    assert before.list("ipm/commits") == [NAME, "ipm/commits/00000007.json"]
    with pytest.raises(BucketError, match="was created through a lock bucket; give this bucket its locks:"):
        before.create("ipm/commits/00000008.json", b"by flags")


def test_two_buckets_may_share_a_lock_bucket(b2: Simulator, entry: Entry) -> None:
    other = {**b2.config(), "locks": entry["locks"]}
    opened(entry).create(NAME, b"one")
    opened(other).create(NAME, b"other")
    assert (reader(entry).get(NAME), reader(other).get(NAME)) == (b"one", b"other")


@pytest.mark.parametrize("missing", ["listBuckets", "writeBuckets"])
def test_a_lock_key_that_lacks_a_right_is_told(b2: Simulator, entry: Entry, missing: str) -> None:
    key_id, key = b2.make_key(rights=tuple({"listBuckets", "writeBuckets"} - {missing}))
    poor = opened({**entry, "locks": {**entry["locks"], "key_id": key_id, "key": key}})
    with pytest.raises(
        BucketError, match=f"the key lacks the right {missing}: use a key that has listBuckets, writeBuckets"
    ):
        poor.create(NAME, b"{}")


def test_a_record_without_a_revision_is_never_swapped(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket: Any = opened(entry)
    monkeypatch.setattr(bucket._record.account, "describe", lambda: {"revision": None, "bucketInfo": {}})
    with pytest.raises(BucketError, match="the store does not say the lock bucket's revision"):
        bucket.create(NAME, b"{}")


def test_what_dead_creators_staged_goes_with_time(b2: Simulator, entry: Entry) -> None:
    bucket = opened(entry)
    bucket._inner.put(tokens.staged_name(NAME, TOKEN), b"dead's")
    bucket.create(NAME, b"ours")
    bucket.list("ipm/commits")
    bucket.create("ipm/commits/00000007.json", b"ours")
    assert not [name for name, _ in b2.versions(entry) if name.endswith(".staged")]


def test_a_probe_sees_whether_old_revisions_lose_and_leaves_nothing(
    b2: Simulator, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket: Any = opened(entry)
    bucket.create(NAME, b"{}")
    before = b2.info(entry)["info"]
    assert bucket.probe() == Capabilities(True, f"creates by compare-and-swap on lock bucket {entry['locks']['url']}")
    assert b2.info(entry)["info"] == before
    swap = bucket._record.swap
    monkeypatch.setattr(bucket._record, "swap", lambda revision, info: swap(bucket._record.read()[0], info))
    assert not bucket.probe().create_is_atomic
    assert b2.info(entry)["info"] == before


def test_a_host_without_the_lock_key_has_what_was_decided_finished_before_it_recovers(
    b2: Simulator, entry: Entry
) -> None:
    ops = opened(entry)
    ops.list("ipm/commits")
    decided(opened(entry))
    host = RelayedBucket(reader(entry), ops.create)
    with pytest.raises(ObjectMissing):
        host.get(NAME)
    assert isinstance(host, Settles)
    host.settle("ipm")
    assert host.get(NAME) == b"dead's"
    assert [name for name, _ in b2.versions(entry)] == [tokens.created_name(NAME, TOKEN)]


def test_a_machine_with_the_lock_key_settles_as_often_as_it_is_asked(entry: Entry) -> None:
    ops: Settles = opened(entry)
    ops.settle("ipm")
    decided(opened(entry))
    ops.settle("ipm")
    assert reader(entry).get(NAME) == b"dead's"
