"""What an end-to-end test proves of a world: no row lost, none doubled, no request failed, versions in step."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b2m.versions import log
from tests.support.world import Done, World

TABLES = {
    "ipm": ("ipm_category", "ipm_data", "overview", "queue_applied"),
    "emoji": ("emoji_category", "emoji", "overview"),
}


@dataclass
class Polled:
    """What a client saw: how many answers came from where, and every request that failed."""

    sources: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@contextmanager
def polling(world: World, path: str, rate: float = 50.0) -> Iterator[Polled]:
    """Ask for a page ``rate`` times a second, each time over a new connection, while the block lasts."""
    seen = Polled()
    over = threading.Event()

    def poll() -> None:
        port = world.port
        due = time.monotonic()
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    seen.sources[answer.getheader("X-Served-From") or ""] += 1
                else:
                    seen.failures.append(f"{answer.status} {answer.reason}")
            except (OSError, http.client.HTTPException) as error:
                seen.failures.append(f"{type(error).__name__}: {error}")
            finally:
                connection.close()
            due = max(due + 1 / rate, time.monotonic() - 1)  # after a slow answer it catches up, but not for ever
            over.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def starts(world: World) -> int:
    """Return how often the production server was started: it says so in its log each time."""
    log_file = world.state / "server.log"
    return sum(" pid " in line for line in log_file.read_text().splitlines()) if log_file.exists() else 0


def rows(world: World, path: Path, db: str = "ipm") -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    return {table: sorted(world.query(path, f"SELECT * FROM {table}"), key=repr) for table in TABLES[db]}


def publish(world: World, host: str = "prod", db: str = "ipm", *, holds: int = 1) -> Done:
    """Sync, which must publish exactly one version, in exactly so many holds; the file then bears its number."""
    version = world.head(db) + 1
    done = world.sync(host, db)
    assert done.code == 0, done
    recap = done.recap
    assert recap["to_version"] == world.head(db) == version, recap
    assert recap["holds"] == holds, recap
    assert recap["tasks"]["failed"] == recap["tasks"]["undone"] == 0, recap
    # Rows younger than the run's last look are the next run's.
    assert recap["after"] in ("up_to_date", "ready_to_upload"), recap
    assert world.live(host, db).name == f"{db}-db-v{version}.db"
    assert world.live(host, db).exists()
    return done


def assert_in_step(world: World, *, db: str = "ipm", host: str = "prod") -> None:
    """Both sides have the same version, and every table the same rows; nothing is unsaved and nobody holds anything."""
    status = world.status(host, db)
    head = world.head(db)
    assert (status["state"], status["dirty"]) == ("up_to_date", False), status
    assert status["live"] == {"file": f"{db}-db-v{head}.db", "version": head}
    assert status["head"]["version"] == status["anchor"]["version"] == head
    assert status["head"]["commit"] == status["anchor"]["commit"]
    assert status["lease"] is None
    assert log.numbers(world.bucket, db) == list(range(1, head + 1))
    assert rows(world, world.live(host, db), db) == rows(world, world.restored(db), db)


def assert_all_there(world: World, path: Path, shadow: Path, *more: Iterable[str]) -> None:
    """Every acknowledged entry is in the file once, and the servers' counters say how many they inserted."""
    acknowledged = world.acknowledged(shadow)
    assert acknowledged
    assert len(acknowledged) == len(set(acknowledged)), "the writer notes each entry once"
    found = [str(row[0]) for row in world.query(path, "SELECT slug FROM ipm_data")]
    assert len(found) == len(set(found))
    assert set(acknowledged) - set(found) == set()
    for wanted in more:
        assert set(wanted) - set(found) == set()
    written = {slug for slug in found if slug.startswith("w-")}
    # An entry may be in although its answer never came: the writer was ended before it could ask again.
    assert len(written - set(acknowledged)) <= 1
    (inserts,) = world.query(path, "SELECT coalesce(sum(value), 0) FROM overview WHERE name = 'inserts'")[0]
    assert inserts == len(written), f"{inserts} counted, {len(written)} there"
    assert world.query(path, "PRAGMA integrity_check") == [("ok",)]
    assert world.query(path, "PRAGMA foreign_key_check") == []
