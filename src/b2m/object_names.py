"""Which names the objects of a bucket may have, whatever the store."""

from __future__ import annotations

import re

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=~-]{0,199}")
_LONGEST = 800  # B2 allows 1,024 bytes, S3 too; the rest is left for the bucket's prefix


def is_object_name(name: str) -> bool:
    """Tell whether every store keeps an object of this name as it is."""
    return len(name) <= _LONGEST and all(_SEGMENT.fullmatch(segment) for segment in name.split("/"))
