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

_CHANGE = """\
command -v crontab >/dev/null 2>&1 || {{ echo b2m-no-crontab; exit 0; }}
old=$(crontab -l 2>&1) || case $old in *"no crontab for"*) old= ;; *) echo "$old" >&2; exit 1 ;; esac
{{ [ -z "$old" ] || printf '%s\\n' "$old" | grep -vxF -e {line}; {add}; }} | crontab -"""


def install(target: Target) -> bool:
    """Let a host settle a database's folder at boot; False if it has no crontab. HostUnreachable, TaskFailed."""
    return _change(target, f"printf '%s\\n' {shlex.quote(_line(target))}")


def remove(target: Target) -> bool:
    """Take that line out again; False if the host has no crontab. HostUnreachable, TaskFailed."""
    return _change(target, "true")


def _change(target: Target, add: str) -> bool:
    script = _CHANGE.format(line=shlex.quote(_line(target)), add=add)
    with Ssh(Address.of(target.host, target.address)) as ssh:
        ran = ssh.run(f"exec /bin/sh -c {shlex.quote(script)}", timeout=TIMEOUT)
    if ran.code:
        raise errors.TaskFailed(what=f"{target.host}: its crontab cannot be changed: {ran.last_words}")
    return "b2m-no-crontab" not in ran.text


def _line(target: Target) -> str:
    """Return the line for a database's folder; cron starts in the login's home, and % would end the command."""
    home_is_here = "." if str(target.folder) == "~" else str(target.folder).removeprefix("~/")
    folder = shlex.quote(home_is_here).replace("%", r"\%")
    return f'@reboot "$HOME/.b2m/current/venv/bin/python" -I -m b2m.hosts.recovery {folder}'
