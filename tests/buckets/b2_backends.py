"""Backblaze B2 as backends of the conformance suite: the real client against b2sdk's own simulator."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from tests.buckets.backends import Backend
from tests.support.b2_simulator import simulator


def _flags(tmp: Path) -> Mapping[str, object]:
    return _named(simulator().config(prefix="team/data"))


def _locks(tmp: Path) -> Mapping[str, object]:
    return _named(simulator().config(locks=True))


def _named(entry: Mapping[str, object]) -> dict[str, object]:
    """Return an entry with the names of its secrets, which this process's environment then has."""
    named: dict[str, object] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            value = _named(value)
        elif key in ("key_id", "key"):
            name = f"B2M_TEST_B2_{secrets.token_hex(4).upper()}"
            os.environ[name] = str(value)
            value = f"${name}"
        named[key] = value
    return named


def _vanish(config: Mapping[str, object]) -> None:
    simulator().vanish(config)


# By flags: two puts, two listings, a delete. With locks: two puts, a listing, a delete, and the lock bucket read and
# changed, twice, since the tests' names have no numbers; the content is sent twice.
B2_BACKENDS = [
    Backend("b2-flags", _flags, _vanish, create_requests=5, pace=8, grown=24),
    Backend("b2-locks", _locks, _vanish, create_requests=8, create_copies=2, pace=4, grown=24),
]
