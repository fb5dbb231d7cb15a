"""What there is on a host, for a bootstrap. Sent to the host's own Python, old ones too, and run there by itself.

It prints one JSON object and changes nothing. It knows nothing of b2m and uses no syntax newer than Python 3.6.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec


def probe():
    # type: () -> dict[str, object]
    home = os.path.expanduser("~")
    base = os.path.join(home, ".b2m")
    libc, libc_version = platform.libc_ver()
    return {
        "python": sys.executable,
        "version": list(sys.version_info[:3]),
        "platform": sys.platform,
        "machine": platform.machine(),
        "libc": [libc, libc_version],
        "venv": find_spec("venv") is not None,
        "ensurepip": _has_ensurepip(),
        "sqlite": _sqlite(),
        "home": home,
        "writable": os.access(base if os.path.isdir(base) else home, os.W_OK | os.X_OK),
        "free": shutil.disk_usage(base if os.path.isdir(base) else home).free,
        "current": os.path.basename(os.path.realpath(os.path.join(base, "current"))) if _current(base) else None,
        "kills": _kills_user_processes(),
    }


def _current(base):
    # type: (str) -> bool
    return os.path.exists(os.path.join(base, "current"))


def _has_ensurepip():
    # type: () -> bool
    """Debian leaves it out of python3; it is in python3-venv."""
    try:
        import ensurepip

        return bool(ensurepip.version())
    except Exception:  # a half-installed one fails in its own ways
        return False


def _sqlite():
    # type: () -> str
    """The SQLite that the host's other programs use; this process opens no database."""
    try:
        return str(import_module("sqlite3").sqlite_version)
    except ImportError:
        return ""


def _kills_user_processes():
    # type: () -> bool
    """Whether systemd ends what a login leaves behind: a guard that outlives its session would be killed with it."""
    if not shutil.which("loginctl") or not os.path.isdir("/run/systemd/system"):
        return False
    try:
        asked = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"]
        asked += ["org.freedesktop.login1.Manager", "KillUserProcesses"]
        said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5).stdout
        lingers = os.path.exists(os.path.join("/var/lib/systemd/linger", _user()))
        return said.split() == [b"b", b"true"] and not lingers
    except (OSError, subprocess.SubprocessError):
        return False


def _user():
    # type: () -> str
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


if __name__ == "__main__":
    print(json.dumps(probe()))
