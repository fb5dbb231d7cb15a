"""Leases between real processes: races, holders that are killed, holders that are stopped."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets import Bucket, open_bucket
from b2m.buckets.lease import Lease, acquire, look
from b2m.errors import LeaseLost, Locked
from tests.buckets.backends import Backend
from tests.buckets.conftest import Config
from tests.support.processes import running, together
from tests.support.settings import trials

RACERS = 8


def _take(bucket: Bucket, work: str, seen: Path, *, ttl: float = 60.0, wait: float = 0.0) -> Lease:
    return acquire(
        bucket, "ipm", owner=f"ann@{work}", host="h", work=work, reason="sync", ttl=ttl, wait=wait, seen=seen / work
    )


def _race(index: int, barrier: Barrier, config: Config, folder: Path, rounds: int) -> list[int]:
    """Return, per round, the epoch of the lease that this process got, 0 for none."""
    bucket = open_bucket(config)
    epochs = []
    for _ in range(rounds):
        barrier.wait(60)
        try:
            lease = _take(bucket, f"racer-{index}", folder)
        except Locked:
            lease = None
        barrier.wait(60)
        if lease is not None:
            lease.ensure()
            lease.release()
        epochs.append(lease.epoch if lease else 0)
    return epochs


def test_in_every_round_exactly_one_of_eight_processes_gets_the_lease(
    backend: Backend, config: Config, tmp_path: Path
) -> None:
    rounds = max(4, trials(ci=20, full=50) // backend.pace)
    epochs = together(_race, RACERS, config, tmp_path, rounds)
    winners = [[racer[number] for racer in epochs if racer[number]] for number in range(rounds)]
    assert winners == [[number] for number in range(1, rounds + 1)]


def _count(index: int, barrier: Barrier, config: Config, folder: Path, times: int) -> list[int]:
    """Add one to a number in a file, so that two at the same time would lose a count."""
    bucket = open_bucket(config)
    number = folder / "number"
    epochs = []
    barrier.wait(60)
    for _ in range(times):
        with _take(bucket, f"counter-{index}", folder, wait=120.0) as lease:
            before = int(number.read_text() or 0)
            time.sleep(0.002)
            number.write_text(str(before + 1))
            epochs.append(lease.epoch)
    return epochs


def test_no_two_processes_are_inside_at_the_same_time(backend: Backend, config: Config, tmp_path: Path) -> None:
    times = max(2, trials(ci=5, full=50) // backend.pace)
    (tmp_path / "number").write_text("")
    epochs = together(_count, 4, config, tmp_path, times)
    assert (tmp_path / "number").read_text() == str(4 * times)
    assert all(own == sorted(own) for own in epochs)
    assert sorted(epoch for own in epochs for epoch in own) == list(range(1, 4 * times + 1))


def _hold(connection: Any, config: Config, folder: Path, ttl: float) -> None:
    """Take the lease as "theirs", say so, and answer each question with what ``ensure`` says."""
    lease = _take(open_bucket(config), "theirs", folder, ttl=ttl)
    connection.send(lease.epoch)
    while connection.recv():
        try:
            lease.ensure()
            connection.send("held")
        except LeaseLost as error:
            connection.send(str(error))


def test_a_killed_run_s_own_work_folder_takes_over_at_once(bucket: Bucket, config: Config, tmp_path: Path) -> None:
    with running(_hold, config, tmp_path, 60.0) as (process, connection):
        assert connection.recv() == 1
        process.kill()
        process.join()
    began = time.monotonic()
    with _take(bucket, "theirs", tmp_path) as lease:
        assert lease.epoch == 2
    assert time.monotonic() - began < 5


def test_a_killed_run_s_lease_goes_to_another_after_its_ttl(bucket: Bucket, config: Config, tmp_path: Path) -> None:
    with running(_hold, config, tmp_path, 1.0) as (process, connection):
        assert connection.recv() == 1
        process.kill()
        process.join()
    began = time.monotonic()
    with pytest.raises(Locked):
        _take(bucket, "ours", tmp_path)
    with _take(bucket, "ours", tmp_path, wait=20.0) as lease:
        assert lease.epoch == 2
    assert 1.0 < time.monotonic() - began < 10


def test_a_living_run_s_lease_outlasts_its_ttl(
    backend: Backend, bucket: Bucket, config: Config, tmp_path: Path
) -> None:
    ttl = 1.5 if backend.pace == 1 else 4.5
    with running(_hold, config, tmp_path, ttl) as (_, connection):
        assert connection.recv() == 1
        with pytest.raises(Locked):
            _take(bucket, "ours", tmp_path, wait=3.4 * ttl)
        connection.send(True)
        assert connection.recv() == "held"
    seen = look(bucket, "ipm")
    assert seen is not None
    assert seen.renewals >= 3


@pytest.mark.parametrize("taken_meanwhile", [False, True])
def test_a_run_that_was_stopped_for_long_does_not_go_on(
    bucket: Bucket, config: Config, tmp_path: Path, taken_meanwhile: bool
) -> None:
    with running(_hold, config, tmp_path, 1.0) as (process, connection):
        assert connection.recv() == 1
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        if taken_meanwhile:
            with _take(bucket, "ours", tmp_path, wait=20.0) as lease:
                assert lease.epoch == 2
        else:
            time.sleep(1.2)
        os.kill(process.pid, signal.SIGCONT)
        # Its thread gets the chance to renew first, which must not help.
        time.sleep(0.5)
        connection.send(True)
        answer = connection.recv()
    assert "the lease on ipm was lost (" in answer
    assert ("epoch 2 came after our 1" in answer) or "not renewed for" in answer
