"""Three files with one origin: what every merge test starts from."""

from __future__ import annotations

from b2m.sqlite.merge import Replay, Rules, replay
from tests.sqlite.conftest import Make
from tests.sqlite.outsider import query

T = ("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)", "INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', 'd')")


class Three:
    """A base, what the server made of it, and what others made of it."""

    def __init__(self, make: Make, *start: str) -> None:
        self.make = make
        self.base = make("base", *start)

    def merge(self, ours: str, theirs: str = "SELECT 1", rules: Rules | None = None) -> Replay:
        self.ours = self.make("ours", *ours.split("; "), copy=self.base)
        self.head = self.make("head", *theirs.split("; "), copy=self.base)
        self.candidate = self.make("candidate", copy=self.head)
        return replay("ipm", self.base, self.ours, self.candidate, rules or Rules())

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return query(self.candidate, sql)

    def untouched(self) -> bool:
        beside = sorted(path.name for path in self.candidate.parent.iterdir())
        assert beside == ["base.db", "candidate.db", "head.db", "ours.db"]
        return self.candidate.read_bytes() == self.head.read_bytes()
