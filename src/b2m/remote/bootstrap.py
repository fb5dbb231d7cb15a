"""Installs b2m on a host, beside what is there: a version is complete and tried before it becomes the current one.

On the host, below ``~/.b2m``: ``versions/<id>/lib`` (the package), ``versions/<id>/venv`` (its libraries), and the link
``current``. The id is b2m's version and the BLAKE3 of the package's files, so that the same id is the same code.
"""

from __future__ import annotations

import json
import secrets
import shlex
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blake3 import blake3

from b2m import __version__, errors
from b2m.remote import wheels
from b2m.remote.ssh import Ran, Ssh
from b2m.wording import size

PACKAGE = Path(__file__).parents[1]
LOCK = PACKAGE / "remote" / "host.lock"
PIP = PACKAGE / "remote" / "pip.lock"
OLDEST = (3, 11)
ROOM = 150_000_000  # bytes: what a version takes (85 MB), its wheels, and something to spare
LONGEST = 900.0  # seconds that an installation may take
QUICK = 60.0  # seconds for everything else

_FIND = """\
for python in python3 python3.14 python3.13 python3.12 python3.11; do
  command -v "$python" >/dev/null 2>&1 || continue
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then exec "$python" -I -; fi
  older=$python
done
if [ -n "${older:-}" ]; then exec "$older" -I -; fi
echo b2m-no-python"""

_START = """\
current=$(readlink -f "$HOME/.b2m/current")
if [ -x "$current/venv/bin/python" ]; then exec "$current/venv/bin/python" -I -m b2m.remote.agent; fi
echo b2m-agent-missing
exit 127"""

_TRY = '"$HOME/.b2m/current/venv/bin/python" -I -c "import b2m.remote.agent, apsw, b2sdk.v2, obstore"'

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """What a host has; ``home`` and ``python`` are paths there, ``free`` is in bytes."""

    python: str
    version: tuple[int, int, int]
    machine: str
    platform: str
    libc: tuple[str, str]
    venv: bool
    ensurepip: bool
    sqlite: str
    home: str
    writable: bool
    free: int
    current: str | None
    kills: bool


def agent_command() -> str:
    """Return the command line that starts the agent; it says ``b2m-agent-missing`` (127) where there is none."""
    return _sh(_START)


@cache
def version_id() -> str:
    """Return the id of the b2m that runs here, as a bootstrap would install it."""
    digest = blake3()
    for path in _files():
        name, data = path.relative_to(PACKAGE).as_posix().encode(), path.read_bytes()
        digest.update(b"%d %d " % (len(name), len(data)) + name + data)
    return f"{__version__}-{digest.hexdigest()[:8]}"


def look(ssh: Ssh) -> Found | None:
    """Ask what a host has; None if it has no Python at all."""
    ran = ssh.run(_sh(_FIND), timeout=QUICK, input=_script("host_probe.py"))
    # What a login prints may come before it.
    last = (ran.text.splitlines() or [""])[-1]
    if last == "b2m-no-python":
        return None
    try:
        said: dict[str, Any] = json.loads(last)
    except ValueError:
        what = f"cannot look around there ({ran.last_words}); try: {ssh.address.command()} true"
        raise ssh.address.unreachable(what) from None
    major, minor, micro = said["version"]
    return Found(**{**said, "version": (major, minor, micro), "libc": tuple(said["libc"])})


def obstacle(found: Found | None) -> str | None:
    """Return why b2m cannot be installed on a host, and what to do there; None if it can."""
    if found is None:
        return "it has no Python; install 3.11 or newer there (Debian: apt-get install python3 python3-venv)"
    if found.version[:2] < OLDEST:
        return f"its Python is {'.'.join(map(str, found.version))}; install 3.11 or newer there, beside it is enough"
    if not found.venv:
        return f"its {found.python} makes no virtual environments; install python3-venv there"
    if found.platform != "linux":
        return f"it runs {found.platform}; hosts run Linux"
    if not found.writable:
        return f"{found.home} is not writable there; give this user a home folder, b2m lives in its .b2m"
    if found.free < ROOM:
        return f"{found.home} has {size(found.free)} free, b2m needs {size(ROOM)}; make room there"
    return None


