"""Stored values on their way to Python, without failing on text that is not valid in its encoding.

Only reports take this way; rows that are merged stay inside SQLite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from b2m.sqlite.rowsql import column

Value = int | float | str | bytes | None
_CODECS = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


def encoded(alias: str, names: Iterable[str]) -> str:
    """Select columns so that `decode` can read them: each as value, or bytes of a text, and a flag for text."""
    parts = (column(alias, name) for name in names)
    return ", ".join(f"iif(typeof({x}) = 'text', CAST({x} AS BLOB), {x}), typeof({x}) = 'text'" for x in parts)


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
