"""What a version's description says of a file besides its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import apsw

from b2m.sqlite.connect import open_static
from b2m.sqlite.schema import read_schema


@dataclass(frozen=True)
class Shape:
    """A file's pages, the hash of its schema, and the SQLite that read them; ``page_size`` in bytes."""

    page_size: int
    page_count: int
    schema_hash: str
    sqlite: str


def shape_of(path: Path, db: str) -> Shape:
    """Return the shape of a file that nobody writes. Raises Unreadable."""
    connection = open_static(path, db)
    try:
        return Shape(
            page_size=int(connection.pragma("page_size")),
            page_count=int(connection.pragma("page_count")),
            schema_hash=read_schema(connection).hash,
            sqlite=apsw.sqlite_lib_version(),
        )
    finally:
        connection.close()
