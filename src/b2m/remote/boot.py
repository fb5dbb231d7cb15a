"""A line in a host's crontab that settles at boot what a run left that died with the machine.

The next run would do it too, but it may be a day away, and the server starts before.
"""

from __future__ import annotations

import shlex

from b2m import errors
from b2m.project import Target
from b2m.remote.address import Address
from b2m.remote.ssh import Ssh

TIMEOUT = 30.0  # seconds for a command there

_WITHOUT = "crontab -l 2>/dev/null | grep -vF {mark}"
_WRITE = """\
command -v crontab >/dev/null 2>&1 || {{ echo b2m-no-crontab; exit 0; }}
{{ {without}; {line}; }} | crontab -"""


def install(target: Target) -> bool:
    """Let a host settle a database's folder at boot; False if it has no crontab. HostUnreachable, TaskFailed."""
    # A percent sign would end a line of a crontab.
    folder = shlex.quote(_folder(target)).replace("%", r"\%")
    line = f'@reboot "$HOME/.b2m/current/venv/bin/python" -I -m b2m.hosts.recovery {folder} {_mark(target)}'
    return _change(target, f"printf '%s\\n' {shlex.quote(line)}")


def remove(target: Target) -> bool:
    """Take that line out again; False if the host has no crontab. HostUnreachable, TaskFailed."""
    return _change(target, "true")


def _change(target: Target, line: str) -> bool:
    without = _WITHOUT.format(mark=shlex.quote(_mark(target)))
    with Ssh(Address.of(target.host, target.address)) as ssh:
        ran = ssh.run(_WRITE.format(without=without, line=line), timeout=TIMEOUT)
    if ran.code:
        raise errors.TaskFailed(what=f"{target.host}: its crontab cannot be changed: {ran.last_words}")
    return "b2m-no-crontab" not in ran.text


def _folder(target: Target) -> str:
    """Return the folder of a database, as cron starts in the login's home."""
    folder = str(target.folder)
    return folder.removeprefix("~/") if folder.startswith("~/") else folder


def _mark(target: Target) -> str:
    # cron has no comments behind a command, but the shell that runs it has.
    return f"# b2m recover {_folder(target)}"
