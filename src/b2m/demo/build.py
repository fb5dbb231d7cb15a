"""Creates the demo's production folder: two databases and the ``db.toml`` that names them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import apsw

from b2m.demo import schema
from b2m.demo.emoji import all_emoji
from b2m.demo.entries import all_entries, slug_hash

IPM_FILE = "ipm-db-v1.db"
EMOJI_FILE = "emoji-db-v1.db"
CREATED = "2026-02-17T00:00:00.000000Z"
"""Every row's time, so that the same installation gives the same bytes."""


def create_demo(root: Path) -> Path:
    """Make sure that ``<root>/prod/dbs`` exists and return it; an existing one is left as it is, whatever is in it.

    Built under another name and renamed when complete: an interrupted first use leaves no half-made demo, and of
    two at once both find the one that came first.
    """
    folder = root / "prod" / "dbs"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".dbs-", dir=folder.parent))
    try:
        building.chmod(0o755)
        _build_ipm(building / IPM_FILE)
        _build_emoji(building / EMOJI_FILE)
        (building / "db.toml").write_text(f'[db]\nipmdb = "{IPM_FILE}"\nemojidb = "{EMOJI_FILE}"\n')
        for path in [*building.iterdir(), building]:
            _fsync(path)
        try:
            building.rename(folder)
        except OSError:
            if not folder.exists():
                raise
        _fsync(folder.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _build_ipm(path: Path) -> None:
    entries = all_entries()
    categories = sorted({entry.category for entry in entries})
    rows = [
        (
            slug_hash(entry.slug),
            entry.slug,
            slug_hash(entry.category),
            entry.name,
            entry.version,
            entry.summary,
            json.dumps(entry.keywords, ensure_ascii=False),
            entry.license,
            entry.readme,
            CREATED,
        )
        for entry in entries
    ]
    conn = _create(path, schema.IPM)
    with conn:
        conn.executemany("INSERT INTO ipm_category VALUES (?, ?)", ((slug_hash(name), name) for name in categories))
        conn.executemany("INSERT INTO ipm_data VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        conn.execute("INSERT INTO overview VALUES ('demo', 'entries', ?)", (len(rows),))
    conn.close()


def _build_emoji(path: Path) -> None:
    emoji = all_emoji()
    numbers = {name: number for number, name in enumerate(sorted({one.category for one in emoji}), start=1)}
    rows = [
        (one.code, one.char, one.name, numbers[one.category], json.dumps(one.name.lower().replace(",", "").split()))
        for one in emoji
    ]
    conn = _create(path, schema.EMOJI)
    with conn:
        conn.executemany("INSERT INTO emoji_category VALUES (?, ?)", ((id_, name) for name, id_ in numbers.items()))
        conn.executemany("INSERT INTO emoji VALUES (?, ?, ?, ?, ?)", rows)
        conn.execute("INSERT INTO overview VALUES ('demo', 'emoji', ?)", (len(rows),))
    conn.close()


def _create(path: Path, tables: str) -> apsw.Connection:
    conn = apsw.Connection(str(path))
    conn.execute("PRAGMA journal_mode = WAL")  # as the server keeps it
    conn.execute("PRAGMA synchronous = OFF")  # the finished file is synced once
    conn.execute("PRAGMA foreign_keys = ON")
    with conn:
        conn.execute(tables)
    return conn


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
