from __future__ import annotations

import os
from pathlib import Path

import pytest

from b2m.sqlite.live import LiveFile
from b2m.sqlite.signature import SETTLE_NS, Signature, signature
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_every_commit_changes_it_and_looking_does_not(make: Make, mode: str) -> None:
    path = make("a", f"PRAGMA journal_mode = {mode}", "CREATE TABLE t(a)")
    seen = [signature(path)]
    with Outsider(path) as server:
        for number in range(3):
            server(f"INSERT INTO t VALUES ({number})")
            with LiveFile(path, "ipm") as live, live.reading():
                pass
            found = signature(path)
            assert found not in seen
            assert signature(path) == found
            seen.append(found)


def test_a_looker_that_leaves_an_empty_wal_changes_nothing(make: Make, tmp_path: Path) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    before = signature(path)
    (tmp_path / "a.db-wal").touch()
    assert signature(path) == before


def test_a_wal_that_starts_over_in_the_same_size_shows_by_its_salts(make: Make, tmp_path: Path) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)")
    wal = tmp_path / "a.db-wal"
    with Outsider(path) as server:
        server("UPDATE t SET a = 2")
        before = signature(path)
        assert before is not None
        server("PRAGMA wal_checkpoint(RESTART)")
        server("UPDATE t SET a = 3")
        os.utime(wal, ns=(before.wal_mtime_ns, before.wal_mtime_ns))
        os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
        after = signature(path)
    assert after is not None
    assert (after.wal_size, after.wal_mtime_ns) == (before.wal_size, before.wal_mtime_ns)
    assert after != before


def test_a_fresh_write_is_not_settled(make: Make) -> None:
    found = signature(make("a", "CREATE TABLE t(a)"))
    assert found is not None
    assert not found.settled(found.mtime_ns)
    assert not found.settled(found.mtime_ns + SETTLE_NS - 1)
    assert not found.settled(found.mtime_ns - 5 * SETTLE_NS)
    assert found.settled(found.mtime_ns + SETTLE_NS)


def test_a_young_wal_is_not_settled(make: Make) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    os.utime(path, ns=(0, 0))
    with Outsider(path) as server:
        server("INSERT INTO t VALUES (1)")
        found = signature(path)
    assert found is not None
    assert not found.settled(found.wal_mtime_ns + SETTLE_NS // 2)


def test_it_survives_json_and_a_missing_file_has_none(make: Make, tmp_path: Path) -> None:
    path = make("a", "PRAGMA journal_mode = WAL", "CREATE TABLE t(a)")
    found = signature(path)
    assert found is not None
    assert Signature.from_json(found.to_json()) == found
    assert signature(tmp_path / "none.db") is None
