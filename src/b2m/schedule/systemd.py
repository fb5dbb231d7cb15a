"""An entry as a timer and a service of systemd: the system's for root, else the user's own."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from b2m import errors
from b2m.schedule.entry import Entry


class Units:
    """The unit files of the user who runs this; root's are the system's."""

    name = "systemd"

    def __init__(self) -> None:
        self._system = os.geteuid() == 0
        own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self.folder = Path("/etc/systemd/system") if self._system else own / "systemd" / "user"

    @property
    def note(self) -> str:
        if self._system or Path("/var/lib/systemd/linger", getpass.getuser()).exists():
            return ""
        return "your own timers run only while you are logged in, until you type: loginctl enable-linger"

    def text(self, entry: Entry) -> str:
        """Return both files, each below its path."""
        return "\n".join(f"# {self.folder / name}\n{text}" for name, text in self.files(entry).items())

    def files(self, entry: Entry) -> dict[str, str]:
        """Return the text of each file by its name."""
        return {f"{unit(entry)}.service": self._service(entry), f"{unit(entry)}.timer": _timer(entry)}

    def installed(self, entry: Entry) -> bool:
        return (self.folder / f"{unit(entry)}.timer").exists()

    def write(self, entry: Entry) -> None:
        made = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, text in self.files(entry).items():
                path = self.folder / name
                earlier = path.read_text("utf-8") if path.exists() else None
                path.write_text(text, "utf-8")
                made.append((path, earlier))
            self._systemctl("daemon-reload")
            self._systemctl("enable", "--now", f"{unit(entry)}.timer")
        except (OSError, errors.TaskFailed) as error:
            for path, earlier in made:
                path.unlink() if earlier is None else path.write_text(earlier, "utf-8")
            if isinstance(error, OSError):
                what = f"{error.filename}: {error.strerror}; nothing was installed"
                raise errors.TaskFailed(what=what) from error
            raise errors.TaskFailed(what=f"{error}; nothing was installed") from error

    def remove(self, entry: Entry) -> bool:
        if not self.installed(entry):
            return False
        self._systemctl("disable", "--now", f"{unit(entry)}.timer")
        for name in self.files(entry):
            (self.folder / name).unlink(missing_ok=True)
        self._systemctl("daemon-reload")
        return True

    def _systemctl(self, *words: str) -> None:
        command = ["systemctl", *([] if self._system else ["--user"]), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            raise errors.TaskFailed(what="there is no systemd here: add --cron") from None
        except subprocess.TimeoutExpired:
            raise errors.TaskFailed(what=f"{' '.join(command)} did not end") from None
        if done.returncode:
            raise errors.TaskFailed(what=f"{' '.join(command)}: {done.stderr.strip() or 'it failed'}")

    def _service(self, entry: Entry) -> str:
        pull = f"ExecStartPre=-{_words(_absolute(entry.pull))}\n" if entry.pull else ""
        environment = "".join(f"Environment={_word(f'{name}={value}')}\n" for name, value in entry.environment.items())
        # Only with User= does a unit of the system have a HOME.
        user = f"User={getpass.getuser()}\n" if self._system else ""
        return f"""\
[Unit]
Description=b2m sync of {entry.db} on {entry.host}

[Service]
Type=oneshot
{user}WorkingDirectory={str(entry.root).replace("%", "%%")}
{environment}{pull}ExecStart={_words(entry.sync)}
# What outlives a run is meant to: the server that it started, and the guard that gives a database back.
KillMode=process
"""


def unit(entry: Entry) -> str:
    """Return the name of an entry's units."""
    return f"b2m-{entry.db}-{entry.host}-{hashlib.blake2s(str(entry.root).encode(), digest_size=4).hexdigest()}"


def calendar(entry: Entry) -> str:
    """Return when it begins, as ``OnCalendar`` takes it."""
    schedule = entry.schedule
    if schedule.at is not None:
        return f"*-*-* {schedule.at}:00 {schedule.tz}"
    minutes = round((schedule.every or 0) / 60)
    if minutes < 60:
        return f"*-*-* *:00/{minutes}:00 {schedule.tz}"
    hours = {1: "*", 24: "00"}.get(minutes // 60, f"00/{minutes // 60}")
    return f"*-*-* {hours}:00:00 {schedule.tz}"


def _timer(entry: Entry) -> str:
    late = f"RandomizedDelaySec={int(entry.schedule.jitter)}\n" if entry.schedule.jitter else ""
    return f"""\
[Unit]
Description=b2m sync of {entry.db} on {entry.host}, {entry.schedule.words}

[Timer]
OnCalendar={calendar(entry)}
{late}AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
"""


def _absolute(command: list[str]) -> list[str]:
    return [shutil.which(command[0]) or f"/usr/bin/{command[0]}", *command[1:]]


def _words(command: list[str]) -> str:
    return " ".join(_word(word).replace("$", "$$") for word in command)


def _word(text: str) -> str:
    """Return a word as systemd reads it: in quotes where needed, and % not the begin of a specifier."""
    text = text.replace("%", "%%")
    if text and not set(text) & set(" \t'\"\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
