from __future__ import annotations

from pathlib import Path

import pytest

from b2m.errors import Conflict
from b2m.sqlite.connect import set_tick
from b2m.sqlite.diff import Counts, compare
from b2m.sqlite.live import LiveFile
from b2m.sqlite.merge import Rule, Rules, replay
from b2m.sqlite.snapshot import snapshot
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import Outsider, query
from tests.sqlite.three import T


class TestLive:
    @pytest.fixture(params=["wal", "delete"])
    def path(self, request: pytest.FixtureRequest, make: Make) -> Path:
        return make("live", f"PRAGMA journal_mode = {request.param}", *T)

    def test_catching_up_moves_the_snapshot_on(self, path: Path, make: Make) -> None:
        with LiveFile(path, "ipm") as live, Outsider(path) as server:
            ours = snapshot(live, path.parent / "ours.db").path
            candidate = make("candidate", "UPDATE t SET b = 'theirs'", copy=ours)
            for number in range(3):
                server(f"UPDATE t SET a = 'late {number}' WHERE id = 1")
                server(f"INSERT INTO t VALUES ({10 + number}, 1, 1)")
                done = replay("ipm", ours, live, candidate, Rules(), forward=ours)
                assert done.counts == {"t": Counts(inserted=1, updated=1)}
                assert done.data_version == live.version()
                assert not compare(ours, live).dirty
            nothing = replay("ipm", ours, live, candidate, Rules(), forward=ours)
            assert (nothing.counts, nothing.data_version) == ({}, live.version())
        assert query(candidate, "SELECT a, b FROM t WHERE id = 1") == [("late 2", "theirs")]
        assert query(candidate, "SELECT count(*) FROM t") == [(5,)]
        assert not [each for each in path.parent.iterdir() if each.name.endswith(".changes")]

    def test_the_counter_moves_on_too(self, make: Make) -> None:
        path = make("live", "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO t VALUES (5)")
        with LiveFile(path, "ipm") as live, Outsider(path) as server:
            ours = snapshot(live, path.parent / "ours.db").path
            candidate = make("candidate", copy=ours)
            server("UPDATE sqlite_sequence SET seq = 2")
            replay("ipm", ours, live, candidate, Rules(), forward=ours)
            assert not compare(ours, live).dirty
        assert query(candidate, "SELECT seq FROM sqlite_sequence") == [(5,)]

    @pytest.mark.parametrize("counter", ["100.0", "'100'"])
    def test_a_counter_that_is_no_integer_is_carried_as_the_one_that_it_stands_for(
        self, make: Make, counter: str
    ) -> None:
        path = make("live", "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO t VALUES (5)")
        with LiveFile(path, "ipm") as live, Outsider(path) as server:
            ours = snapshot(live, path.parent / "ours.db").path
            candidate = make("candidate", copy=ours)
            server(f"UPDATE sqlite_sequence SET seq = {counter}")
            replay("ipm", ours, live, candidate, Rules(), forward=ours)
            assert not compare(ours, live).dirty
        assert query(candidate, "SELECT seq FROM sqlite_sequence") == [(100,)]

    def test_a_refusal_leaves_live_free_and_the_next_try_works(self, path: Path, make: Make) -> None:
        with LiveFile(path, "ipm") as live, Outsider(path) as server:
            ours = snapshot(live, path.parent / "ours.db").path
            candidate = make("candidate", "UPDATE t SET a = 'theirs'", copy=ours)
            server("UPDATE t SET a = 'ours'")
            with pytest.raises(Conflict):
                replay("ipm", ours, live, candidate, Rules(), forward=ours)
            server("BEGIN EXCLUSIVE")
            server("COMMIT")
            assert query(ours, "SELECT a FROM t WHERE id = 1") == [("a",)]
            replay("ipm", ours, live, candidate, Rules(Rule("ours")), forward=ours)
        assert query(candidate, "SELECT a FROM t WHERE id = 1") == [("ours",)]

    def test_stopped_at_any_moment_the_candidate_is_as_it_was(self, path: Path, make: Make) -> None:
        class Stop(BaseException):
            pass

        fill = "WITH RECURSIVE r(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM r WHERE i < 30000) SELECT i, i, i FROM r"
        with LiveFile(path, "ipm") as live, Outsider(path) as server:
            ours = snapshot(live, path.parent / "ours.db").path
            candidate = make("candidate", copy=ours)
            before = candidate.read_bytes()
            server(f"INSERT INTO t {fill}")
            stopped = 0
            for after in range(0, 200, 7):
                left = iter(range(after))

                def stop(left: object = left) -> None:
                    if next(left, None) is None:  # type: ignore[call-overload]
                        raise Stop

                set_tick(stop)
                try:
                    replay("ipm", ours, live, candidate, Rules())
                except Stop:
                    stopped += 1
                    assert candidate.read_bytes() == before
                    assert not live.conn.in_transaction
                else:
                    break
                finally:
                    set_tick(None)
            assert stopped > 3
            replay("ipm", ours, live, candidate, Rules(), forward=ours)
            assert not compare(candidate, live).dirty

    def test_a_file_that_others_use_is_changed_in_one_commit(self, path: Path, make: Make) -> None:
        base = make("base", *T)
        ours = make("ours", "UPDATE t SET a = 'ours'", copy=base)
        with Outsider(path) as server:
            mode = server("PRAGMA journal_mode")
            done = replay("ipm", base, ours, path, Rules(), shared=True)
            assert done.counts == {"t": Counts(updated=2)}
            assert server("SELECT DISTINCT a FROM t") == [["ours"]]
            assert server("PRAGMA journal_mode") == mode
