"""Durations and sizes as people write them."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"


class Seconds(float):
    """A number that is known to be seconds, as ``minutes(5)`` gives in an expression; it needs no unit."""


def parse_duration(value: Any) -> float:
    """Seconds of ``250ms``, ``5s``, ``30m``, ``2h`` or ``1d``; ValueError in words for anything else."""
    if isinstance(value, Seconds) and math.isfinite(value) and value >= 0:
        return float(value)
    found = re.fullmatch(rf"{_NUMBER}\s?(ms|s|m|h|d)", value) if isinstance(value, str) else None
    if not found:
        raise ValueError("expected a duration such as 250ms, 5s, 30m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def parse_size(value: Any) -> int:
    """Bytes of ``512B``, ``64KiB``, ``20MB`` or ``1.5GiB``; ValueError in words for anything else."""
    found = re.fullmatch(rf"{_NUMBER}\s?({'|'.join(_BYTES)})", value) if isinstance(value, str) else None
    if not found:
        raise ValueError("expected a size such as 64KiB, 20MB or 1GiB")
    return round(float(found[1]) * _BYTES[found[2]])


def _duration(value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("unit", "{what}", {"what": str(error)}) from None


def _size(value: Any) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise PydanticCustomError("unit", "{what}", {"what": str(error)}) from None


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$", "examples": ["5s", "30m"]}),
]
"""Seconds, written with a unit."""

COMMAND = "shell command"
"""Marks a field whose text is a shell command: values are put into it as quoted words."""

Command: TypeAlias = Annotated[str, COMMAND]
"""A shell command."""

Size: TypeAlias = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?([kKMG]i?)?B$", "examples": ["64KiB"]}),
]
"""Bytes, written with a unit."""
