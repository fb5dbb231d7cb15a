"""An ipm entry, as a client posts it, as the queue keeps it, and as a row."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

MAX_SLUG = 200
TEXT_FIELDS = ("name", "category", "version", "summary", "license", "readme")


class BadEntry(ValueError):
    """The client's entry cannot be taken; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One installable thing. `license` and `version` may be unknown (None)."""

    slug: str
    name: str
    category: str
    version: str | None
    summary: str
    keywords: tuple[str, ...]
    license: str | None
    readme: str
    updated_at: str


def stable_hash(text: str) -> int:
    """The first 8 bytes of SHA-256, big endian, signed: the key of a slug or a category."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def now() -> str:
    """UTC with microseconds; sorts as text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(body: Any) -> Entry:
    """The entry in a client's JSON object; BadEntry for what could fail later, when the queue is applied."""
    if not isinstance(body, dict):
        raise BadEntry("an entry is a JSON object")
    unknown = sorted(set(body) - {"slug", "keywords", *TEXT_FIELDS})
    if unknown:
        raise BadEntry(f"unknown field {unknown[0]!r}")
    slug = body.get("slug")
    if not isinstance(slug, str) or not 0 < len(slug) <= MAX_SLUG:
        raise BadEntry(f"slug is a text of 1 to {MAX_SLUG} characters")
    for field in TEXT_FIELDS:
        if not isinstance(body.get(field, ""), str | None):
            raise BadEntry(f"{field} is a text")
    keywords = body.get("keywords", [])
    if not isinstance(keywords, list) or not all(isinstance(word, str) for word in keywords):
        raise BadEntry("keywords is a list of texts")
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadEntry("a text holds half a surrogate pair, which is no character") from None
    return Entry(
        slug=slug,
        name=body.get("name") or slug,
        category=body.get("category") or "other",
        version=body.get("version"),
        summary=body.get("summary") or "",
        keywords=tuple(keywords),
        license=body.get("license"),
        readme=body.get("readme") or "",
        updated_at=now(),
    )


def to_record(entry: Entry) -> dict[str, Any]:
    return asdict(entry)


def from_record(record: dict[str, Any]) -> Entry:
    return Entry(**{**record, "keywords": tuple(record["keywords"])})


def insert(conn: sqlite3.Connection, entry: Entry, server: str) -> bool:
    """Insert the entry and count it; False, and no change, if its slug exists. The transaction is the caller's."""
    slug_hash, category = stable_hash(entry.slug), stable_hash(entry.category)
    if conn.execute("SELECT 1 FROM ipm_data WHERE slug_hash = ? OR slug = ?", (slug_hash, entry.slug)).fetchone():
        return False
    conn.execute("INSERT OR IGNORE INTO ipm_category(hash, name) VALUES (?, ?)", (category, entry.category))
    conn.execute(
        "INSERT INTO ipm_data(slug_hash, slug, category_hash, name, version, summary, keywords, license, readme,"
        " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            slug_hash,
            entry.slug,
            category,
            entry.name,
            entry.version,
            entry.summary,
            json.dumps(entry.keywords, ensure_ascii=False),
            entry.license,
            entry.readme,
            entry.updated_at,
        ),
    )
    count(conn, "inserts", server)
    return True


def count(conn: sqlite3.Connection, name: str, server: str) -> None:
    """Add one to this server's own counter. The total is the sum over all servers: counters of two never conflict."""
    conn.execute(
        "INSERT INTO overview(server, name, value) VALUES (?, ?, 1)"
        " ON CONFLICT(server, name) DO UPDATE SET value = value + 1",
        (server, name),
    )


def applied(conn: sqlite3.Connection, server: str) -> tuple[str | None, int]:
    """The last batch of this server's queue that the database holds, and how many of its records."""
    row = conn.execute("SELECT batch, records FROM queue_applied WHERE server = ?", (server,)).fetchone()
    return (str(row[0]), int(row[1])) if row else (None, 0)


def set_applied(conn: sqlite3.Connection, server: str, batch: str, records: int) -> None:
    conn.execute(
        "INSERT INTO queue_applied(server, batch, records) VALUES (?, ?, ?)"
        " ON CONFLICT(server) DO UPDATE SET batch = excluded.batch, records = excluded.records",
        (server, batch, records),
    )
