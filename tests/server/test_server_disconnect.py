"""A database that is disconnected is closed, served all the same, and gets what was inserted meanwhile exactly once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.server.example_server import SCRIPT, Server, demo_server, path_of
from tests.support.settings import trials


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with demo_server(tmp_path) as server:
        server.run("start")
        yield server


def test_disconnect_closes_every_file_of_the_database_and_connect_opens_it_again(server: Server) -> None:
    assert server.post("before").status == 201
    assert {"ipm-db-v1.db", "ipm-db-v1.db-wal", "ipm-db-v1.db-shm"} <= server.open_files()
    server.run("--disconnect", "ipm")
    assert not [name for name in server.open_files() if name.startswith("ipm-")]
    assert sorted(path.name for path in server.folder.glob("ipm-*")) == ["ipm-db-v1.db"]
    assert "emoji-db-v1.db" in server.open_files()
    server.run("--connect", "ipm")
    assert "ipm-db-v1.db" in server.open_files()
    assert server.health() == {"file": "ipm-db-v1.db", "connected": True, "queued": 0}


def test_disconnect_waits_for_the_requests_inside_and_closes_all_readers(server: Server) -> None:
    failed: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            failed.extend(status for status in [server.get("/ipm").status] if status != 200)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(10):
            server.run("--disconnect", "ipm")
            assert not [name for name in server.open_files() if name.startswith("ipm-")]
            server.run("--connect", "ipm")
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failed == []


SLOW_READER = """
import sys, threading, time
from pathlib import Path
from webserver.database import Database, Disconnected

database = Database("ipm")
database.open(Path(sys.argv[1]), lambda conn: None)
inside = threading.Event()

def read():
    with database.reading() as conn:
        inside.set()
        time.sleep(0.3)
        conn.execute("SELECT count(*) FROM ipm_data").fetchone()
        print("read")

reader = threading.Thread(target=read)
reader.start()
inside.wait()
database.stop_writing()
database.stop_reading()
print("closed")
reader.join()
try:
    with database.reading():
        print("inside again")
except Disconnected:
    print("turned away")
