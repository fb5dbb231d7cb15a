"""Less than root may do: tests of permissions mean nothing to a process that no permission stops."""

from __future__ import annotations

import os
from pathlib import Path

NOBODY = 65534

# Root as an ordinary user: bound by the modes of files, and blind to the open files of other users' processes.
ORDINARY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-sys_ptrace"] if os.geteuid() == 0 else []


def make_unreadable(path: Path) -> None:
    """Make a file somebody else's, or at least one that this user may not read."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o600)
    else:
        path.chmod(0)
