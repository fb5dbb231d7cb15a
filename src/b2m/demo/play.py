"""Plays a working day on the demo: production and two members change the same databases, and no row is lost.

Everything is real: the running server inserts entries that come in over HTTP, members edit files of their own, and each
sync is the one that ``b2m sync`` does. At the end the newest versions are fetched from the bucket and compared with
everything that was acknowledged.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from b2m import api, errors
from b2m.buckets import open_bucket
from b2m.demo import host
from b2m.demo.client import Busy, Client
from b2m.demo.entries import slug_hash
from b2m.events import Events
from b2m.opening import place_of
from b2m.project import Project, Target
from b2m.report import version
from b2m.versions import log, pack

SERVER, ANN, BEN = "demo", "ann", "ben"
ROCKET, SNAKE, MANGO = "1F680", "1F40D", "1F96D"
BULK = 500
RESET = "b2m demo --reset"

INSERT = """
INSERT INTO ipm_data(slug_hash, slug, category_hash, name, summary, readme, updated_at)
SELECT value ->> 0, value ->> 1, (SELECT min(hash) FROM ipm_category), value ->> 1, '', '',
       strftime('%Y-%m-%dT%H:%M:%fZ')
FROM json_each(?)
"""
ADD_KEYWORD = "UPDATE emoji SET keywords = json_insert(keywords, '$[#]', ?) WHERE code = ?"
INSERTS_COUNTED = "SELECT coalesce(sum(value), 0) FROM overview WHERE name = 'inserts'"


def scenarios(project: Project) -> None:
    """Play the four scenarios and prove the result; may be repeated, the numbers then go on from where they are."""
    demo = _Demo(project)
    demo.server_without_conflict()
    demo.server_with_conflict()
    demo.member_without_conflict()
    demo.members_with_conflict()
    demo.prove()


class _Demo:
    """One telling: the demo's hosts, and what was changed so far."""

    def __init__(self, project: Project) -> None:
        """Make the demo if need be, and bring everybody to the newest version."""
        self.project = project
        self.id = secrets.token_hex(3)  # tells what this telling inserts from what earlier ones did
        self.keywords: dict[str, str] = {}
        root = host.demo_root(project)
        for db in ("ipm", "emoji"):
            for name in (SERVER, ANN, BEN):
                try:
                    self.sync(db, name)
                except errors.B2mError:
                    say(f"{db} on {name} cannot be brought up to date, see below; to start anew: {RESET}")
                    raise
        port = host.port(root)
        if port is None:
            raise errors.TaskFailed(what=f"the demo's server does not run; to start anew: {RESET}")
        self.client = Client(port, f"demo-{self.id}-")
        with self.newest("ipm") as (_, connection):
            self.counted = number(connection, INSERTS_COUNTED)
        say(f"A bucket in {root / 'bucket'}, a web server on http://127.0.0.1:{port}/ipm (host {SERVER}), and two")
        say(f"members who edit files of their own (hosts {ANN} and {BEN}). * marks rows that the bucket lacks.")

    # -- the story -----------------------------------------------------------------------------------------------

    def server_without_conflict(self) -> None:
        say("\nScenario 1: the server has new rows, the bucket is as it was")
        self.show("2 PM", "ipm", SERVER)
        self.client.insert(3)
        self.show("3 PM, three entries came in through the web server", "ipm", SERVER)
        self.sync_and_show("6 PM", "ipm", SERVER)

    def server_with_conflict(self) -> None:
        say("\nScenario 2: the server has new rows, and somebody else published a version")
        self.show("2 PM", "ipm", SERVER)
        self.client.insert(3)
        self.show("3 PM, three entries came in through the web server", "ipm", SERVER)
        slugs = [f"bulk-{self.id}-{index}" for index in range(BULK)]
        self.edit("ipm", ANN, INSERT, json.dumps([[slug_hash(slug), slug] for slug in slugs]))
        self.sync("ipm", ANN, Events(), "bulk insert")
        self.show(f"4 PM, {ANN} inserted {BULK} entries in her file and published it", "ipm", SERVER)
        with Busy(self.client) as busy:
            self.sync_and_show("6 PM, while clients insert and read", "ipm", SERVER, events=Events(busy))
        failed = self.client.failed
        say(f"    {busy.requests} requests came in until the server had the new file, {len(failed)} failed")
        for what in failed[:3]:
            say(f"      {what}")

    def member_without_conflict(self) -> None:
        say("\nScenario 3: a member has new rows, the bucket is as it was")
        self.show("2 PM", "emoji", ANN)
        self.add_keyword(ANN, ROCKET)
        self.show(f"2:10 PM, {ANN} changed an emoji", "emoji", ANN)
        self.sync_and_show("2:11 PM", "emoji", ANN)

    def members_with_conflict(self) -> None:
        say("\nScenario 4: two members have new rows, and one of them publishes first")
        self.sync("emoji", BEN)
        self.show("2 PM", "emoji", ANN, BEN)
        self.add_keyword(ANN, SNAKE)
        self.add_keyword(BEN, MANGO)
        self.show("2:10 PM, both changed an emoji", "emoji", ANN, BEN)
        self.sync_and_show(f"2:11 PM, {BEN} is first", "emoji", BEN, shown=(ANN, BEN))
        self.sync_and_show(f"2:12 PM, {ANN} has an outdated file", "emoji", ANN, shown=(ANN, BEN))

    def prove(self) -> None:
        """Find everything that was acknowledged in the newest versions; VerifyFailed if anything is not there."""
        say("\nProof: the newest versions, fetched from the bucket")
        wanted = self.client.acknowledged
        with self.newest("ipm") as (ipm, connection):
            slugs = "SELECT count(*) FROM ipm_data WHERE slug IN (SELECT value FROM json_each(?))"
            there = number(connection, slugs, json.dumps(wanted))
            bulk = number(connection, "SELECT count(*) FROM ipm_data WHERE slug LIKE ?", f"bulk-{self.id}-%")
            counted = number(connection, INSERTS_COUNTED) - self.counted
        with self.newest("emoji") as (emoji, connection):
            has = "SELECT count(*) FROM emoji, json_each(keywords) WHERE code = ? AND value = ?"
            words = sum(number(connection, has, *pair) for pair in self.keywords.items())
        say(f"  ipm v{ipm} has {there} of the {len(wanted)} entries that the server acknowledged; it counted {counted}")
        say(f"  ipm v{ipm} has {bulk} of {ANN}'s {BULK} entries")
        say(f"  emoji v{emoji} has {words} of the {len(self.keywords)} changes of {ANN} and {BEN}")
        if (there, bulk, counted, words) != (len(wanted), BULK, len(wanted), len(self.keywords)):
            raise errors.VerifyFailed(db="ipm, emoji", file="the newest version", what="rows are missing or doubled")
        say(f"No row is missing, none was applied twice. To remove the demo: {RESET}")

    # -- what happens --------------------------------------------------------------------------------------------

    def target(self, db: str, name: str) -> Target:
        return api.targets(self.project, [db], name)[0]

    def sync(self, db: str, name: str, events: Events | None = None, message: str = "") -> str:
        return api.sync(self.target(db, name), events or Events(), message=message).line()

    def sync_and_show(
        self, when: str, db: str, name: str, *, shown: tuple[str, ...] = (), events: Events | None = None
    ) -> None:
        recap = self.sync(db, name, events)
        self.show(f"{when}: b2m sync --db {db} --host {name}", db, *(shown or (name,)))
        say(f"    {recap}")

    def add_keyword(self, name: str, code: str) -> None:
        self.keywords[code] = f"{name}-{self.id}"
        self.edit("emoji", name, ADD_KEYWORD, self.keywords[code], code)

    def edit(self, db: str, name: str, sql: str, *values: str) -> None:
        """Change a member's file, as any program of hers would."""
        path = place_of(self.target(db, name)).live()
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with connection:
                connection.execute(sql, values)
        finally:
            connection.close()

    @contextmanager
    def newest(self, db: str) -> Iterator[tuple[int, apsw.Connection]]:
        """Fetch the newest version from the bucket; yields its number and a connection to it."""
        bucket = open_bucket(self.target(db, SERVER).bucket)
        commit = log.head(bucket, db)
        assert commit is not None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "newest.db"
            pack.fetch(bucket, commit, path)
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                yield commit.number, connection
            finally:
                connection.close()

    def show(self, when: str, db: str, *names: str) -> None:
        """Print which version is where, and what is new there."""
        say(f"  {when}")
        say("    location  version  new data     state")
        looks = [(name, *api.status(self.target(db, name), Events())) for name in names]
        say(f"    bucket    {version(looks[0][1].head.number if looks[0][1].head else None)}")
        for name, facts, verdict in looks:
            live = facts.live
            mark = version(facts.anchor.number if facts.anchor else None) + ("*" if live.dirty else "")
            rows = f"+{live.inserted} ~{live.updated} -{live.deleted}" if live.dirty else "no"
            say(f"    {name:9} {mark:8} {rows:12} {verdict.state}")


def number(connection: apsw.Connection, sql: str, *values: str) -> int:
    return int(str(next(iter(connection.execute(sql, values)))[0]))


def say(text: str) -> None:
    print(text, flush=True)
