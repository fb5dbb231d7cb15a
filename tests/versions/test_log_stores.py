"""The history in real stores: what test_log.py shows of a folder holds where requests are answered over a network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from b2m.buckets import Bucket, open_bucket
from b2m.buckets.marker import init_bucket
from b2m.versions import log, pack
from tests.buckets.conftest import Config
from tests.buckets.s3_backends import S3_BACKENDS
from tests.support import s3_server
from tests.support.processes import together
from tests.support.proxy import Fault, proxied
from tests.support.settings import trials
from tests.versions.conftest import make_commit
from tests.versions.test_log import _publish_next

MB = 1 << 20


@pytest.fixture(params=S3_BACKENDS, ids=lambda backend: backend.name)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    made: Config = request.param.make(tmp_path)
    return made


@pytest.fixture
def bucket(config: Config) -> Bucket:
    found = open_bucket(config)
    init_bucket(found)
    return found


def test_what_one_publishes_another_reads(bucket: Bucket, config: Config) -> None:
    first = make_commit()
    log.publish(bucket, first)
    other = open_bucket(config)
    assert log.head(other, "ipm") == first
    second = make_commit(first)
    log.publish(other, second)
    log.publish(other, second)
    assert log.history(bucket, "ipm") == [second, first]
    assert log.is_ancestor(bucket, "ipm", 1, first.token, second) == "ok"


def test_of_eight_processes_without_a_lease_one_publishes_each_version(bucket: Bucket, config: Config) -> None:
    rounds = trials(ci=3, full=25)
    wins = together(_publish_next, 8, config, rounds)
    assert [sum(racer[number] for racer in wins) for number in range(rounds)] == [1] * rounds
    history = log.history(bucket, "ipm")
    assert [commit.number for commit in history] == list(range(rounds, 0, -1))
    assert log.is_ancestor(bucket, "ipm", 1, history[-1].token, history[0]) == "ok"


def test_a_pack_goes_up_and_comes_down_on_a_bad_line(tmp_path: Path) -> None:
    source = tmp_path / "a.db"
    source.write_bytes(os.urandom(24 * MB))  # does not compress, so that it goes up in parts
    with proxied(s3_server.server().host, s3_server.server().port) as proxy:
        bucket = open_bucket(s3_server.server().config(s3_server.server().new_bucket(), endpoint=proxy.endpoint))
        proxy.faults = [
            Fault(503, times=2, to=lambda request: "partNumber=2" in request.path),
            Fault("reset", to=lambda request: "partNumber=1" in request.path),
            Fault("lost", to=lambda request: request.method == "POST" and "uploadId" in request.path),
            Fault("cut", times=2, to=lambda request: request.method == "GET" and "full" in request.path),
        ]
        info = pack.upload_pack(bucket, "ipm", 1, source)
        pack.fetch(bucket, make_commit(blake3=info.blake3, size=info.size), tmp_path / "b.db")
        assert proxy.done == {503: 2, "reset": 1, "lost": 1, "cut": 2}
        assert bucket.list("") == [info.name]
    assert (tmp_path / "b.db").read_bytes() == source.read_bytes()
