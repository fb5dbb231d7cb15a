"""Installs b2m on a host. Sent to the host's own Python and run there by itself; it knows nothing of b2m.

::

    python3 - ID TOKEN MODE < host_install.py

``~/.b2m/.new-TOKEN/`` has the package as ``lib.tar.gz``, ``host.lock``, and perhaps ``wheels/``. The version is built
there, tried, renamed to ``~/.b2m/versions/ID`` and made ``~/.b2m/current``. MODE is ``online``, or ``offline`` to use
nothing but the wheels. Whatever fails, the version that was there goes on working. The last line printed is one of:
``installed``, ``there already``, or ``failed: what``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import IO

KEPT = 3  # versions
PATIENCE = 300.0  # seconds to wait for another bootstrap
LONGEST = 500.0  # seconds that one step may take
TRIAL = 120.0  # seconds that the start of a version may take, on a slow disk
STALE = 24 * 3600  # seconds after which what a cut-off bootstrap left is removed


class Failed(Exception):
    """What went wrong, in one line."""


def install(base: Path, name: str, token: str, offline: bool) -> str:
    """Install the version ``name`` from ``.new-<token>``; return ``installed`` or ``there already``."""
    new, version = base / f".new-{token}", base / "versions" / name
    try:
        with (base / "bootstrap.lock").open("w") as lock:
            wait_for(lock)
            if works(version):
                switch(base, version)
                prune(base, version)
                return "there already"
            build(new, offline)
            if not works(new):
                raise Failed("what was installed does not start")
            put_in_place(new, version)
            switch(base, version)
            prune(base, version)
            return "installed"
    finally:
        shutil.rmtree(new, ignore_errors=True)


def wait_for(lock: IO[str]) -> None:
    """Wait until no other bootstrap is at work here."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Failed("another bootstrap of this host is still at work; run the same again later") from None
            time.sleep(0.1)


def build(new: Path, offline: bool) -> None:
    """Make lib/ and venv/ in a folder; the venv finds lib by a path relative to itself, so that it can be renamed."""
    with tarfile.open(new / "lib.tar.gz") as package:
        package.extraction_filter = getattr(tarfile, "data_filter", None)  # the oldest Pythons have none
        package.extractall(new / "lib")
    (new / "lib.tar.gz").unlink()
    wheels = new / "wheels"
    shipped = sorted(wheels.glob("pip-*.whl"))
    without_pip = ["--without-pip"] if shipped else []
    ran("make a virtual environment", sys.executable, "-m", "venv", *without_pip, new / "venv")
    python = new / "venv" / "bin" / "python"
    pip = [python, f"{shipped[0]}/pip"] if shipped else [python, "-m", "pip"]
    where = ["--no-index", "--find-links", wheels] if offline else []
    options = ["--require-hashes", "--only-binary=:all:", "--no-compile", "--disable-pip-version-check", "--no-input"]
    ran("install the packages", *pip, "--quiet", "install", *options, *where, "-r", new / "host.lock")
    shutil.rmtree(wheels, ignore_errors=True)
    (packages,) = (new / "venv" / "lib").glob("python3*/site-packages")
    (packages / "b2m.pth").write_text(f"{os.path.relpath(new / 'lib', packages)}\n")
    ran("compile the packages", python, "-m", "compileall", "-q", new / "lib", packages)


def works(version: Path) -> bool:
    """Tell whether the agent of a version can be started."""
    python = version / "venv" / "bin" / "python"
    if not python.exists():
        return False
    # Everything that a run needs: a missing library must be noticed now.
    program = "import b2m.remote.agent, apsw, b2sdk.v2, blake3, jinja2, obstore, pydantic, yaml, zstandard"
    try:
        done = subprocess.run(
            [python, "-I", "-c", program], stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def put_in_place(new: Path, version: Path) -> None:
    """Rename what was built; a broken one of the same name (its Python was updated away) makes room first."""
    version.parent.mkdir(exist_ok=True)
    if version.exists():
        broken = new.with_name(f"{new.name}-broken")
        version.rename(broken)
        shutil.rmtree(broken, ignore_errors=True)
    new.rename(version)


def switch(base: Path, version: Path) -> None:
    """Make a version the current one, at once."""
    link = base / f".current-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(version.relative_to(base))
    link.replace(base / "current")
    os.utime(version)  # its age counts from when it was last wanted


def prune(base: Path, current: Path) -> None:
    """Remove all but the newest versions, and what was left over; never what a process runs from."""
    versions = sorted((base / "versions").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    running = command_lines()
    for path in versions[KEPT:]:
        if path != current and not any(f"{path}/" in line for line in running):
            shutil.rmtree(path, ignore_errors=True)
    for path in base.glob(".new-*"):
        if time.time() - path.stat().st_mtime > STALE:
            shutil.rmtree(path, ignore_errors=True)


def command_lines() -> list[str]:
    """The command lines of all processes that can be seen."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def ran(doing: str, *command: object) -> None:
    """Run a command; Failed with its last words."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise Failed(f"could not {doing} within {LONGEST:g} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
        raise Failed(f"could not {doing}: {lines[-1] if lines else f'exit code {done.returncode}'}")


def main() -> None:
    name, token, mode = sys.argv[1:4]
    os.umask(0o077)
    try:
        print(install(Path.home() / ".b2m", name, token, mode == "offline"))
    except (Failed, OSError, EOFError, tarfile.TarError, ValueError) as error:
        print(f"failed: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
