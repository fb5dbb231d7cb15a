"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``first`` is what a person must do before ``command`` helps, ``help`` a page."""

    name: str
    level: Level
    text: str
    command: str | None = None
    first: str | None = None
    help: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was looked at, what matters most first."""

    db: str
    host: str
    state: str | None
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        return not any(each.level == "bad" for each in self.findings)

    @property
    def next(self) -> Finding | None:
        """The finding to act on: the first bad one, else the first note that has a command."""
        bad = [each for each in self.findings if each.level == "bad"]
        notes = [each for each in self.findings if each.level == "note" and each.command]
        return next(iter(bad or notes), None)

    def to_json(self) -> dict[str, Any]:
        act = self.next
        return {
            "type": "doctor",
            "db": self.db,
            "host": self.host,
            "state": self.state,
            "healthy": self.healthy,
            "findings": [vars(each) for each in self.findings],
            "first": act.first if act else None,
            "next": act.command if act else None,
            "help": act.help if act else None,
        }

    def lines(self) -> list[str]:
        """Return the report for people."""
        found = [f"{self.db}@{self.host}  {'healthy' if self.healthy else 'needs attention'}"]
        found += [f"  {each.level:4}  {each.name:8}  {each.text}" for each in self.findings]
        act = self.next
        if act is not None and act.first:
            found.append(f"first: {act.first}")
        if act is not None and act.command:
            found.append(f"{'then' if act.first else 'next'}: {act.command}")
        if act is not None and act.help:
            found.append(f"see: {act.help}")
        return found
