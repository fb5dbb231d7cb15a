"""What there is on a host, for a bootstrap. Sent to the host's own Python, old ones too, and run there by itself.

It prints one JSON object and changes nothing. It knows nothing of b2m and uses no syntax newer than Python 3.6.
"""

import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def probe() -> "dict[str, object]":
    """Return everything that b2m.remote.bootstrap.Found has, by the same names."""
    home = Path("~").expanduser()
    base = home / ".b2m"
    nearest, current = base if base.is_dir() else home, base / "current"
    return {
        "python": sys.executable,
        "version": list(sys.version_info[:3]),
        "machine": platform.machine(),
        "platform": sys.platform,
        "libc": list(platform.libc_ver()),
        "venv": find_spec("venv") is not None,
        "ensurepip": _has_ensurepip(),
        "sqlite": _sqlite(),
        "home": str(home),
        "writable": os.access(str(nearest), os.W_OK | os.X_OK),
        "free": shutil.disk_usage(str(nearest)).free if nearest.is_dir() else 0,
        "current": current.resolve().name if current.exists() else None,
        "kills": _kills_user_processes(),
    }


def _has_ensurepip() -> bool:
    """Debian leaves it out of python3; it is in python3-venv."""
    try:
        return bool(import_module("ensurepip").version())
    except Exception:  # a half-installed one fails in its own ways
        return False


def _sqlite() -> str:
    """The SQLite that the host's other programs use; this process opens no database."""
    try:
        return str(import_module("sqlite3").sqlite_version)
    except ImportError:
        return ""


def _kills_user_processes() -> bool:
    """Whether systemd ends what a login leaves behind: a guard that outlives its session would be killed with it."""
    if not shutil.which("busctl") or not Path("/run/systemd/system").is_dir():
        return False
    asked = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"]
    asked += ["org.freedesktop.login1.Manager", "KillUserProcesses"]
    try:
        said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5).stdout
        lingers = Path("/var/lib/systemd/linger", pwd.getpwuid(os.getuid()).pw_name).exists()
        return said.split() == [b"b", b"true"] and not lingers
    except (OSError, KeyError, subprocess.SubprocessError):
        return False


if __name__ == "__main__":
    print(json.dumps(probe()))