def bootstrap(ssh: Ssh, *, offline: bool = False, tell: Tell = lambda text: None) -> str:
    """Install this b2m on a host and make it the current one there; return its id.

    ``offline`` fetches the libraries here and ships them. HostUnreachable says what is missing; then the version that
    was there before still works.
    """
    found = look(ssh)
    why = obstacle(found)
    if found is None or why is not None:
        raise ssh.address.unreachable(why or "")
    if found.current == version_id() and ssh.run(_sh(_TRY), timeout=QUICK).code == 0:
        tell(f"b2m {version_id()} is there already")
        return version_id()
    token = secrets.token_hex(6)
    new = f"{found.home}/.b2m/.new-{token}"
    tell(f"installing b2m {version_id()} for Python {found.version[0]}.{found.version[1]}, {found.machine}")
    with TemporaryDirectory(prefix="b2m-bootstrap-") as folder:
        try:
            fetched = _fetch(found, Path(folder), offline, tell)
        except wheels.NoWheels as error:
            raise ssh.address.unreachable(str(error)) from None
        made = ssh.run(_sh(f"umask 077; mkdir -p {shlex.quote(new + '/wheels')}"), timeout=QUICK)
        if made.code != 0:
            raise ssh.address.unreachable(f"cannot write to {found.home}/.b2m there ({made.last_words})")
        try:
            for path in fetched:
                ssh.put(path, f"{new}/wheels/{path.name}")
            ssh.put(_package(), f"{new}/lib.tar.gz")
            ssh.put(LOCK, f"{new}/host.lock")
            tell("setting it up there" if offline else "setting it up there, from its package index")
            words = [found.python, "-I", "-", version_id(), token, "offline" if offline else "online"]
            ran = ssh.run(shlex.join(words), timeout=LONGEST, input=_script("host_install.py"))
        except BaseException:
            _sweep(ssh, new)
            raise
    _check(ssh, ran, offline)
    return version_id()


def _fetch(found: Found, folder: Path, offline: bool, tell: Tell) -> list[Path]:
    """Fetch the wheels that must be shipped: all of them, or pip where the host's Python comes without it."""
    if not offline and found.ensurepip:
        return []
    tell("fetching the libraries" if offline else "fetching pip, its Python has none")
    wheels.download(PIP, folder, found.version, ["any"])
    if offline:
        tags = wheels.platforms(found.machine, found.libc)
        if not tags:
            libc = " ".join(found.libc).strip() or "unknown"
            raise wheels.NoWheels(f"no wheels are known for its C library ({libc}); bootstrap without --offline")
        wheels.download(LOCK, folder, found.version, tags)
    return sorted(folder.glob("*.whl"))


def _check(ssh: Ssh, ran: Ran, offline: bool) -> None:
    if ran.code != 0:
        last = (ran.text.splitlines() or [ran.last_words])[-1].removeprefix("failed: ")
        hint = "" if offline else f"; if it has no package index: b2m bootstrap --host {ssh.address.host} --offline"
        raise ssh.address.unreachable(f"b2m was not installed: {last}{hint}")


def _sweep(ssh: Ssh, new: str) -> None:
    """Remove what was sent, if the host can still be reached; else the next bootstrap does, after a day."""
    try:
        ssh.run(_sh(f"rm -rf {shlex.quote(new)}"), timeout=10)
    except errors.B2mError:
        return


def _package() -> bytes:
    """The package's files, as a tar."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
        for path in _files():
            data = path.read_bytes()
            entry = tarfile.TarInfo(f"b2m/{path.relative_to(PACKAGE).as_posix()}")
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, BytesIO(data))
    return packed.getvalue()


def _files() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _script(name: str) -> bytes:
    return (PACKAGE / "remote" / name).read_bytes()


def _sh(script: str) -> str:
    """A command line for whatever shell the login has: one that knows nothing but quotes will do."""
    return "exec /bin/sh -c " + shlex.quote(script.replace("\n", "; ").replace("do; ", "do "))