"""


def test_a_statement_under_way_ends_before_the_files_are_closed(tmp_path: Path) -> None:
    with demo_server(tmp_path) as server:
        said = subprocess.run(
            [sys.executable, "-c", SLOW_READER, str(server.folder / "ipm-db-v1.db")],
            env={**os.environ, "PYTHONPATH": str(SCRIPT.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert said.stdout.split("\n") == ["read", "closed", "turned away", ""]


def test_while_disconnected_pages_come_from_the_recent_ones_and_inserts_are_queued(server: Server) -> None:
    assert server.get("/ipm/pip-apsw").source == "database"
    assert server.post("just-before").status == 201
    server.run("--disconnect", "ipm")
    assert (server.get("/ipm").status, server.get("/ipm").source) == (200, "recent")
    assert "just-before" in server.get("/ipm").text
    assert server.get("/ipm/just-before").source == "recent"
    assert server.get("/ipm/pip-apsw").source == "recent"
    assert server.get("/emoji/1F600").source == "database"
    unknown = server.get("/ipm/never-heard-of")
    assert unknown.status == 503

    awkward = 'what\'s? "new"\n😀'
    assert server.post(awkward, summary="it's ?").status == 202
    assert server.post(awkward, summary="again").status == 202
    queued = server.get(path_of(awkward))
    assert (queued.status, queued.source) == (200, "queue")
    assert "it&#x27;s ?" in queued.text
    assert server.health() == {"file": "ipm-db-v1.db", "connected": False, "queued": 1}

    server.run("--connect", "ipm")
    assert server.get(path_of(awkward)).source == "database"
    assert server.rows("SELECT summary FROM ipm_data WHERE slug = ?", awkward) == [("it's ?",)]
    assert server.get("/ipm/never-heard-of").status == 404


def test_health_of_a_database_fails_while_it_is_disconnected_and_health_of_the_server_does_not(server: Server) -> None:
    server.run("--disconnect", "ipm")
    server.run("health")
    server.run("health", "--db", "emoji")
    server.run("health", "--db", "ipm", code=1)
    server.run("--connect", "ipm")
    server.run("health", "--db", "ipm")


def test_both_commands_may_be_repeated_and_take_several_databases(server: Server) -> None:
    for _ in range(2):
        server.run("--disconnect", "ipm", "emoji")
        assert server.open_files() == set()
    for _ in range(2):
        server.run("--connect", "ipm", "emoji")
    assert {"ipm-db-v1.db", "emoji-db-v1.db"} <= server.open_files()


def test_without_a_server_disconnect_succeeds_and_the_next_server_obeys(server: Server) -> None:
    server.run("stop")
    server.run("--disconnect", "ipm")
    server.run("start")
    assert not [name for name in server.open_files() if name.startswith("ipm-")]
    assert server.post("queued").status == 202
    server.run("stop")
    server.run("--connect", "ipm")
    server.run("start")
    assert server.get("/ipm/queued").source == "database"


def test_a_crash_while_disconnected_neither_opens_the_file_nor_loses_the_queue(server: Server) -> None:
    server.run("--disconnect", "ipm")
    assert server.post("one").status == 202
    assert server.hit().status == 202
    server.kill()
    server.run("start")
    assert server.open_files() & {"ipm-db-v1.db"} == set()
    assert server.get("/ipm/one").source == "queue"
    assert server.post("two").status == 202
    server.run("--connect", "ipm")
    assert server.counter("inserts") == 2
    assert server.counter("hits") == 1


def test_connect_opens_the_file_that_db_toml_names_now(server: Server) -> None:
    server.run("--disconnect", "ipm")
    assert server.post("queued").status == 202
    before = (server.folder / "ipm-db-v1.db").read_bytes()
    server.put_in_place("ipm-db-v2.db", team="from the team")
    server.run("--connect", "ipm")
    assert server.health()["file"] == "ipm-db-v2.db"
    assert server.get("/ipm").text.count("from the team") == 1
    assert server.rows("SELECT count(*) FROM ipm_data WHERE slug = 'queued'", file="ipm-db-v2.db") == [(1,)]
    assert (server.folder / "ipm-db-v1.db").read_bytes() == before
    assert "ipm-db-v1.db" not in server.open_files()


def test_the_queue_is_not_applied_twice_if_the_server_dies_between_commit_and_forgetting_it(server: Server) -> None:
    """That moment, made by hand: the database holds the batch, the queue file and the mark are still there."""
    server.run("--disconnect", "ipm")
    for _ in range(3):
        assert server.hit().status == 202
    queue = server.state / "ipm.queue"
    saved = queue.read_bytes()
    server.run("--connect", "ipm")
    server.kill()
    queue.write_bytes(saved)
    (server.state / "ipm.disconnected").touch()

    server.run("start")
    assert server.hit().status == 202  # goes behind the three that the database holds
    server.put_in_place("ipm-db-v2.db")
    server.run("--connect", "ipm")
    assert server.counter("hits", file="ipm-db-v2.db") == 4


def test_a_queue_goes_in_full_to_a_file_that_holds_nothing_of_it(server: Server) -> None:
    """As above, but the file put in place comes from before the batch: its rows are only in the queue."""
    server.run("--disconnect", "ipm")
    older = server.root / "older.db"
    shutil.copy(server.folder / "ipm-db-v1.db", older)
    assert server.hit().status == 202
    queue = server.state / "ipm.queue"
    saved = queue.read_bytes()
    server.run("--connect", "ipm")
    server.kill()
    queue.write_bytes(saved)
    (server.state / "ipm.disconnected").touch()
    for sidecar in server.folder.glob("ipm-db-v1.db-*"):
        sidecar.unlink()
    shutil.copy(older, server.folder / "ipm-db-v1.db")
    server.run("start")
    server.run("--connect", "ipm")
    assert server.counter("hits") == 1


def test_a_line_torn_by_a_crash_is_dropped_and_the_next_one_is_whole(server: Server) -> None:
    server.run("--disconnect", "ipm")
    assert server.post("whole").status == 202
    server.kill()
    with (server.state / "ipm.queue").open("ab") as queue:
        queue.write(b'{"insert":{"slug":"torn","na')
    server.run("start")
    assert server.post("after").status == 202
    server.run("--connect", "ipm")
    assert server.rows("SELECT slug FROM ipm_data WHERE slug IN ('whole', 'torn', 'after') ORDER BY slug") == [
        ("after",),
        ("whole",),
    ]


def test_connect_that_cannot_open_the_file_fails_and_keeps_the_queue(server: Server) -> None:
    server.run("--disconnect", "ipm")
    assert server.post("kept").status == 202
    toml = server.folder / "db.toml"
    good = toml.read_text()
    missing = "ipm-db-v9.db"
    toml.write_text(good.replace("ipm-db-v1.db", missing))
    failed = server.run("--connect", "ipm", code=1)
    assert failed.stderr == f"server: {missing}: unable to open database file\n"
    assert not (server.folder / missing).exists()
    toml.write_text("[db]\n")
    assert "has no ipmdb" in server.run("--connect", "ipm", code=1).stderr
    assert server.get("/ipm").source == "recent"
    toml.write_text(good)
    server.run("--connect", "ipm")
    assert server.get("/ipm/kept").source == "database"


def test_polling_sees_no_failed_request_while_the_database_goes_and_comes(server: Server) -> None:
    failed: list[str] = []
    sent: list[str] = []
    sources: set[str | None] = set()
    done = threading.Event()

    def poll() -> None:
        """50 requests a second, every fifth an insert, which is looked up right after."""
        slug = "poll-0"
        for number in range(1_000_000):
            if done.wait(0.02):
                return
            try:
                if number % 5 == 0:
                    slug = f"poll-{number}"
                    answer = server.post(slug)
                    sent.append(slug)
                else:
                    answer = server.get(["/ipm", f"/ipm/{slug}", "/emoji/1F600"][number % 3])
            except (OSError, HTTPException) as error:
                failed.append(repr(error))
            else:
                sources.add(answer.source)
                if answer.status >= 300:
                    failed.append(f"{number}: {answer}")

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        for _ in range(trials(ci=10, full=100)):
            server.run("--disconnect", "ipm")
            time.sleep(0.05)
            server.run("--connect", "ipm")
    finally:
        done.set()
        poller.join()
    assert failed == []
    assert {"recent", "database"} <= sources
    assert len(sent) > 10
    assert server.counter("inserts") == len(sent)


def test_kill_while_the_queue_is_being_applied_neither_loses_nor_doubles(server: Server) -> None:
    random_ = random.Random(7)
    taken = 0
    cut = 0
    for trial in range(trials(ci=10, full=200)):
        server.run("--disconnect", "ipm")
        for number in range(random_.randrange(1, 6)):
            assert server.hit().status == 202
            assert server.post(f"trial-{trial}-{number}").status == 202
            taken += 1
        connecting = threading.Thread(target=_ask_to_connect, args=(server,))
        connecting.start()
        time.sleep(random_.random() * 0.015)
        server.kill()
        connecting.join()
        cut += (server.state / "ipm.disconnected").exists()
        server.run("start")
        server.run("--connect", "ipm")
        assert server.counter("hits") == taken
        assert server.counter("inserts") == taken
        assert server.rows("SELECT count(*) FROM ipm_data WHERE slug LIKE 'trial-%'") == [(taken,)]
    assert cut > 0


def test_kill_while_inserts_arrive_loses_nothing_that_was_answered(server: Server) -> None:
    """Disconnected and connected in turn; one insert is under way at each kill, and it may or may not be there."""
    random_ = random.Random(8)
    answered: list[str] = []
    for trial in range(trials(ci=10, full=200)):
        server.run("--disconnect" if trial % 2 else "--connect", "ipm")
        pid = server.pid
        killer = threading.Timer(random_.random() * 0.15, os.kill, (pid, signal.SIGKILL))
        killer.start()
        for number in range(1_000):
            slug = f"kill-{trial}-{number}"
            try:
                assert server.post(slug).status in (201, 202)
            except (OSError, HTTPException):
                break
            answered.append(slug)
        killer.join()
        server.run("start")
    server.run("--connect", "ipm")
    there = [slug for (slug,) in server.rows("SELECT slug FROM ipm_data WHERE slug LIKE 'kill-%'")]
    assert set(answered) <= set(there)
    assert len(there) <= len(answered) + trials(ci=10, full=200)
    assert server.counter("inserts") == len(there)
    assert server.rows("PRAGMA integrity_check") == [("ok",)]


def test_only_the_holder_of_the_token_may_disconnect(server: Server) -> None:
    assert server.request("POST", "/admin/disconnect/ipm", {}).status == 403
    token = {"Authorization": f"Bearer {server.described()['token']}"}
    assert server.request("POST", "/admin/disconnect/ipn", {}, token).status == 404
    assert stat.filemode((server.state / "server.json").stat().st_mode) == "-rw-------"
    assert server.health()["connected"]


def _ask_to_connect(server: Server) -> None:
    with suppress(OSError, HTTPException):
        server.request("POST", "/admin/connect/ipm", {}, {"Authorization": f"Bearer {server.described()['token']}"})
