"""How often tests repeat what depends on luck: little in CI, the full count with B2M_TEST_FULL=1."""

from __future__ import annotations

import os


def trials(ci: int, full: int) -> int:
    """Return ``full`` if the environment has B2M_TEST_FULL=1, else ``ci``."""
    return full if os.environ.get("B2M_TEST_FULL") == "1" else ci
