"""Leases, with a clock that the test sets: who gets one, when, and when a holder must stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets import Bucket
from b2m.buckets.lease import Lease, acquire, break_lease, look
from b2m.buckets.lease_objects import claim_name, release_name, renewal_name
from b2m.errors import BucketError, LeaseLost, Locked, ObjectDamaged, ObjectExists, ObjectMissing, UnknownFormat
from tests.buckets.backends import LosesAnswers

Take = Callable[..., Lease]


class FakeClock:
    """Time that passes when the test says so, or when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_offset = 1.8e9
        self.boot_id: str | None = "boot-1"
        self.on_sleep: Callable[[], None] = lambda: None
        self.slept = 0.0

    def steady(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.wall_offset

    def boot(self) -> str | None:
        return self.boot_id

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.slept += seconds
        self.on_sleep()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def take(bucket: Bucket, clock: FakeClock, tmp_path: Path) -> Iterator[Take]:
    """Take the lease for the work folder ``work``; its thread never wakes up within a test."""
    taken: list[Lease] = []

    def take(work: str = "ours", *, at: Bucket | None = None, **options: Any) -> Lease:
        options = {"ttl": 6000.0, "reason": "sync", "seen": tmp_path / f"seen-{work}.json", "clock": clock, **options}
        lease = acquire(at or bucket, "ipm", owner=f"ann@{work}", host=work, work=work, **options)
        taken.append(lease)
        return lease

    yield take
    for lease in taken:
        lease._stop.set()


def test_a_free_database_is_leased_and_everybody_sees_it(bucket: Bucket, take: Take, clock: FakeClock) -> None:
    lease = take()
    clock.now += 90
    seen = look(bucket, "ipm")
    assert seen is not None
    assert (seen.epoch, seen.owner, seen.host, seen.reason, seen.token) == (1, "ann@ours", "ours", "sync", lease.token)
    assert seen.since == "2027-01-15T08:16:40Z"
    assert look(bucket, "emoji") is None


def test_a_released_lease_is_free_and_the_epoch_goes_up(bucket: Bucket, take: Take) -> None:
    for epoch in (1, 2, 3):
        with take() as lease:
            assert lease.epoch == epoch
            lease.ensure()
        assert look(bucket, "ipm") is None


def test_releasing_twice_is_fine_and_a_released_lease_is_no_lease(take: Take) -> None:
    lease = take()
    lease.release()
    lease.release()
    with pytest.raises(LeaseLost, match="it was released"):
        lease.ensure()


def test_a_held_lease_locks_others_out(take: Take) -> None:
    take("theirs")
    with pytest.raises(Locked, match="ipm is being changed by ann@theirs since 2027-01-15T08:16:40Z: try again later"):
        take("ours")


def test_databases_are_leased_apart(bucket: Bucket, take: Take, tmp_path: Path, clock: FakeClock) -> None:
    take("theirs")
    options = {"owner": "a", "host": "h", "work": "ours", "reason": "r", "seen": tmp_path / "seen", "clock": clock}
    acquire(bucket, "emoji", **options).release()  # type: ignore[arg-type]


def test_the_same_work_folder_takes_over_at_once(take: Take) -> None:
    first = take("ours")
    second = take("ours")
    assert second.epoch == 2
    second.ensure()
    with pytest.raises(LeaseLost, match="epoch 2 came after our 1"):
        first.ensure()


def test_waiting_ends_when_the_lease_is_released(take: Take, clock: FakeClock) -> None:
    theirs = take("theirs")
    clock.on_sleep = lambda: theirs.release() if clock.slept > 20 else None
    assert take("ours", wait=60.0).epoch == 2
    assert 20 < clock.slept < 24


def test_waiting_ends_when_its_time_is_over(take: Take, clock: FakeClock) -> None:
    take("theirs")
    with pytest.raises(Locked):
        take("ours", wait=30.0)
    assert clock.slept == pytest.approx(30.0)


def test_waiting_ends_when_the_holder_was_seen_dead_for_its_ttl(take: Take, clock: FakeClock) -> None:
    dead = take("theirs", ttl=60.0)
    assert take("ours", wait=300.0).epoch == 2
    assert 60 < clock.slept < 65
    with pytest.raises(LeaseLost):
        dead.ensure()


def test_renewals_keep_others_waiting(take: Take, clock: FakeClock) -> None:
    alive = take("theirs", ttl=60.0)
    clock.on_sleep = alive.renew
    with pytest.raises(Locked):
        take("ours", wait=300.0)
    alive.ensure()


def test_runs_that_never_wait_break_a_dead_lease_at_a_later_visit(take: Take, clock: FakeClock) -> None:
    take("theirs", ttl=60.0)
    for _ in range(2):
        with pytest.raises(Locked):
            take("ours")
        clock.now += 30.5
    assert take("ours").epoch == 2


def test_an_hour_old_lease_is_not_broken_at_first_sight(take: Take, clock: FakeClock) -> None:
    take("theirs", ttl=60.0)
    clock.now += 3600
    with pytest.raises(Locked):
        take("ours")


def test_a_sign_of_life_between_two_visits_starts_the_observation_anew(take: Take, clock: FakeClock) -> None:
    alive = take("theirs", ttl=60.0)
    for _ in range(8):
        with pytest.raises(Locked):
            take("ours")
        clock.now += 40
        alive.renew()


@pytest.mark.parametrize(
    "change", ["other boot", "no boot name, clock set back", "file damaged", "file of a later form"]
)
def test_an_observation_that_cannot_be_trusted_starts_anew(
    take: Take, clock: FakeClock, tmp_path: Path, change: str
) -> None:
    take("theirs", ttl=60.0)
    if change.startswith("no boot"):
        clock.boot_id = None
    with pytest.raises(Locked):
        take("ours")
    clock.now += 600
    seen = tmp_path / "seen-ours.json"
    match change:
        case "other boot":
            clock.boot_id = "boot-2"
        case "no boot name, clock set back":
            clock.wall_offset -= 10_000
        case "file damaged":
            seen.write_bytes(seen.read_bytes()[:20])
        case "file of a later form":
            seen.write_text('{"object": "x", "first_seen": {"atomic": 1}}')
    with pytest.raises(Locked):
        take("ours")
    clock.now += 61
    assert take("ours").epoch == 2


def test_without_a_name_of_the_boot_the_wall_clock_serves(take: Take, clock: FakeClock) -> None:
    clock.boot_id = None
    take("theirs", ttl=60.0)
    with pytest.raises(Locked):
        take("ours")
    clock.now = 5.0  # another boot
    clock.wall_offset += 1000 + 61
    assert take("ours").epoch == 2


def test_a_lease_lapses_well_before_others_may_take_it(take: Take, clock: FakeClock) -> None:
    lease = take(ttl=60.0)
    clock.now += 47
    lease.ensure()
    clock.now += 2
    with pytest.raises(LeaseLost, match=r"was lost \(not renewed for 49 s\); nothing was published"):
        lease.ensure(look=False)


def test_a_lapsed_lease_is_never_revived(take: Take, clock: FakeClock) -> None:
    lease = take(ttl=60.0)
    clock.now += 49
    with pytest.raises(LeaseLost):
        lease.renew()
    clock.now -= 49
    with pytest.raises(LeaseLost):
        lease.ensure(look=False)


def test_the_time_that_a_renewal_takes_counts_against_it(
    bucket: Bucket, take: Take, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = take(ttl=60.0)
    put = bucket.put

    def slow(name: str, data: bytes) -> int:
        size = put(name, data)
        clock.now += 50  # the process was stopped just here
        return size

    monkeypatch.setattr(bucket, "put", slow)
    lease.renew()
    with pytest.raises(LeaseLost, match="not renewed for 50 s"):
        lease.ensure(look=False)


def test_only_the_latest_renewals_are_kept(bucket: Bucket, take: Take) -> None:
    lease = take()
    for _ in range(5):
        lease.renew()
    assert bucket.list("ipm/lease") == [claim_name("ipm", 1), renewal_name("ipm", 1, 4), renewal_name("ipm", 1, 5)]
    seen = look(bucket, "ipm")
    assert seen is not None
    assert seen.renewals == 5


def test_objects_of_old_epochs_go_and_the_last_twenty_stay(bucket: Bucket, take: Take) -> None:
    for _ in range(30):
        take().release()
    claims = [name for name in bucket.list("ipm/lease") if "release" not in name]
    assert claims == [claim_name("ipm", epoch) for epoch in range(11, 31)]
    assert take().epoch == 31


def test_a_claim_below_the_highest_epoch_loses(bucket: Bucket, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that slept between its listing and its create finds an old number free again."""
    for _ in range(25):
        take("theirs").release()
    stale = iter([["ipm/lease/00000001.json", "ipm/lease/00000001.release.json"]])
    listing = bucket.list
    monkeypatch.setattr(bucket, "list", lambda prefix: next(stale, None) or listing(prefix))
    assert take("ours").epoch == 26


def test_an_answer_that_was_lost_is_settled_by_the_token(bucket: Bucket, take: Take) -> None:
    for answer in (BucketError, ObjectExists):
        flaky: Any = LosesAnswers(bucket, answer)
        lease = take("ours", at=flaky)
        lease.ensure()
        seen = look(bucket, "ipm")
        assert seen is not None
        assert seen.token == lease.token
        bucket.create(release_name("ipm", lease.epoch), b"")


def test_a_renewal_whose_answer_was_lost_is_repeated(bucket: Bucket, take: Take, clock: FakeClock) -> None:
    flaky: Any = LosesAnswers(bucket)
    lease = take("ours", at=flaky, ttl=60.0)
    clock.now += 40
    with pytest.raises(BucketError, match="connection was reset"):
        lease.renew()
    lease._bucket = bucket
    lease.renew()
    clock.now += 40
    lease.ensure()


def test_a_renewal_that_is_repeated_after_its_answer_was_lost_is_a_sign_of_its_own_to_others(
    bucket: Bucket, take: Take, clock: FakeClock
) -> None:
    flaky: Any = LosesAnswers(bucket)
    lease = take("theirs", at=flaky, ttl=60.0)
    clock.now += 20
    with pytest.raises(BucketError, match="connection was reset"):
        lease.renew()
    with pytest.raises(Locked):
        take("ours")  # sees the sign whose answer was lost
    clock.now += 25
    lease._bucket = bucket
    lease.renew()
    clock.now += 40
    lease.ensure(look=False)  # 85 seconds after it was taken, and 65 after the sign that others have seen
    with pytest.raises(Locked):
        take("ours")
    lease.ensure()


def test_a_failing_bucket_is_not_no_lease(bucket: Bucket, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(prefix: str) -> list[str]:
        raise BucketError(bucket="b", what="timed out")

    lease = take()
    monkeypatch.setattr(bucket, "list", fails)
    with pytest.raises(BucketError, match="timed out"):
        look(bucket, "ipm")
    with pytest.raises(BucketError, match="timed out"):
        take("others")
    with pytest.raises(BucketError, match="timed out"):
        lease.ensure()
    lease.ensure(look=False)


def test_the_block_s_own_error_wins_over_a_failing_release(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Lease) -> None:
        raise BucketError(bucket="b", what="timed out")

    monkeypatch.setattr(Lease, "release", fails)
    with pytest.raises(ZeroDivisionError), take("one", ttl=1.0):
        _ = 1 / 0
    with pytest.raises(BucketError, match="timed out"), take("one"):
        pass


def test_a_broken_lease_is_free_and_its_holder_notices(bucket: Bucket, take: Take) -> None:
    lease = take("theirs")
    broken = break_lease(bucket, "ipm", "bob@ops")
    assert broken is not None
    assert (broken.owner, broken.epoch) == ("ann@theirs", 1)
    assert look(bucket, "ipm") is None
    with pytest.raises(LeaseLost, match="epoch 2 came after our 1"):
        lease.ensure()
    assert take("ours").epoch == 3


def test_breaking_a_free_lease_does_nothing(bucket: Bucket, take: Take) -> None:
    assert break_lease(bucket, "ipm", "bob@ops") is None
    take().release()
    assert break_lease(bucket, "ipm", "bob@ops") is None
    assert take().epoch == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 1}'])
def test_a_claim_that_nobody_can_read_locks_until_it_is_broken(bucket: Bucket, take: Take, content: bytes) -> None:
    bucket.create(claim_name("ipm", 1), content)
    for attempt in (take, lambda: look(bucket, "ipm")):
        with pytest.raises(ObjectDamaged, match="if nobody works on the database, run: b2m unlock --force"):
            attempt()
    broken = break_lease(bucket, "ipm", "bob@ops")
    assert broken is not None
    assert broken.owner == "unknown"
    take()


def test_a_store_that_contradicts_itself_does_not_hang_a_run(
    bucket: Bucket, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exists(name: str, data: bytes) -> None:
        raise ObjectExists(bucket="b", name=name)

    monkeypatch.setattr(bucket, "create", exists)
    with pytest.raises(BucketError, match="can be neither taken nor seen"):
        take()
    monkeypatch.undo()
    bucket.create(claim_name("ipm", 1), b"")
    monkeypatch.setattr(bucket, "get", lambda name: bucket.get_range("no/such/object", 0, 1))
    with pytest.raises(ObjectMissing):
        look(bucket, "ipm")


def test_a_holder_s_clock_that_is_ahead_shows(bucket: Bucket, take: Take, clock: FakeClock) -> None:
    clock.wall_offset = time.time() - clock.now + 500
    take()
    seen = look(bucket, "ipm")
    assert seen is not None
    assert -501 < seen.age < -490


def test_a_claim_of_a_newer_b2m_is_refused(bucket: Bucket, take: Take) -> None:
    bucket.create(claim_name("ipm", 1), b'{"format": 2}')
    with pytest.raises(UnknownFormat):
        take()


def test_the_thread_renews_and_remembers_what_failed(bucket: Bucket, tmp_path: Path) -> None:
    renewed, failed = threading.Event(), threading.Event()
    put = bucket.put
    outcomes = iter([BucketError(bucket="b", what="timed out"), ValueError("a bug of a library")])

    def sometimes(name: str, data: Any) -> int:
        if ".renew." in name and (error := next(outcomes, None)):
            failed.set()
            raise error
        size = put(name, data)
        if ".renew." in name:
            renewed.set()
        return size

    bucket.put = sometimes  # type: ignore[method-assign]
    with acquire(bucket, "ipm", owner="a", host="h", work="w", reason="r", ttl=9.0, seen=tmp_path / "seen") as lease:
        assert failed.wait(20)
        assert renewed.wait(20)
        lease.ensure()
        assert lease.errors == ["bucket b: timed out", "a bug of a library"]
    assert not lease._thread.is_alive()
