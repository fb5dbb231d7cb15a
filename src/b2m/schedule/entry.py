"""What is to be run, when, where, and with which environment; nothing of it is left to cron or systemd to know."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from b2m import errors, secrets
from b2m.project import Schedule, Target

IN_PROJECT = "secrets.env"  # what holds the secrets if B2M_SECRETS_FILE names no other file
SSH_FILES = ("B2M_SSH_CONFIG", "B2M_KNOWN_HOSTS", "B2M_SSH_IDENTITY")  # in place of OpenSSH's own
TRIAL = 120.0  # seconds that a trial may take
PULL = 120  # seconds that git may take
SAID = "b2m: git pull --ff-only did not work, the project stays as it is"


@dataclass(frozen=True)
class Entry:
    """One database on one host, to be synced by itself from this machine."""

    db: str
    host: str
    root: Path
    schedule: Schedule
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """What people call it; no two of a machine have the same."""
        return f"{self.db}@{self.host} of {self.root}"

    @property
    def seconds_late(self) -> int:
        """By how much it begins late: always the same here, another elsewhere, at most ``jitter``."""
        seed = f"{socket.gethostname()}:{self.name}".encode()
        return zlib.crc32(seed) % (int(self.schedule.jitter) + 1)

    @property
    def sync(self) -> list[str]:
        """The command."""
        wait = self.schedule.wait
        patience = ["--wait", f"{wait:.3f}".rstrip("0").rstrip(".") + "s"] if wait else []
        return self.b2m("sync", "--quiet", *patience)

    def b2m(self, verb: str, *flags: str) -> list[str]:
        """A command of b2m's about this database; -P keeps files of the project from being taken for modules."""
        return [sys.executable, "-P", "-m", "b2m", verb, "--db", self.db, "--host", self.host, *flags]

    @property
    def pull(self) -> list[str]:
        """The command that brings the project up to date, empty if that is not asked for."""
        if self.schedule.pull is None:
            return []
        limit = ["timeout", str(PULL)] if shutil.which("timeout") else []
        return [*limit, "git", "pull", "--quiet", "--ff-only"]

    def script(self, command: list[str], before: list[str] | None = None) -> str:
        """Return the line for sh that runs a command in the project, with nothing inherited that matters."""
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
        first = f"{{ {shlex.join(before)} || echo {shlex.quote(SAID)} >&2; }} && " if before else ""
        return f"cd {shlex.quote(str(self.root))} && export {exports} && {first}exec {shlex.join(command)}"


class Installer(Protocol):
    """What can install an entry: the crontab, or systemd."""

    name: str

    @property
    def note(self) -> str:
        """What is still to be done by whoever installs something, empty if nothing is."""

    def text(self, entry: Entry) -> str:
        """Return what would be installed."""

    def installed(self, entry: Entry) -> bool:
        """Whether it is installed, in this or an earlier form."""

    def write(self, entry: Entry) -> None:
        """Install it, in place of an earlier form; TaskFailed."""

    def remove(self, entry: Entry) -> bool:
        """Take it out, and tell whether it was there; TaskFailed."""


def entry_of(target: Target, *, to_remove: bool = False) -> Entry:
    """Return what a target's playbook asks for, with this process's PATH and secrets file; UsageError.

    What is ``to_remove`` may be in no playbook any more.
    """
    schedule = target.playbook.schedule
    if to_remove and (schedule is None or schedule.host != target.host):
        schedule = Schedule(at="00:00", host=target.host)
    if schedule is None:
        what = f'{target.playbook.file} has no schedule: add schedule: {{at: "18:00", host: {target.host}}}'
        raise errors.UsageError(what=what)
    if schedule.host != target.host:
        raise errors.UsageError(what=f"{target.playbook.file} schedules {target.db} on {schedule.host}")
    own = target.root / IN_PROJECT
    named = os.environ.get(secrets.FILE)
    file = str(Path(named).absolute()) if named else str(own) if own.is_file() else None
    environment = {"PATH": _path(), **({secrets.FILE: file} if file else {})}
    if target.connection == "ssh":
        environment |= {name: str(Path(os.environ[name]).absolute()) for name in SSH_FILES if os.environ.get(name)}
    if schedule.pull is not None:
        environment["GIT_TERMINAL_PROMPT"] = "0"
    if any("\n" in each for each in (*environment.values(), str(target.root), sys.executable)):
        raise errors.UsageError(what="a path with a line break in it cannot be scheduled")
    return Entry(target.db, target.host, target.root, schedule, environment)


def _path() -> str:
    """Return the folders of PATH that exist, each once: what works here now shall work then."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(dict.fromkeys(each for each in folders if each.startswith("/") and Path(each).is_dir()))


def bare_environment() -> dict[str, str]:
    """Return all that cron gives to what it runs."""
    user = getpass.getuser()
    return {"HOME": str(Path.home()), "LOGNAME": user, "USER": user, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}


def try_out(entry: Entry) -> None:
    """Run an entry's very line with a look in place of the sync, and an environment as cron's; TaskFailed."""
    line = entry.script(entry.b2m("schedule", "--check"))
    began = f"{entry.db}@{entry.host}: tried with cron's environment, and"
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd="/",
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TRIAL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise errors.TaskFailed(what=f"{began} it took more than {TRIAL:g} s; nothing was installed") from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        what = f"{began} it ended with exit code {done.returncode}; nothing was installed. It said:\n{said}"
        raise errors.TaskFailed(what=what)
