"""The names under which objects are stored where a put cannot be conditional.

::

    ipm/packs/…                                              put: stored under its own name
    ipm/commits/00000006-f3a9….json                          created: 00000006.json, its stem and its creator's token
    ipm/commits/00000006.json-f3a9….flag                     a flag: somebody wants to create 00000006.json
    ipm/commits/00000006.json-c3a9….staged                   the content of a creation that is not decided yet

A token is a letter that says how the object came into being, ``f`` by flags or ``c`` by a compare-and-swap, and 23
hexadecimal digits. No two creators have one token, so that none can replace what another wrote, and two objects of
one name are seen as two. Nothing else that b2m stores has a name of this form.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from b2m.buckets.protocol import check_name
from b2m.errors import UsageError

BY_FLAGS: Literal["f"] = "f"
BY_SWAP: Literal["c"] = "c"
DIGITS = 23

_FORM = re.compile(r"(?P<stem>.+)-(?P<token>[fc][0-9a-f]{23})(?P<ending>\.json|\.flag|\.staged|)")
_NUMBERED = re.compile(r"\d{8,}\.json")


@dataclass(frozen=True)
class Stored:
    """What the name of a stored object says: the name it stands for, whose it is, and what it is."""

    physical: str
    name: str
    token: str  # "" for one that was put
    kind: Literal["put", "created", "flag", "staged"]


def new_token(how: Literal["f", "c"]) -> str:
    return how + secrets.token_hex(DIGITS // 2 + 1)[:DIGITS]


def parse(physical: str) -> Stored:
    """Return what a stored object is; every name is at least that of an object that was put."""
    folder, slash, last = physical.rpartition("/")
    found = _FORM.fullmatch(last)
    if found is None:
        return Stored(physical, physical, "", "put")
    above = folder + slash
    if found["ending"] == ".flag":
        return Stored(physical, above + found["stem"], found["token"], "flag")
    if found["ending"] == ".staged":
        return Stored(physical, above + found["stem"], found["token"], "staged")
    return Stored(physical, above + found["stem"] + found["ending"], found["token"], "created")


def created_name(name: str, token: str) -> str:
    stem = name.removesuffix(".json")
    return f"{stem}-{token}{name[len(stem) :]}"


def flag_name(name: str, token: str) -> str:
    return f"{name}-{token}.flag"


def staged_name(name: str, token: str) -> str:
    return f"{name}-{token}.staged"


def beginning(name: str) -> str:
    """Return what the stored names of everything that has to do with ``name`` begin with."""
    return name.removesuffix(".json")


def about(name: str, physical: Iterable[str]) -> list[Stored]:
    """Pick from stored names the objects, flags and staged contents of one name."""
    return [stored for stored in map(parse, physical) if stored.name == name]


def is_numbered(name: str) -> bool:
    """Tell whether b2m only ever creates objects of this name: commits, claims, the marker."""
    last = name.rpartition("/")[2]
    return last == "b2m.json" or _NUMBERED.fullmatch(last) is not None


def check_own_name(name: str) -> str:
    """Return the name of an object; UsageError for one that means something else in such a store."""
    if parse(check_name(name)).kind != "put":
        raise UsageError(what=f"{name!r} is no name of an object here: it has the form of a created object's token")
    return name
