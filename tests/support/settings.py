"""How often tests repeat what depends on luck: little in CI, the full count with B2M_TEST_FULL=1."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import cache


def trials(ci: int, full: int) -> int:
    """Return ``full`` if the environment has B2M_TEST_FULL=1, else ``ci``."""
    return full if os.environ.get("B2M_TEST_FULL") == "1" else ci


@cache
def slowness() -> float:
    """Return by how much this machine is slower now than the one that limits of time are for; at least 1.

    It is told by what nothing of b2m's changes: the processor time that Python needs to load three libraries.
    """
    times: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", "import jinja2, pydantic, yaml"], check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return max(1.0, max(times) / 0.13)  # the slowest, since it may be as slow when the test measures
