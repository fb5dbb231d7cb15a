"""From changed pages to tables: which tables can differ at all between two files.

Pages are compared raw, and the changed ones are mapped to their b-tree by dbstat in both files. A table none of whose
pages changed has the same rows, because the walk from its root goes through equal pages only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from b2m.sqlite.connect import open_static, tick
from b2m.sqlite.header import SIZE, Header, parse
from b2m.sqlite.live import LiveFile

SCHEMA_TABLE = "sqlite_schema"
CHUNK = 256 << 10
# Header fields that say nothing about rows: journal version, change counter to schema cookie, version numbers.
_IGNORED = ((18, 20), (24, 44), (60, 64), (68, 72), (92, 100))

_HIDES_DBSTAT = "SELECT 1 FROM main.sqlite_schema WHERE name = 'dbstat' COLLATE NOCASE AND type IN ('table', 'view')"

ReadAt = Callable[[int, int], bytes]


def changed_tables(base: Path, new: Path) -> set[str] | None:
    """Name the tables (by their names in sqlite_schema, shadow tables too) that may differ between two static files.

    Empty: surely equal. "sqlite_schema" is named if the schema may differ. None: cannot say, compare all.
    """
    with _raw(base) as (old_header, read_old), _raw(new) as (new_header, read_new):
        pages = _changed_pages(old_header, new_header, read_old, read_new)
    if not pages:
        return None if pages is None else set()
    with _attached(base) as old, _attached(new) as new_conn:
        return _owners(old, new_conn, pages)


def changed_tables_live(base: Path, live: LiveFile) -> set[str] | None:
    """As changed_tables, for the live file; None also if the WAL holds something that is not in the main file."""
    with live.reading() as conn:
        if not live.in_main_file:
            return None
        head = live.read_main_file(0, SIZE)
        new_header = parse(head, int(conn.pragma("page_count")) * int(conn.pragma("page_size")))
        with _raw(base) as (old_header, read_old):
            pages = _changed_pages(old_header, new_header, read_old, live.read_main_file)
        if not pages:
            return None if pages is None else set()
        with _attached(base) as old:
            return _owners(old, conn, pages)


@contextmanager
def _raw(path: Path) -> Iterator[tuple[Header | None, ReadAt]]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield (
            parse(os.pread(fd, SIZE, 0), os.fstat(fd).st_size),
            lambda offset, amount: os.pread(fd, amount, offset),
        )
    finally:
        os.close(fd)


def _changed_pages(old: Header | None, new: Header | None, read_old: ReadAt, read_new: ReadAt) -> list[int] | None:
    if old is None or new is None or old.page_size != new.page_size or old.encoding != new.encoding:
        return None
    size, shared = old.page_size, min(old.page_count, new.page_count)
    changed: list[int] = []
    for offset in range(0, shared * size, CHUNK):
        amount = min(CHUNK, shared * size - offset)
        before, after = read_old(offset, amount), read_new(offset, amount)
        tick()
        if before == after:
            continue
        first = offset // size + 1
        changed += [
            first + index
            for index in range(amount // size)
            if before[index * size : (index + 1) * size] != after[index * size : (index + 1) * size]
        ]
    if changed and changed[0] == 1 and _masked(read_old(0, size)) == _masked(read_new(0, size)):
        changed.pop(0)
    return changed + list(range(shared + 1, max(old.page_count, new.page_count) + 1))


def _masked(page: bytes) -> bytes:
    data = bytearray(page)
    for start, end in _IGNORED:
        data[start:end] = bytes(end - start)
    return bytes(data)


@contextmanager
def _attached(path: Path) -> Iterator[apsw.Connection]:
    conn = open_static(path)
    try:
        yield conn
    finally:
        conn.close()


def _owners(old: apsw.Connection, new: apsw.Connection, pages: list[int]) -> set[str] | None:
    if any(conn.execute(_HIDES_DBSTAT).fetchone() for conn in (old, new)):
        return None
    wanted = set(pages)
    found = _owners_in(old, wanted) | _owners_in(new, wanted)
    if SCHEMA_TABLE in found:
        # Equal pages under another root are another table.
        before, after = _roots(old), _roots(new)
        found |= {table for name, (root, table) in after.items() if before.get(name, (root,))[0] != root}
        # The pages of a dropped one need not have changed.
        kept = {root for name, (root, _) in after.items() if name not in before}  # a new name for the same rows
        found |= {table for name, (root, table) in before.items() if name not in after and root not in kept}
    return found


def _owners_in(conn: apsw.Connection, pages: set[int]) -> set[str]:
    # A trigger may have the name of another table; it has no tree.
    trees = {name: table for name, (_, table) in _roots(conn).items()}
    names = {
        str(name)
        for name, page in conn.execute("SELECT name, pageno FROM dbstat('main') WHERE aggregate = FALSE")
        if page in pages
    }
    # Pages that belong to no tree (free list, pointer map) hold no row.
    return {trees.get(name, SCHEMA_TABLE if name == SCHEMA_TABLE else name) for name in names}


def _roots(conn: apsw.Connection) -> dict[str, tuple[int, str]]:
    rows = conn.execute("SELECT name, rootpage, tbl_name FROM main.sqlite_schema WHERE rootpage > 0")
    return {str(name): (int(str(root)), str(table)) for name, root, table in rows}
