"""Several processes on B2 at once, with faults, and killed at every point of a create: one winner, nothing lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest

from b2m.buckets import Bucket, open_bucket, tokens
from b2m.buckets.b2_locks import BucketInfo
from b2m.buckets.b2_store import B2Store
from b2m.buckets.flagged import FlaggedBucket
from b2m.buckets.locked import LockedBucket
from b2m.errors import BucketError, LeaseLost, ObjectExists
from b2m.versions import log
from b2m.versions.commit import Commit
from tests.support.b2_simulator import Simulator, simulator
from tests.support.processes import running, together
from tests.support.settings import trials
from tests.versions.conftest import make_commit

Entry = Mapping[str, Any]
STALE = 3.0


@pytest.fixture
def b2() -> Iterator[Simulator]:
    found = simulator()
    found.clear()
    yield found
    found.clear()


@pytest.fixture(params=[False, True], ids=["flags", "locks"])
def entry(request: pytest.FixtureRequest, b2: Simulator) -> Entry:
    return b2.config(locks=request.param, prefix="team")


def opened(entry: Entry, stale: float = STALE) -> FlaggedBucket | LockedBucket:
    """Open a bucket whose dead flags are called dead sooner than in life."""
    bucket: Any = open_bucket(entry)
    return FlaggedBucket(bucket._inner, stale=stale) if isinstance(bucket, FlaggedBucket) else bucket


def physical(b2: Simulator, entry: Entry) -> list[tokens.Stored]:
    """Return the objects that exist of created names, whatever a listing through b2m says."""
    seen = sorted({name.removeprefix("team/") for name, _ in b2.versions(entry)})
    return [stored for stored in map(tokens.parse, seen) if stored.kind == "created"]


def hurt(b2: Simulator, chance: float) -> None:
    """Let everything fail now and then: before it is applied, after it, or by an old listing."""
    for op in ("b2_upload_file", "b2_list_file_names", "b2_update_bucket", "b2_list_buckets", "b2_delete_file_version"):
        for kind, when in ((503, "before"), (500, "after"), ("cut", "before"), ("cut", "after"), (429, "before")):
            b2.fault(op=op, kind=kind, when=when, times=10**6, chance=chance / 5)
    b2.fault(op="b2_list_file_names", kind="stale", age=0.5, times=10**6, chance=chance)
    b2.fault(op="download", kind="truncate", times=10**6, chance=chance)
    b2.fault(op="b2_upload_file", kind="expired", times=3, chance=chance)


def _create_all(index: int, barrier: Barrier, entry: Entry, names: list[str]) -> dict[str, str]:
    bucket = opened(entry)
    outcome = {}
    for name in names:
        barrier.wait(120)
        try:
            bucket.create(name, b"%d" % index)
            outcome[name] = "won"
        except ObjectExists:
            outcome[name] = "exists"
        except BucketError as error:
            outcome[name] = str(error)
    return outcome


def test_with_faults_no_name_has_two_winners_and_no_winner_is_lost(b2: Simulator, entry: Entry) -> None:
    names = [f"ipm/commits/{number:08d}.json" for number in range(1, trials(ci=5, full=40) + 1)]
    hurt(b2, 0.08)
    outcomes = together(_create_all, 8, entry, names)
    b2.clear()
    bucket = opened(entry)
    held = [stored.name for stored in physical(b2, entry)]
    assert len(set(held)) == len(held)
    for name in names:
        winners = [index for index, outcome in enumerate(outcomes) if outcome[name] == "won"]
        assert len(winners) <= 1
        if winners:
            assert bucket.get(name) == b"%d" % winners[0]
        elif name in bucket.list("ipm/commits"):
            # Its creator got an error and cannot know; nobody else may have been told that it won.
            owner = int(bucket.get(name))
            assert outcomes[owner][name] not in ("won", "exists")


def _publish_some(index: int, barrier: Barrier, entry: Entry, count: int) -> list[str]:
    """Publish until ``count`` versions were acknowledged; return their tokens."""
    bucket: Bucket = opened(entry)
    acknowledged: list[str] = []
    deadline = time.monotonic() + 240
    barrier.wait(60)
    while len(acknowledged) < count and time.monotonic() < deadline:
        try:
            head = log.head(bucket, "ipm")
            commit: Commit = make_commit(head, author=f"p{index}")
            log.publish(bucket, commit)
            acknowledged.append(commit.token)
        except LeaseLost:
            time.sleep(0.02 * index)
        except BucketError:
            pass
    return acknowledged


def test_with_faults_every_acknowledged_version_is_in_the_history(b2: Simulator, entry: Entry) -> None:
    count = trials(ci=2, full=15)
    hurt(b2, 0.05)
    acknowledged = together(_publish_some, 4, entry, count)
    b2.clear()
    bucket = opened(entry)
    history = log.history(bucket, "ipm")[::-1]
    assert [commit.number for commit in history] == list(range(1, len(history) + 1))
    assert [commit.parent_token for commit in history] == [None, *(commit.token for commit in history[:-1])]
    wanted = [token for own in acknowledged for token in own]
    assert len(wanted) == 4 * count
    assert set(wanted) <= {commit.token for commit in history}
    assert len(physical(b2, entry)) == len(history)


class _Dying:
    """Passes calls on, and kills this process before or after the one that was named."""

    def __init__(self, real: Any, point: str) -> None:
        self._real = real
        self._point = point
        self._seen: dict[str, int] = {}

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._real, attribute)
        if attribute not in ("put", "list_beginning", "delete", "read", "swap"):
            return value

        def call(*args: Any) -> Any:
            kind = tokens.parse(args[0]).kind if attribute in ("put", "delete") else ""
            step = f"{attribute} {kind}".strip()
            self._seen[step] = self._seen.get(step, 0) + 1
            for when in ("before", "after"):
                if when == "after":
                    result = value(*args)
                if self._point == f"{when} {step} {self._seen[step]}":
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def _die(connection: Any, entry: Entry, name: str, point: str) -> None:
    bucket: Any = opened(entry, stale=60.0)  # on a busy machine too it shall get as far as it was told
    bucket._inner = _Dying(bucket._inner, point)
    if isinstance(bucket, LockedBucket):
        record: Any = _Dying(bucket._record, point)
        bucket._record = record
    bucket.create(name, b"dead's")
    connection.send("not killed")


FLAGS = ["put flag 1", "list_beginning 1", "put created 1", "list_beginning 2", "delete flag 1"]
LOCKS = ["put staged 1", "read 1", "list_beginning 1", "swap 1", "put created 1", "delete staged 1"]
POINTS = [
    *(("flags", f"{when} {step}") for step in FLAGS for when in ("before", "after")),
    *(("locks", f"{when} {step}") for step in LOCKS for when in ("before", "after")),
]


@pytest.mark.parametrize(("way", "point"), POINTS, ids=lambda value: value.replace(" ", "-"))
def test_a_creator_killed_at_any_point_holds_nobody_up_for_long(b2: Simulator, way: str, point: str) -> None:
    entry = b2.config(locks=way == "locks")
    name = "ipm/commits/00000006.json"
    with running(_die, entry, name, point) as (process, _):
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    bucket = opened(entry)
    began = time.monotonic()
    try:
        bucket.create(name, b"ours")
        owner = b"ours"
    except ObjectExists:
        owner = b"dead's"
    took = time.monotonic() - began
    assert took < (2 * STALE if way == "flags" else STALE)
    written = {"flags": "put created 1", "locks": "swap 1"}[way]
    steps = FLAGS if way == "flags" else LOCKS
    step = point.partition(" ")[2]
    decided = steps.index(step) > steps.index(written) or point == f"after {written}"
    assert owner == (b"dead's" if decided else b"ours")
    for reader in (opened(entry), open_bucket({key: value for key, value in entry.items() if key != "locks"})):
        assert reader.list("ipm/commits") == [name]
        assert reader.get(name) == owner
    assert bucket.list("ipm/commits") == [name]
    began = time.monotonic()
    bucket.create("ipm/commits/00000007.json", b"ours")
    assert time.monotonic() - began < STALE
    held = [tokens.parse(stored).kind for stored, _ in b2.versions(entry)]
    assert held == ["created", "created"]


def test_the_points_are_all_that_a_create_does(b2: Simulator) -> None:
    for way, steps in (("flags", FLAGS), ("locks", LOCKS)):
        bucket: Any = opened(b2.config(locks=way == "locks"))
        assert isinstance(bucket._inner, B2Store)
        store, record = _Dying(bucket._inner, ""), _Dying(getattr(bucket, "_record", None), "")
        assert way == "flags" or isinstance(bucket._record, BucketInfo)
        bucket._inner, bucket._record = store, record
        bucket.create("ipm/commits/00000001.json", b"")
        done = {**store._seen, **record._seen}
        assert sorted(f"{step} {number}" for step in done for number in range(1, done[step] + 1)) == sorted(steps)
