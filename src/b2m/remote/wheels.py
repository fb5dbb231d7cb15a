"""The libraries of the agent as wheels, for a host that has no package index; fetched here, checked by their hashes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

# glibc versions that wheels are built for, oldest first: a wheel for an older one runs on a newer one.
GLIBC = ((2, 5, "manylinux1"), (2, 12, "manylinux2010"), (2, 17, "manylinux2014"))
LONGEST = 600.0  # seconds for all downloads


class NoWheels(Exception):
    """Why they cannot be had here, and what to do."""


def platforms(machine: str, libc: tuple[str, str]) -> list[str]:
    """Return the tags of the wheels that run on a machine with a C library, newest first; none if it is unknown.

    ``("glibc", "2.31")`` on x86_64: manylinux_2_31_x86_64, ..., manylinux_2_17_x86_64, manylinux2014_x86_64, ...
    """
    name, version = libc
    if name != "glibc" or not version:
        return []
    _, minor = (int(part) for part in version.split(".")[:2])
    newer = [f"manylinux_2_{number}_{machine}" for number in range(minor, 4, -1)]
    named = [f"{tag}_{machine}" for _, oldest, tag in reversed(GLIBC) if minor >= oldest]
    return newer + named


def download(lock: Path, folder: Path, version: Sequence[int], tags: Sequence[str]) -> None:
    """Fetch the wheels of a lock file for a Python version and platforms; NoWheels says what could not be had."""
    command = [*_pip(), "--quiet", "download", "--require-hashes", "--only-binary=:all:", "--no-deps", "--no-input"]
    command += ["--implementation", "cp", "--python-version", f"{version[0]}.{version[1]}"]
    command += [word for tag in tags for word in ("--platform", tag)]
    try:
        ran = subprocess.run(
            [*command, "--disable-pip-version-check", "-d", str(folder), "-r", str(lock)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise NoWheels(f"the wheels were not there after {LONGEST:g} s; run the same again") from None
    if ran.returncode != 0:
        said = (ran.stderr.strip().splitlines() or ["pip download failed"])[-1]
        raise NoWheels(f"the wheels cannot be had on this machine: {said}")


def _pip() -> list[str]:
    """The command that runs pip here; a virtual environment may come without it, then Python's own copy is used."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if find_spec("ensurepip") is not None:
        import ensurepip

        bundled = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
        if bundled:
            return [sys.executable, f"{bundled[-1]}/pip"]
    raise NoWheels(f"{sys.executable} has no pip to fetch the wheels with; run: uv pip install pip")
