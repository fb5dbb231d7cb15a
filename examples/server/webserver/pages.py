"""The HTML pages of each database. A page's key is what follows the section in the address; the list's key is empty."""

from __future__ import annotations

import html
import json
import sqlite3
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

from .entries import Entry, stable_hash

LISTED = 100


@dataclass(frozen=True)
class Section:
    """How one database is shown."""

    name: str
    probe: str
    """A query that a healthy database answers."""
    newest: Callable[[sqlite3.Connection], list[str]]
    """The keys of the pages that people will ask for next."""
    render: Callable[[sqlite3.Connection, str], str | None]
    """The page of a key; None if there is no such page."""


def layout(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<nav><a href="/ipm">ipm</a> <a href="/emoji">emoji</a></nav><h1>{html.escape(title)}</h1>{body}</html>\n'
    )


def link(section: str, key: str, text: str) -> str:
    return f'<a href="/{section}/{urllib.parse.quote(key, safe="")}">{html.escape(text)}</a>'


def entry_page(entry: Entry) -> str:
    """The page of one ipm entry, from a row or from the queue."""
    facts = {"slug": entry.slug, "category": entry.category, "version": entry.version, "license": entry.license}
    rows = "".join(
        f"<dt>{name}</dt><dd>{html.escape(value if value is not None else 'unknown')}</dd>"
        for name, value in facts.items()
    )
    words = ", ".join(map(html.escape, entry.keywords))
    return layout(
        entry.name,
        f"<p>{html.escape(entry.summary)}</p><dl>{rows}</dl><p>{words}</p><pre>{html.escape(entry.readme)}</pre>",
    )


def _ipm_newest(conn: sqlite3.Connection) -> list[str]:
    rows = conn.execute("SELECT slug FROM ipm_data ORDER BY updated_at DESC, slug LIMIT ?", (LISTED,))
    return ["", *(slug for (slug,) in rows)]


def _ipm_page(conn: sqlite3.Connection, key: str) -> str | None:
    if key:
        row = conn.execute(
            "SELECT slug, d.name, c.name, version, summary, keywords, license, readme, updated_at"
            " FROM ipm_data AS d JOIN ipm_category AS c ON c.hash = d.category_hash WHERE slug_hash = ?",
            (stable_hash(key),),
        ).fetchone()
        if row is None:
            return None
        slug, name, category, version, summary, keywords, license_, readme, updated_at = row
        words = tuple(json.loads(keywords))
        return entry_page(Entry(slug, name, category, version, summary, words, license_, readme, updated_at))
    rows = conn.execute("SELECT slug, name FROM ipm_data ORDER BY updated_at DESC, slug LIMIT ?", (LISTED,))
    items = "".join(f"<li>{link('ipm', slug, name)}</li>" for slug, name in rows)
    (total,) = conn.execute("SELECT coalesce(sum(value), 0) FROM overview WHERE name = 'inserts'").fetchone()
    return layout("Installerpedia", f"<p>{total} entries came in through the API.</p><ul>{items}</ul>")


def _emoji_newest(conn: sqlite3.Connection) -> list[str]:
    return ["", *(code for (code,) in conn.execute("SELECT code FROM emoji ORDER BY code LIMIT ?", (LISTED,)))]


def _emoji_page(conn: sqlite3.Connection, key: str) -> str | None:
    if key:
        row = conn.execute(
            "SELECT e.char, e.name, c.name, e.keywords FROM emoji AS e JOIN emoji_category AS c ON c.id = e.category_id"
            " WHERE code = ?",
            (key.upper(),),
        ).fetchone()
        if row is None:
            return None
        char, name, category, keywords = row
        words = ", ".join(map(html.escape, json.loads(keywords)))
        return layout(f"{char} {name}", f"<p>{html.escape(category)}</p><p>{words}</p>")
    rows = conn.execute("SELECT code, char, name FROM emoji ORDER BY code LIMIT ?", (LISTED,))
    items = "".join(f"<li>{link('emoji', code, f'{char} {name}')}</li>" for code, char, name in rows)
    return layout("Emoji", f"<ul>{items}</ul>")


SECTIONS = {
    "ipm": Section("ipm", "SELECT slug_hash FROM ipm_data LIMIT 1", _ipm_newest, _ipm_page),
    "emoji": Section("emoji", "SELECT code FROM emoji LIMIT 1", _emoji_newest, _emoji_page),
}
