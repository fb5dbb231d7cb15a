"""The demo databases' tables. The example server (examples/server) reads and writes them and never creates any.

``overview`` and ``queue_applied`` have one row for each server that counts, so rows of two servers never conflict when
b2m merges them; totals are sums. ``queue_applied`` says up to where a server's queue is contained in the file.
"""

from __future__ import annotations

OVERVIEW = """
CREATE TABLE overview (
    server TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  INTEGER NOT NULL,
    PRIMARY KEY (server, name)
) WITHOUT ROWID;
"""

IPM = f"""
CREATE TABLE ipm_category (
    hash INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE ipm_data (
    slug_hash     INTEGER PRIMARY KEY,
    slug          TEXT NOT NULL UNIQUE,
    category_hash INTEGER NOT NULL REFERENCES ipm_category (hash),
    name          TEXT NOT NULL,
    version       TEXT,
    summary       TEXT NOT NULL,
    keywords      TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(keywords)),
    license       TEXT,
    readme        TEXT NOT NULL,
    updated_at    TEXT NOT NULL
);
CREATE INDEX ipm_data_updated ON ipm_data (updated_at DESC, slug);
CREATE INDEX ipm_data_category ON ipm_data (category_hash);
{OVERVIEW}
CREATE TABLE queue_applied (
    server  TEXT PRIMARY KEY NOT NULL,
    batch   TEXT NOT NULL,
    records INTEGER NOT NULL
) WITHOUT ROWID;
"""

EMOJI = f"""
CREATE TABLE emoji_category (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE emoji (
    code        TEXT PRIMARY KEY NOT NULL,
    char        TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    category_id INTEGER NOT NULL REFERENCES emoji_category (id),
    keywords    TEXT NOT NULL CHECK (json_valid(keywords))
);
CREATE INDEX emoji_category_id ON emoji (category_id);
{OVERVIEW}
"""
