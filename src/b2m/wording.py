"""Numbers in words for people, and texts of others as a terminal may show them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol


class _Counts(Protocol):
    @property
    def inserted(self) -> int: ...
    @property
    def updated(self) -> int: ...
    @property
    def deleted(self) -> int: ...


def size(count: int) -> str:
    """Return a number of bytes as people write it: ``38KB``, ``1.2MB``."""
    value = float(count)
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 10 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}GB"


def rows(counts: Mapping[str, _Counts]) -> str:
    """Return changed rows as ``+34 ~2 -0``."""
    inserted = sum(c.inserted for c in counts.values())
    updated = sum(c.updated for c in counts.values())
    deleted = sum(c.deleted for c in counts.values())
    return f"+{inserted} ~{updated} -{deleted}"


_CONTROL = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return a text with control characters as escapes, but for ends of lines, tabs and colours."""
    return _CONTROL.sub(lambda found: found[1] or repr(found[0])[1:-1], text)
