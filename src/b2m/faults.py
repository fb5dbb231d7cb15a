"""Named points at which a test may kill the process, to prove that a crash there loses nothing.

A point does nothing unless the environment variable ``B2M_FAULT`` names it: ``switch:made`` kills there,
``switch:made#2`` when it is passed for the second time, ``stop:switch:made`` stops the process until it gets SIGCONT,
``stall:switch:made`` lets it sleep. Guard processes and service commands never inherit the variable.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

VARIABLE = "B2M_FAULT"

_passed: Counter[str] = Counter()


def point(name: str) -> None:
    """Kill, stop or stall this process if the environment asks for it at this point."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    log = os.environ.get("B2M_FAULT_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as out:  # noqa: PTH123 - a hot path of tests, no Path needed
            out.write(name + "\n")
    _passed[name] += 1
    here = name if _passed[name] == 1 else f"{name}#{_passed[name]}"
    if wanted == here:
        os.kill(os.getpid(), signal.SIGKILL)
    elif wanted == "stop:" + here:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif wanted == "stall:" + here:
        time.sleep(3600)


def setting(name: str, usual: float) -> float:
    """Return a number that a test may set by the environment, as ``B2M_FAULT_GUARD_GRACE=0.5``, else the usual one."""
    return float(os.environ.get(f"{VARIABLE}_{name}", usual))


def settings() -> dict[str, str]:
    """Return what tests set in this process's environment, for a process on another host."""
    return {key: value for key, value in os.environ.items() if key.startswith(VARIABLE)}


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what only tests set."""
    return {key: value for key, value in os.environ.items() if not key.startswith(VARIABLE)}
