"""A podcast's site: ``/``, ``/healthz`` and ``POST /review?slug=..&stars=..&body=..``.

``server.py seed`` makes a first database, ``server.py PORT`` serves it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import tomllib
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

DBS = Path(__file__).resolve().parent / "site" / "dbs"
PID = DBS.parent / "server.pid"
LOCK = threading.Lock()
SEED = """PRAGMA journal_mode=WAL;
CREATE TABLE episodes(id INTEGER PRIMARY KEY, slug TEXT UNIQUE, title TEXT, notes TEXT, updated_at TEXT);
CREATE TABLE reviews(id INTEGER PRIMARY KEY, episode_id REFERENCES episodes, stars, body, created_at);
INSERT INTO episodes VALUES (1,'pilot','Pilot','','2026-01-01'), (2,'bees','Bees','','2026-01-02');
INSERT INTO reviews VALUES (1,1,5,'nice','2026-01-03');"""
EPISODES = """SELECT slug, title, notes, count(r.id), avg(stars) FROM episodes e
LEFT JOIN reviews r ON r.episode_id = e.id GROUP BY e.id"""
REVIEW = "INSERT INTO reviews (episode_id, stars, body, created_at) VALUES (?, ?, ?, ?)"


def connect() -> sqlite3.Connection:
    """Open what db.toml names now; never make a new file."""
    name = tomllib.loads((DBS / "db.toml").read_text())["db"]["podcastdb"]
    db = sqlite3.connect(f"{(DBS / name).as_uri()}?mode=rw", uri=True, check_same_thread=False)
    db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
    return db


class Handler(BaseHTTPRequestHandler):
    """Answers in JSON, from the one connection."""

    db: sqlite3.Connection

    def answer(self, code: int, value: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode() + b"\n")

    def do_GET(self) -> None:
        if self.path not in ("/", "/healthz"):
            self.answer(404, "not found")
            return
        with LOCK:  # /healthz reads the database too: it must fail if the file is wrong
            rows = self.db.execute(EPISODES).fetchall()
        self.answer(200, {"episodes": len(rows)} if self.path == "/healthz" else rows)

    def do_POST(self) -> None:
        given = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        with LOCK, self.db:
            episode = self.db.execute("SELECT id FROM episodes WHERE slug = ?", (given.get("slug"),)).fetchone()
            if episode:
                now = datetime.now(UTC).isoformat()
                self.db.execute(REVIEW, (episode[0], int(given.get("stars", 5)), given.get("body"), now))
        self.answer(201, "thanks") if episode else self.answer(404, "no such episode")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def stop() -> None:
    """Close the database between two requests, and end; stop.sh waits for the pid file to go."""
    with LOCK:
        Handler.db.close()
        PID.unlink(missing_ok=True)
        os._exit(0)


def seed() -> None:
    """Make version 3 of a database, as if it had a history."""
    DBS.mkdir(parents=True)
    sqlite3.connect(DBS / "podcast-db-v3.db").executescript(SEED).connection.close()
    (DBS / "db.toml").write_text('[db]\npodcastdb = "podcast-db-v3.db"\n')


def serve(port: int) -> None:
    """Serve until SIGTERM."""
    Handler.db = connect()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop).start())
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    seed() if sys.argv[1] == "seed" else serve(int(sys.argv[1]))
