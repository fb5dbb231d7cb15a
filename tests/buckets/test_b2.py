"""Backblaze B2: keys, errors, retries, versions, multipart; the real client against a simulator over HTTP."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets import Bucket, open_bucket
from b2m.buckets.b2 import FlaggedB2, open_b2
from b2m.buckets.b2_upload import PART
from b2m.buckets.checking import Check
from b2m.buckets.lease import acquire
from b2m.buckets.marker import init_bucket
from b2m.errors import BucketError, ObjectDamaged, ObjectMissing
from tests.buckets.hanging import assert_a_signal_ends, put_until_told
from tests.support.b2_simulator import DATA, Simulator, simulator
from tests.support.commands import wait_for
from tests.support.processes import running

Entry = dict[str, Any]


@pytest.fixture
def b2() -> Iterator[Simulator]:
    running = simulator()
    running.clear()
    running.counts()
    yield running
    running.clear()


@pytest.fixture
def entry(b2: Simulator) -> Entry:
    return dict(b2.config(prefix="team"))


@pytest.fixture
def bucket(entry: Entry) -> Bucket:
    return open_bucket(entry)


def refused(entry: Entry, doing: str = "list") -> str:
    """Return what the first use of a bucket says, which must hold no secret."""
    bucket = open_bucket(entry)
    with pytest.raises(BucketError) as caught:
        bucket.list("") if doing == "list" else bucket.put("a", b"")
    assert not isinstance(caught.value, ObjectMissing)
    text = str(caught.value)
    assert entry["key"] not in text
    assert "auth_token" not in text
    return text


def test_a_wrong_key_is_told(entry: Entry) -> None:
    wanted = "the store does not know this key: check key_id and key, and whether it was deleted"
    assert refused({**entry, "key": "appKeyWrong"}).endswith(f"cannot log in: {wanted}")
    assert refused({**entry, "key_id": "appKeyIdWrong"}).endswith(wanted)


@pytest.mark.parametrize("missing", DATA)
def test_a_right_that_is_missing_is_named(b2: Simulator, entry: Entry, missing: str) -> None:
    name = entry["url"].split("/")[2]
    key_id, key = b2.make_key(name, rights=tuple(right for right in DATA if right != missing))
    good, poor = open_bucket(entry), open_bucket({**entry, "key_id": key_id, "key": key})
    good.put("a", b"x")
    assert isinstance(poor, FlaggedB2)
    assert [found.missing for found in poor.rights()] == [(missing,)]
    attempts: dict[str, Any] = {
        "listFiles": lambda: poor.list(""),
        "readFiles": lambda: poor.get("a"),
        "writeFiles": lambda: poor.put("b", b""),
        "deleteFiles": lambda: poor.delete("a"),
    }
    for right, attempt in attempts.items():
        if right == missing:
            with pytest.raises(
                BucketError, match=f"the key lacks the right {missing}: use a key that has {', '.join(DATA)}"
            ):
                attempt()


def test_a_key_of_another_bucket_or_prefix_is_told(b2: Simulator, entry: Entry) -> None:
    other = b2.make_bucket()
    key_id, key = b2.make_key(other)
    assert f"the key is restricted to {other}: use a key for this bucket" in refused(
        {**entry, "key_id": key_id, "key": key}
    )
    url = entry["url"].replace("/team", "/elsewhere")
    assert "restricted to names that begin with 'team/': use another key" in refused({**entry, "url": url})


def test_a_bucket_that_is_not_there_is_told(b2: Simulator, entry: Entry) -> None:
    key_id, key = b2.make_key(rights=(*DATA, "listBuckets"))
    url = "b2://b2m-test-nothing"
    assert "there is no such bucket in this account" in refused({**entry, "url": url, "key_id": key_id, "key": key})


def test_a_store_that_is_not_there_is_told_soon(entry: Entry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    began = time.monotonic()
    assert "the store cannot be reached" in refused({**entry, "realm": f"http://127.0.0.1:{port}"})
    assert time.monotonic() - began < 10


def test_a_store_that_never_answers_holds_nobody_for_ever(
    b2: Simulator, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a", b"x")
    monkeypatch.setattr("b2m.buckets.b2_http.READ", 0.5)
    b2.fault(op="head", kind="hang", age=3.0, times=100)
    began = time.monotonic()
    with pytest.raises(BucketError, match="the store did not answer in time"):
        bucket.size("a")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("kind", [500, 503, 429, "cut"])
def test_what_may_succeed_later_is_tried_again(b2: Simulator, bucket: Bucket, kind: int | str) -> None:
    bucket.put("a", b"x")
    for op in ("b2_upload_file", "download", "head", "b2_list_file_names"):
        b2.fault(op=op, kind=kind)
    bucket.put("b", b"y")
    assert bucket.get("a") == b"x"
    assert bucket.size("a") == 1
    assert bucket.list("") == ["a", "b"]


@pytest.mark.parametrize("kind", [501, 403])
def test_what_will_never_succeed_is_not_tried_again(b2: Simulator, bucket: Bucket, kind: int) -> None:
    bucket.put("a", b"x")
    b2.counts()
    for op, attempt in (
        ("b2_upload_file", lambda: bucket.put("b", b"")),
        ("b2_list_file_names", lambda: bucket.list("")),
    ):
        b2.fault(op=op, kind=kind, times=100)
        with pytest.raises(BucketError):
            attempt()
        assert b2.counts() == {op: 1}


@pytest.mark.parametrize("op", ["b2_list_file_names", "b2_upload_file"])
def test_the_store_says_how_long_to_wait(b2: Simulator, bucket: Bucket, op: str) -> None:
    bucket.put("a", b"x")
    b2.fault(op=op, kind=503, retry_after=2)
    began = time.monotonic()
    bucket.list("")
    bucket.put("b", b"")
    assert 2 <= time.monotonic() - began < 10


def test_a_store_that_says_to_come_back_tomorrow_is_not_waited_for(b2: Simulator, bucket: Bucket) -> None:
    bucket.put("a", b"x")
    b2.fault(op="b2_list_file_names", kind=503, retry_after=86400)
    began = time.monotonic()
    with pytest.raises(BucketError, match="the store failed"):
        bucket.list("")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("op", ["b2_list_file_names", "b2_upload_file", "download", "b2_delete_file_version"])
def test_a_token_that_expired_is_renewed(b2: Simulator, bucket: Bucket, op: str) -> None:
    bucket.put("a", b"x")
    bucket.put("old", b"x")
    b2.fault(op=op, kind="expired")
    bucket.put("b", b"y")
    bucket.delete("old")
    assert bucket.list("") == ["a", "b"]
    assert bucket.get("a") == b"x"


def test_a_download_that_breaks_off_goes_on_where_it_was(b2: Simulator, bucket: Bucket) -> None:
    content = bytes(range(256)) * 20_000
    bucket.put("a", content)
    b2.counts()
    b2.fault(op="download", kind="truncate", times=3)
    assert bucket.get("a") == content
    assert b2.counts() == {"download": 4}
    b2.fault(op="download", kind="truncate")
    assert bucket.get_range("a", 1000, 100_000) == content[1000:101_000]


def test_a_download_goes_on_with_the_version_that_it_began(b2: Simulator, bucket: Bucket) -> None:
    bucket.put("a", b"old" * 100_000)
    b2.fault(op="download", kind="truncate")
    pieces = bucket.stream("a", 1000)
    first = next(pieces)
    bucket.put("a", b"new" * 100_000)
    assert first + b"".join(pieces) == b"old" * 100_000


def test_bytes_that_are_not_those_that_were_stored_are_an_error(b2: Simulator, bucket: Bucket) -> None:
    bucket.put("a", b"content")
    b2.fault(op="download", kind="corrupt")
    with pytest.raises(ObjectDamaged, match="its SHA1 is not the one that the store keeps"):
        bucket.get("a")
    assert bucket.get("a") == b"content"


def test_an_upload_whose_answer_was_lost_leaves_what_a_delete_removes(
    b2: Simulator, bucket: Bucket, entry: Entry
) -> None:
    b2.fault(op="b2_upload_file", kind="cut", when="after")
    bucket.put("a", b"x")
    assert b2.versions(entry) == [("team/a", "upload")] * 2
    bucket.delete("a")
    assert b2.versions(entry) == []


def test_a_flag_whose_answer_was_lost_is_taken_down_all_the_same(b2: Simulator, bucket: Bucket, entry: Entry) -> None:
    bucket.put("a", b"x")
    b2.fault(op="b2_upload_file", kind="cut", when="after", match=".flag")
    bucket.create("ipm/commits/00000001.json", b"{}")
    assert [name.endswith(".flag") for name, _ in b2.versions(entry)] == [False, False]


def test_all_versions_of_a_name_go_and_none_shows_up_meanwhile(b2: Simulator, bucket: Bucket, entry: Entry) -> None:
    for number in range(5):
        bucket.put("a", b"%d" % number)
    bucket.put("ab", b"")
    b2.fault(op="b2_delete_file_version", kind=403, when="after", times=1)
    with pytest.raises(BucketError):
        bucket.delete("a")
    assert bucket.get("a") == b"4"
    bucket.delete("a")
    assert b2.versions(entry) == [("team/ab", "upload")]


def test_large_objects_go_in_parts_and_lost_answers_do_not_matter(b2: Simulator, bucket: Bucket) -> None:
    content = bytes(range(256)) * (3 * PART // 256 + 100)
    for op in ("b2_upload_part", "b2_finish_large_file", "b2_start_large_file"):
        b2.fault(op=op, kind="cut", when="after")
        b2.fault(op=op, kind=503)
    assert bucket.put("a", (content[at : at + 70_000] for at in range(0, len(content), 70_000))) == len(content)
    assert bucket.get("a") == content
    counts = b2.counts()
    assert counts["b2_upload_part"] == 4 + 2


def test_a_signal_ends_an_upload_in_parts_that_hangs(b2: Simulator, entry: Entry) -> None:
    b2.fault(op="b2_upload_part", kind="hang", age=60.0, times=99)
    with running(put_until_told, entry, 12) as (process, connection):
        seen: Counter[str] = Counter()

        def both_parts_are_on_their_way() -> bool:
            seen.update(b2.counts())  # which begin anew each time
            return seen["b2_upload_part"] >= 2

        wait_for(both_parts_are_on_their_way, "two parts were on their way")
        assert_a_signal_ends(process, connection, within=6)
    seen.update(b2.counts())
    assert seen["b2_cancel_large_file"] == 1
    assert b2.versions(entry) == []


def test_a_source_that_fails_late_leaves_no_unfinished_file(b2: Simulator, bucket: Bucket, entry: Entry) -> None:
    def torn() -> Iterator[bytes]:
        for _ in range(12):
            yield b"x" * 1_000_000
        raise OSError(5, "the source cannot be read")

    bucket.put("a", b"old")
    with pytest.raises(OSError, match="the source cannot be read"):
        bucket.put("a", torn())
    assert b2.versions(entry) == [("team/a", "upload")]


def test_the_rights_of_both_keys_are_known(b2: Simulator) -> None:
    entry = dict(b2.config(locks=True))
    del entry["type"]
    poor_id, poor = b2.make_key(rights=("listBuckets",))
    locks: Any = entry["locks"]
    data, lock = open_b2(**{**entry, "locks": {**locks, "key_id": poor_id, "key": poor}}).rights()  # type: ignore[arg-type]
    name = str(entry["url"]).removeprefix("b2://")
    assert (data.has, data.missing, data.bucket, data.prefix) == (tuple(sorted(DATA)), (), name, None)
    assert (lock.has, lock.missing, lock.bucket) == (("listBuckets",), ("writeBuckets",), None)
    assert lock.line() == (
        f"the key for {locks['url']} has listBuckets, restricted to no bucket; it lacks writeBuckets"
    )


def test_bucket_check_says_what_the_keys_may_do(b2: Simulator) -> None:
    entry = dict(b2.config(locks=True, prefix="team"))
    bucket = open_bucket(entry)
    init_bucket(bucket)
    checked = Check("main", str(entry["url"]), lambda: bucket).run()
    points = {point.name: (point.level, point.text) for point in checked.points}
    locks: Any = entry["locks"]
    assert checked.ready, checked.lines()
    assert points["clock"][0] == "ok"
    assert points["publish"] == ("ok", f"creates by compare-and-swap on lock bucket {locks['url']}")
    assert [point.text for point in checked.points if point.name == "rights"] == [
        f"the key for {entry['url']} has deleteFiles, listFiles, readFiles, writeFiles, restricted to "
        f"the bucket {str(entry['url']).split('/')[2]} and names that begin with team/",
        f"the key for {locks['url']} has listBuckets, writeBuckets, restricted to no bucket",
    ]


def test_bucket_check_names_the_right_that_is_missing(b2: Simulator, entry: Entry) -> None:
    key_id, key = b2.make_key(entry["url"].split("/")[2], rights=("listFiles", "readFiles", "writeFiles"))
    checked = Check("main", entry["url"], lambda: open_bucket({**entry, "key_id": key_id, "key": key})).run()
    assert not checked.ready
    [rights] = [point for point in checked.points if point.name == "rights"]
    assert rights.level == "bad"
    assert rights.text.endswith("; it lacks deleteFiles; see docs/buckets.md#keys-and-buckets")


@pytest.mark.parametrize("locks", [False, True], ids=["flags", "locks"])
def test_it_costs_what_the_docs_say(b2: Simulator, locks: bool, tmp_path: Path) -> None:
    bucket = open_bucket(b2.config(locks=locks))
    bucket.create("ipm/commits/00000001.json", b"{}")
    b2.counts()
    bucket.create("ipm/commits/00000002.json", b"{}")
    common = {"b2_upload_file": 2, "b2_delete_file_version": 1}
    if locks:
        assert b2.counts() == {**common, "b2_list_file_names": 1, "b2_list_buckets": 1, "b2_update_bucket": 1}
    else:
        assert b2.counts() == {**common, "b2_list_file_names": 2}
    with acquire(bucket, "ipm", owner="a", host="h", work="w", reason="r", ttl=6000.0, seen=tmp_path / "s") as lease:
        for _ in range(3):
            b2.counts()
            lease.renew()
        renewal = {"b2_list_file_names": 1, "b2_upload_file": 1, "b2_list_file_versions": 1}
        assert b2.counts() == {**renewal, "b2_delete_file_version": 1}
