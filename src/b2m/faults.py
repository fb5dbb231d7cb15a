"""Named points at which a test may kill the process, to prove that a crash there loses nothing.

A point does nothing unless the environment variable ``B2M_FAULT`` names it. Guard processes and service
commands never inherit the variable.
"""

from __future__ import annotations

import os
import signal
import time

VARIABLE = "B2M_FAULT"


def point(name: str) -> None:
    """Kill this process, or stop it for ``stall:<name>``, if the environment asks for it at this point."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    log = os.environ.get("B2M_FAULT_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as out:  # noqa: PTH123 - a hot path of tests, no Path needed
            out.write(name + "\n")
    if wanted == name:
        os.kill(os.getpid(), signal.SIGKILL)
    elif wanted == "stall:" + name:
        time.sleep(3600)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what only tests set."""
    return {key: value for key, value in os.environ.items() if not key.startswith(VARIABLE)}
