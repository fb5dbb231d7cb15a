"""What ``b2m bootstrap --check`` says about a host; it changes nothing there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from b2m import errors
from b2m.remote.bootstrap import QUICK, ROOM, Found, agent_command, look, obstacle, version_id
from b2m.remote.channel import MAGIC, PROTOCOL
from b2m.remote.ssh import Ssh
from b2m.wording import size

Level = Literal["ok", "note", "missing", "bad"]
FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))  # where SQLite's WAL-reset bug is fixed, a release of each line


@dataclass(frozen=True)
class Row:
    """One thing that was looked at; ``missing`` is what a bootstrap brings, ``bad`` what it cannot."""

    name: str
    level: Level
    text: str


@dataclass(frozen=True)
class Report:
    """All that was looked at on a host."""

    host: str
    rows: tuple[Row, ...]

    @property
    def exit_code(self) -> int:
        """0 if b2m can work there, 10 if a bootstrap is needed, 5 if something is in its way."""
        levels = {row.level for row in self.rows}
        if "bad" in levels:
            return errors.HostUnreachable.exit_code
        return errors.ChangesPending.exit_code if "missing" in levels else 0

    @property
    def verdict(self) -> str:
        return {0: "ready", 10: f"needs: b2m bootstrap --host {self.host}"}.get(self.exit_code, "b2m cannot work there")

    def lines(self) -> list[str]:
        """Return the report for people."""
        return [f"{self.host}  {self.verdict}", *(f"  {row.level:7}  {row.name:9}  {row.text}" for row in self.rows)]

    def to_json(self) -> dict[str, Any]:
        rows = [vars(row) for row in self.rows]
        return {"type": "bootstrap_check", "host": self.host, "exit_code": self.exit_code, "findings": rows}


def check(ssh: Ssh) -> Report:
    """Look at what a host has for b2m, and what is missing there; HostUnreachable if it cannot be looked at."""
    found = look(ssh)
    if found is None:
        return Report(ssh.address.host, (Row("python", "bad", obstacle(None) or ""),))
    return Report(ssh.address.host, (*_rows(found), *_agent(ssh, found), *_notes(found)))


def _rows(found: Found) -> list[Row]:
    python = f"{'.'.join(map(str, found.version))} ({found.python})"
    why = obstacle(found)
    rows = [Row("python", "ok", python)]
    if why is not None:
        # A host on which b2m works already needs no room for another one.
        rows.append(Row("obstacle", "note" if found.current == version_id() else "bad", why))
    without = "none (Debian: python3-venv); the bootstrap ships pip instead"
    rows.append(Row("ensurepip", "ok" if found.ensurepip else "note", "there" if found.ensurepip else without))
    rows.append(Row("space", "ok", f"{size(found.free)} free in {found.home}, an installation takes {size(ROOM)}"))
    return rows


def _agent(ssh: Ssh, found: Found) -> list[Row]:
    here = version_id()
    if found.current is None:
        return [Row("b2m", "missing", f"none is installed; here is {here}")]
    said = hello(ssh)
    if said is None:
        return [Row("b2m", "missing", f"{found.current} does not start (was its Python updated?); here is {here}")]
    speaks = f"its agent starts and speaks protocol {said['protocol']}"
    if said["protocol"] != PROTOCOL:
        return [Row("b2m", "missing", f"{found.current}; {speaks}, this one {PROTOCOL}")]
    same = found.current == here
    other = f"{found.current}, here is {here}: another build; {speaks}, which will do"
    return [Row("b2m", "ok" if same else "note", f"{here}; {speaks}" if same else other)]


def _notes(found: Found) -> list[Row]:
    rows = []
    if found.sqlite:
        text = f"{found.sqlite} is what the host's Python has; b2m brings its own"
        if not wal_is_safe(found.sqlite):
            text = f"{found.sqlite} has the WAL-reset bug; the server there should use 3.51.3, 3.50.7 or 3.44.6"
        rows.append(Row("sqlite", "ok" if wal_is_safe(found.sqlite) else "note", text))
    if found.kills:
        text = "KillUserProcesses=yes would kill the guard of a run that was cut off; run there: loginctl enable-linger"
        rows.append(Row("systemd", "note", text))
    return rows


def hello(ssh: Ssh) -> dict[str, Any] | None:
    """Start the agent and let it end again; return what it said of itself, None if it did not start."""
    ran = ssh.run(agent_command(), timeout=QUICK, input=b"")
    for line in ran.out.splitlines():
        if line.startswith(MAGIC):
            said: dict[str, Any] = json.loads(line.removeprefix(MAGIC))
            return said
    return None


def wal_is_safe(version: str) -> bool:
    """Tell whether a release of SQLite is without the WAL-reset bug (3.7.0 to 3.51.2, mended in two older lines)."""
    number = tuple(int(part) for part in version.split(".")[:3])
    if number < (3, 7, 0) or number >= FIXED[-1]:
        return True
    return any(number[:2] == fixed[:2] and number >= fixed for fixed in FIXED)
