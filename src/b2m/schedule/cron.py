"""An entry as a line of the user's crontab, between two comments; every other line stays as it is.

Debian's cron knows the machine's own time zone only and has no CRON_TZ, and a zone's summer time comes on its own days.
So cron starts the line at every quarter of an hour that may be the right one, and sh asks ``date`` whether it is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from b2m import errors
from b2m.schedule.entry import Entry

LONGEST = 998  # characters of a line that Vixie cron takes
QUARTERS = (0, 15, 30, 45)  # by which time zones may differ
ZONES = Path("/usr/share/zoneinfo")


class Crontab:
    """The crontab of the user who runs this."""

    name = "cron"
    note = ""

    def text(self, entry: Entry) -> str:
        """Return the lines of an entry; UsageError if cron would not take them."""
        line = f"{_fields(entry)} {_escaped(_command(entry))}"
        if len(line) > LONGEST:
            what = f"the line for cron has {len(line)} characters, and {LONGEST} is the most: set a shorter PATH"
            raise errors.UsageError(what=what)
        about = f"# {entry.schedule.words}; written by b2m schedule, which writes over what is changed here"
        return "\n".join([_begin(entry), about, line, _end(entry), ""])

    def installed(self, entry: Entry) -> bool:
        return shutil.which("crontab") is not None and _begin(entry) in _read().split("\n")

    def write(self, entry: Entry) -> None:
        zone = entry.schedule.tz
        if "date" in _command(entry) and zone != "UTC" and not (ZONES / zone).is_file():
            what = f"date knows no time zone {zone} here, and would take UTC: install tzdata"
            raise errors.TaskFailed(what=what)
        _install(with_block(_read(), entry, self.text(entry)))

    def remove(self, entry: Entry) -> bool:
        if not self.installed(entry):
            return False
        _install(with_block(_read(), entry, ""))
        return True


def with_block(crontab: str, entry: Entry, block: str) -> str:
    """Return a crontab with an entry's lines in the place of its earlier ones, or at the end; TaskFailed."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", crontab)
    plain = [line.rstrip("\n") for line in lines]
    begin, end = _begin(entry), _end(entry)
    if begin not in plain:
        gap = "\n" if lines and not crontab.endswith("\n") else ""
        return f"{crontab}{gap}{block}"
    first = plain.index(begin)
    if end not in plain[first:]:
        raise errors.TaskFailed(what=f'the crontab has "{begin}" and no "{end}": mend it with crontab -e')
    last = plain.index(end, first)
    return "".join([*lines[:first], block, *lines[last + 1 :]])


def _begin(entry: Entry) -> str:
    return f"# b2m {entry.name}: begin"


def _end(entry: Entry) -> str:
    return f"# b2m {entry.name}: end"


def _fields(entry: Entry) -> str:
    """When cron starts the line: minute, hour, day, month, weekday."""
    times = entry.schedule.times
    minutes = {minute for _, minute in times}
    step = 60 // len(minutes)
    if _asks_date(entry):
        minutes = {(minute + quarter) % 60 for minute in minutes for quarter in QUARTERS}
        return f"{','.join(map(str, sorted(minutes)))} * * * *"
    return "* * * * *" if step == 1 else f"*/{step} * * * *"


def _asks_date(entry: Entry) -> bool:
    """What begins every quarter of an hour or more often does so in every time zone."""
    every = entry.schedule.every
    return every is None or every > 15 * 60


def _command(entry: Entry) -> str:
    """The line for sh."""
    late = f"sleep {entry.seconds_late}; " if entry.seconds_late else ""
    command = f"{late}{entry.script(entry.sync, entry.pull)}"
    if not _asks_date(entry):
        return command
    times = entry.schedule.times
    hourly = len({hour for hour, _ in times}) == 24
    wanted = dict.fromkeys(f"*:{minute:02}" if hourly else f"{hour:02}:{minute:02}" for hour, minute in times)
    return f'case "$(TZ={entry.schedule.tz} date +%H:%M)" in {"|".join(wanted)}) ;; *) exit 0;; esac; {command}'


def _escaped(command: str) -> str:
    """In a crontab an unescaped % ends the command."""
    return command.replace("%", "\\%")


def _read() -> str:
    done = _crontab("-l")
    if done.returncode == 0:
        return _text(done.stdout)
    if b"no crontab for" in done.stderr:
        return ""
    raise errors.TaskFailed(what=f"crontab -l: {_text(done.stderr).strip()}")


def _install(text: str) -> None:
    done = _crontab("-", text)
    if done.returncode:
        raise errors.TaskFailed(what=f"crontab: {_text(done.stderr).strip()}; nothing was installed")


def _text(said: bytes) -> str:
    """Other people's lines may be in any encoding, and must come back as they are."""
    return said.decode(errors="surrogateescape")


def _crontab(argument: str, text: str | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["crontab", argument],
            input=None if text is None else text.encode(errors="surrogateescape"),
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except FileNotFoundError:
        raise errors.TaskFailed(what="there is no crontab here: install cron, or add --systemd") from None
    except subprocess.TimeoutExpired:
        raise errors.TaskFailed(what="crontab did not answer; look at it with: crontab -l") from None
