"""One database as the server offers it: connected or not, its pages are served and its inserts are taken."""

from __future__ import annotations

import sqlite3
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path

from . import entries
from .database import Database, Disconnected
from .entries import Entry
from .inbox import Inbox, Record
from .pages import Section, entry_page
from .recent import RecentPages
from .state import State


class BadConfiguration(Exception):
    """db.toml cannot be used; the message says why."""


@dataclass(frozen=True)
class Page:
    """What a GET is answered with; `text` is None if nobody can say now, or (from the database) if there is none."""

    text: str | None
    source: str


@dataclass(frozen=True)
class Health:
    """One database's part of the health report."""

    file: str | None
    connected: bool
    queued: int


def file_of(folder: Path, db: str) -> Path:
    """The file that db.toml names for the database, read anew each time: a new version has a new name."""
    toml = folder / "db.toml"
    try:
        name = tomllib.loads(toml.read_text())["db"][f"{db}db"]
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadConfiguration(f"{toml}: {error}") from None
    except (KeyError, TypeError):
        raise BadConfiguration(f"{toml}: [db] has no {db}db") from None
    return folder / str(name)


class Service:
    """Connecting and disconnecting exclude each other; requests go on during both.

    Order matters in two places. Disconnecting: writes go to the queue first, then the pages are frozen, then readers
    are turned away, so nothing acknowledged before is missing from the frozen pages. Connecting: the queue is applied
    and committed before anybody is let in, and forgotten after, so no request finds neither queue nor database.
    """

    def __init__(self, section: Section, folder: Path, state: State) -> None:
        self.section = section
        self.name = section.name
        self._folder = folder
        self._state = state
        self._server = state.server_id()
        self._database = Database(self.name)
        self._recent = RecentPages()
        self._inbox = Inbox(state.queue_path(self.name))
        self._queued_slugs = {entry.slug: entry for entry in map(_entry_of, self._inbox.records) if entry is not None}
        self._admin = threading.Lock()
        self._switch = threading.Lock()
        """Held while the queue grows and while it is applied."""

    def connect(self) -> None:
        """Open the file that db.toml names now and apply the queue, once; nothing to do if it is open."""
        with self._admin:
            if not self._database.writable:
                self._database.stop_reading()  # only a disconnect that failed half-way leaves readers
                with self._switch:
                    self._database.open(file_of(self._folder, self.name), self._apply_queue)
                    if self._inbox.batch is not None:
                        self._inbox.discard()
                    self._queued_slugs = {}
                self._recent.thaw()
            self._state.mark_connected(self.name)

    def disconnect(self) -> None:
        """Let go of the file: when this returns, this process has neither it nor its sidecars open."""
        with self._admin:
            self._state.mark_disconnected(self.name)
            self._database.stop_writing()
            if self._database.path is not None:
                try:
                    with self._database.reading() as conn:
                        self._recent.freeze(self.section.newest(conn), lambda key: self.section.render(conn, key))
                except (sqlite3.Error, ValueError) as error:
                    # A damaged database is the one that must be let go: without its pages, then.
                    print(f"{self.name}: no recent pages: {error}", flush=True)
            self._database.stop_reading()

    def close(self) -> None:
        """Close the file for the end of the process; whether it is opened at the next start does not change."""
        with self._admin:
            self._database.stop_writing()
            self._database.stop_reading()

    def page(self, key: str) -> Page:
        """The page from the database; while that is away from the queue or the recent pages."""
        # Twice: it may have been connected just between the two looks, and the frozen pages dropped.
        for _ in range(2):
            try:
                with self._database.reading() as conn:
                    text = self.section.render(conn, key)
            except Disconnected:
                queued = self._queued_slugs.get(key)
                if queued is not None:
                    return Page(entry_page(queued), "queue")
                text = self._recent.get(key)
                if text is not None:
                    return Page(text, "recent")
            else:
                # While it is being let go the database is read still, and what comes in is queued already.
                queued = self._queued_slugs.get(key) if text is None else None
                if queued is not None:
                    return Page(entry_page(queued), "queue")
                if text is not None:
                    self._recent.asked(key)
                return Page(text, "database")
        return Page(None, "recent")

    def insert(self, entry: Entry) -> str:
        """Take an entry, durably: "created" or "exists" (in the database), or "queued"."""
        while True:
            try:
                with self._database.writing() as conn:
                    return "created" if entries.insert(conn, entry, self._server) else "exists"
            except Disconnected:
                if self._queue(entry):
                    return "queued"

    def hit(self) -> str:
        """Count a visit, durably: "created" or "queued"."""
        while True:
            try:
                with self._database.writing() as conn:
                    entries.count(conn, "hits", self._server)
                    return "created"
            except Disconnected:
                if self._queue(None):
                    return "queued"

    def health(self) -> Health:
        """Ask the database something, if it is connected; sqlite3.Error if it does not answer."""
        path = self._database.path
        try:
            with self._database.reading() as conn:
                conn.execute(self.section.probe).fetchone()
        except Disconnected:
            return Health(self._next_file(), False, len(self._inbox.records))
        return Health(path.name if path is not None else None, True, 0)

    def _next_file(self) -> str | None:
        """What the next connect would open; None while db.toml is not readable, which is no failure yet."""
        try:
            return file_of(self._folder, self.name).name
        except BadConfiguration:
            return None

    def _queue(self, entry: Entry | None) -> bool:
        """Queue an entry, or (None) a visit; False if the database is back, so that it must go there."""
        with self._switch:
            if self._database.writable:
                return False
            if entry is None:
                self._inbox.append({"hit": True})
            elif entry.slug not in self._queued_slugs:
                self._inbox.append({"insert": entries.to_record(entry)})
                self._queued_slugs[entry.slug] = entry
            return True

    def _apply_queue(self, conn: sqlite3.Connection) -> None:
        conn.execute(self.section.probe).fetchone()
        if self._inbox.batch is None:
            return
        batch, done = entries.applied(conn, self._server)
        records = self._inbox.records[done if batch == self._inbox.batch else 0 :]
        for record in records:
            entry = _entry_of(record)
            if entry is not None:
                entries.insert(conn, entry, self._server)
            else:
                entries.count(conn, "hits", self._server)
        entries.set_applied(conn, self._server, self._inbox.batch, len(self._inbox.records))


def _entry_of(record: Record) -> Entry | None:
    return entries.from_record(record["insert"]) if "insert" in record else None
