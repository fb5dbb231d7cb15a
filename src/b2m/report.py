"""What a command prints: lines for people, or JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

from b2m.events import Event, Sink
from b2m.facts import Facts
from b2m.plan import Step
from b2m.state import Verdict
from b2m.terminal import coloured
from b2m.wording import size


@dataclass(frozen=True)
class Recap:
    """What a run did, in the fields of ``--json``; times in ms, sizes in bytes."""

    db: str
    host: str
    run: str
    before: str
    after: str
    from_version: int | None
    to_version: int | None
    rows: Mapping[str, int]
    tasks: Mapping[str, int]
    downtime_ms: int
    holds: int
    bytes_up: int
    bytes_down: int
    requests: int
    total_ms: int
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "recap", **asdict(self)}

    def line(self) -> str:
        """Return the recap as one line in fixed order."""
        counts = self.tasks
        tasks = f"ok={counts['ok']} changed={counts['changed']} failed={counts['failed']}"
        if counts["undone"]:
            tasks += f" undone={counts['undone']}"
        parts = [
            f"{self.db}@{self.host}",
            f"{self.before} -> {self.after}",
            f"{version(self.from_version)} -> {version(self.to_version)}",
            f"rows +{self.rows['inserted']} ~{self.rows['updated']} -{self.rows['deleted']}",
            f"tasks {tasks}",
            # After exit code 7 the server is away still.
            f"downtime {self.downtime_ms / 1000:.1f}s{' and counting' if self.exit_code == 7 and self.holds else ''}",
            f"up {size(self.bytes_up)}",
            f"total {self.total_ms / 1000:.1f}s",
            f"run {self.run}",
        ]
        return "  ".join(parts)


def version(number: int | None) -> str:
    return "-" if number is None else f"v{number}"


def status_json(facts: Facts, verdict: Verdict) -> dict[str, Any]:
    """Return a database's status in the fields of ``--json``."""
    live, anchor, head, lease = facts.live, facts.anchor, facts.head, facts.in_bucket.lease
    pause = facts.in_bucket.pause
    return {
        "type": "status",
        "db": facts.db,
        "host": facts.host,
        "state": verdict.state,
        "reason": verdict.reason,
        "dirty": live.dirty,
        "live": {"file": live.name if live.exists else None, "version": anchor.number if anchor else None},
        "anchor": {"version": anchor.number, "commit": anchor.token} if anchor else None,
        "head": {"version": head.number, "commit": head.token} if head else None,
        "lease": {"owner": lease.owner, "host": lease.host, "since": lease.since, "reason": lease.reason}
        if lease
        else None,
        "pause": {"owner": pause.owner, "until": pause.ends, "reason": pause.reason} if pause else None,
    }


def status_line(facts: Facts, verdict: Verdict) -> str:
    """Return a database's status as one line: ``ipm@prod  ready_to_upload  live ipm-db-v5.db v5*  bucket v5``."""
    live, anchor = facts.live, facts.anchor
    mark = "*" if live.dirty else ""
    shown = version(anchor.number if anchor else live.file_version) + mark if live.exists else "-"
    parts = [
        f"{facts.db}@{facts.host}",
        verdict.state + (f" ({verdict.reason})" if verdict.reason else ""),
        f"live {live.name if live.exists else '-'} {shown}",
        f"bucket {version(facts.head.number if facts.head else None)}",
    ]
    parts += notes(facts)
    return "  ".join(parts)


def notes(facts: Facts) -> list[str]:
    """Return what is worth a word beside a database's state."""
    live, host, bucket = facts.live, facts.on_host, facts.in_bucket
    found = []
    if live.changed_rows:
        found.append(f"rows +{live.inserted} ~{live.updated} -{live.deleted}")
    if live.schema_changed:
        found.append("schema changed")
    if host.busy:
        found.append(f"held by {host.busy} since {host.busy.since}")
    elif bucket.lease:
        found.append(f"held by {bucket.lease.owner} since {bucket.lease.since}")
    if bucket.pause:
        found.append(bucket.pause.line())
    if host.stray_rows:
        found.append(f"{host.stray_rows} rows written to the replaced file")
    return found


def plan_lines(steps: list[Step]) -> list[str]:
    """Return a plan as indented lines."""
    return [
        f"{'  ' * step.depth}{'skip' if step.skip else 'run '}  {step.module:9} {step.name}"
        + (f"  ({step.skip})" if step.skip else "")
        for step in steps
    ]


def json_sink(out: IO[str]) -> Sink:
    """Return a sink that prints every event as a JSON line."""

    def sink(event: Event) -> None:
        print(json.dumps(event, default=str), file=out, flush=True)

    return sink


class Console:
    """A sink for people: a line a finished task, warnings, and progress of what takes longer than a second."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._colour = coloured(self._out)
        self._progress: Any = None
        self._bar: Any = None
        self._shown = 0.0

    def __call__(self, event: Event) -> None:
        kind = event["type"]
        if kind == "progress":
            self._show_progress(event)
            return
        self._end_progress()
        if kind == "task" and event["status"] != "started":
            took = f"  {event['ms'] / 1000:.1f}s" if event.get("ms", 0) >= 100 else ""
            detail = f"  {event['detail']}" if event.get("detail") else ""
            self._line(f"{event['status']:8} {event['name']}{detail}{took}", event["status"])
        elif kind == "state":
            reason = f" ({event['reason']})" if event["reason"] else ""
            self._line(f"{event['db']}@{event['host']} is {event['state']}{reason}", "state")
        elif kind == "undone":
            self._line(f"undone   {event['name']}", "undone")
        elif kind == "kept":
            self._line(f"kept     {event['text']}", "undone")
        elif kind == "undo_failed":
            self._line(f"failed   to undo {event['name']}: {event['text']}", "failed")
        elif kind == "warning":
            self._line(f"warning  {event['text']}", "undone")
        elif kind == "recovering":
            self._line(f"run {event['run']} was cut off; settling it first", "undone")
        elif kind == "recovered":
            self._line(f"settled  {event['text']}", "ok")

    def _line(self, text: str, status: str) -> None:
        colours = {"changed": "33", "ok": "32", "failed": "31", "skipped": "2", "undone": "35", "state": "1"}
        if self._colour and status in colours:
            text = f"\x1b[{colours[status]}m{text}\x1b[0m"
        print(text, file=self._out, flush=True)

    def _show_progress(self, event: Event) -> None:
        if self._progress is None:
            # Only what lasts is worth a bar: the first second of a step shows nothing.
            if not self._shown:
                self._shown = event["at"]
            if event["at"] - self._shown < 1.0:
                return
            if not self._terminal:
                self._shown = event["at"] + 4.0  # in a log, a line every five seconds
                share = 100 * event["done"] // max(1, event["total"])
                print(f"...      {event['what']} {share} %", file=self._out, flush=True)
                return
            from rich.console import Console as RichConsole
            from rich.progress import Progress

            self._progress = Progress(console=RichConsole(file=self._out), transient=True)
            self._progress.start()
            self._bar = self._progress.add_task(event["what"], total=event["total"])
        self._progress.update(self._bar, completed=event["done"], total=event["total"], description=event["what"])

    def _end_progress(self) -> None:
        self._shown = 0.0
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._bar = None
