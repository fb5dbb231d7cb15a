"""Stored values on their way to Python, without failing on text that is not valid in its encoding.

Only reports take this way; rows that are merged stay inside SQLite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import apsw

from b2m.sqlite.rowsql import column

Value = int | float | str | bytes | None
_AT_ONCE = 900  # columns that a statement returns, each as two: SQLite lets it have 2,000
_CODECS = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


def encoded(alias: str, names: Iterable[str]) -> str:
    """Select columns so that `decode` can read them: each as value, or bytes of a text, and a flag for text."""
    return ", ".join(encodings(alias, names))


def encodings(alias: str, names: Iterable[str]) -> list[str]:
    """Return the parts of `encoded`, for as many columns as `read` can take."""
    parts = (column(alias, name) for name in names)
    return [f"iif(typeof({x}) = 'text', CAST({x} AS BLOB), {x}), typeof({x}) = 'text'" for x in parts]


def read(conn: apsw.Connection, parts: Sequence[str], source: str, order: str) -> Iterator[tuple[Value, ...]]:
    """Select parts from a source, however many: the rows of several statements side by side.

    `order` makes them agree on the order of the rows, and is left out where one statement is enough.
    """
    if len(parts) <= _AT_ONCE:
        yield from conn.execute(f"SELECT {', '.join(parts)} {source}")
        return
    slices = (parts[start : start + _AT_ONCE] for start in range(0, len(parts), _AT_ONCE))
    together = [conn.execute(f"SELECT {', '.join(each)} {source} {order}") for each in slices]
    for rows in zip(*together, strict=True):
        yield tuple(chain.from_iterable(rows))


def decode(row: Sequence[Value], encoding: str) -> tuple[Value, ...]:
    """Read what `encoded` selected; bytes that are no text of that encoding become lone surrogates or U+FFFD."""
    return tuple(
        _text(value, encoding) if flag and isinstance(value, bytes) else value
        for value, flag in zip(row[::2], row[1::2], strict=True)
    )


def _text(data: bytes, encoding: str) -> str:
    codec = _CODECS[encoding]
    return data.decode(codec, "surrogateescape" if codec == "utf-8" else "replace")


def shown(values: Sequence[Value]) -> str:
    """Write a key for a message: one value bare, several as a tuple; long ones cut."""
    texts = [_short(value) for value in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def _short(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value[:16].hex()}'" + ("..." if len(value) > 16 else "")
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
