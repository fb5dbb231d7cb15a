"""What the host shows: the lock, the journal, the server, files, the disk, the last runs."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from b2m import errors, records
from b2m.doctor.findings import Finding
from b2m.doctor.remedies import against, b2m
from b2m.facts import Facts
from b2m.hosts import anchor as anchors
from b2m.hosts import kept as keeping
from b2m.hosts import rehearsals
from b2m.hosts.lock import alive
from b2m.hosts.place import Place
from b2m.hosts.service import Service
from b2m.journal import Journal
from b2m.overview import ago
from b2m.project import Target
from b2m.records import Record
from b2m.state import Verdict
from b2m.sync import space_needed
from b2m.wording import size

DATED = re.compile(r"\d{4}-\d\d-\d\dT\S+ \S")

EXPECTED = (0, 4, 10)  # exit codes that are no failure


def lock(target: Target, place: Place, facts: Facts) -> Finding:
    """Who changes the database on this host now, or what a dead run left."""
    busy, journal = facts.on_host.busy, Journal(place.journal)
    if busy is not None:
        if alive(place.state / "lock"):
            return Finding("lock", "note", f"{busy} is at work since {busy.since}", b2m("status", facts))
        text = f"{busy} died; its guard gives the server back and then lets go of the lock"
        return Finding("lock", "note", text, b2m("sync", facts, "--wait 1m"))
    pending = journal.pending()
    if not pending.anything:
        return Finding("lock", "ok", "no run is under way here, and none was cut off")
    open_acts = {"hold": pending.hold, "switch": pending.switch, "publication": pending.publish}
    left = [act for act, entry in open_acts.items() if entry is not None]
    what = f"its {' and '.join(left)} must be settled" if left else "it left nothing to settle"
    if pending.hold is not None:
        what += f"; the server does not have the database: {_tried_next(target, pending.hold['service'])}"
    return Finding("lock", "bad", f"run {pending.run} was cut off: {what}", b2m("sync", facts))


def _tried_next(target: Target, held: dict[str, str]) -> str:
    """Say with which commands the next run gives the server back."""
    now = target.services.get(held["name"])
    then = f", then `{now.back}` of inventory.yaml" if now is not None and now.back != held["back"] else ""
    return f"the next run tries `{held['back']}` of the journal{then}"


def service(target: Target, facts: Facts) -> Finding:
    """Whether the server is well; it is asked as the inventory says."""
    if target.service is None:
        return Finding("service", "ok", "no service opens it here")
    asked = Service(**asdict(target.service))
    if not (asked.health_url or asked.health_command):
        return Finding("service", "note", f"{asked.name} has no health probe in inventory.yaml")
    problem = asked.problem()
    if problem is None:
        return Finding("service", "ok", f"{asked.name} is healthy")
    if facts.on_host.busy is not None:
        return Finding("service", "note", f"{asked.name} is away while a run holds it: {problem}")
    first = f"if {asked.name} runs and works, mend its health in inventory.yaml"
    if asked.verb == "disconnect":
        first += "; start it if it does not run: b2m only connects the database"
    command = f"cd {shlex.quote(asked.cwd)} && {asked.back}"
    return Finding("service", "bad", f"{asked.name} is not healthy: {problem}", command, first)


def anchor(place: Place, facts: Facts, deep: bool) -> Finding:
    """Whether the copy of the version that live started from is what it was."""
    if facts.anchor is None:
        return Finding("anchor", "ok" if not facts.live.exists else "note", "this host has none yet")
    path = anchors.path_of(place, facts.anchor)
    if not path.exists() or path.stat().st_size != facts.anchor.size:
        what = f"the anchor {path} is gone or cut off"
        return Finding("anchor", "bad", what, against("anchor_damaged", facts).command)
    if not deep:
        return Finding("anchor", "ok", f"v{facts.anchor.number} is there; --deep reads all of it")
    try:
        anchors.check(place, facts.anchor)
    except errors.AnchorDamaged as error:
        return Finding(
            "anchor", "bad", str(error).partition("; ")[0], against(error.reason, facts).command, help=error.help
        )
    return Finding("anchor", "ok", f"v{facts.anchor.number} is what it was")


def kept(place: Place, facts: Facts) -> Finding:
    """The file that was live before, and whether somebody writes to it still."""
    found = keeping.load(place)
    if found is None:
        return Finding("kept", "ok", "no earlier file is kept")
    if facts.on_host.stray_rows:
        text = f"{facts.on_host.stray_rows} rows were written to {found.path} after it was replaced"
        first = f"find the process that has it open: fuser {found.path}"
        return Finding("kept", "bad", text, b2m("sync", facts), first)
    room = size(Path(found.path).stat().st_size) if Path(found.path).exists() else "gone"
    return Finding("kept", "ok", f"{found.path} ({room}) is there for a rollback")


def leftovers(place: Place, facts: Facts) -> Finding:
    """Work folders of runs and rehearsals that were killed."""
    if facts.on_host.busy is not None:
        return Finding("leftover", "ok", "the work folders are in use")
    found = [*(place.state / "work").glob("*"), *rehearsals.leftovers(place)]
    if not found:
        return Finding("leftover", "ok", "no run left anything")
    room = sum(path.stat().st_size for folder in found for path in folder.rglob("*") if path.is_file())
    text = f"{len(found)} work folders ({size(room)}) of runs that were killed; the next run sweeps them"
    return Finding("leftover", "note", text)


def disk(place: Place, facts: Facts) -> Finding:
    """Whether the next run has room for its copies."""
    if not place.folder.is_dir():
        return Finding("disk", "bad", f"{place.folder} does not exist", b2m("status", facts), "mount it")
    needed, usage = space_needed(facts), shutil.disk_usage(place.folder)
    text = f"{size(usage.free)} of {size(usage.total)} are free, a run needs {size(needed)}"
    if usage.free >= needed:
        return Finding("disk", "ok", text)
    remedy = against("no_space", facts)
    help_ = errors.runbook(errors.NoSpace.exit_code, errors.NoSpace.reason)
    return Finding("disk", "bad", text, remedy.command, f"make room in {place.folder}", help_)


def runs(place: Place, facts: Facts, verdict: Verdict | None) -> Finding:
    """How the last run went, and when one last went well."""
    newest = next(records.newest_first(place), None)
    if newest is None:
        return Finding("runs", "ok", "no run is remembered here")
    good = records.last_sync(place)
    since = f"the last good sync was {_ago(good)}" if good else "no good sync is remembered"
    if newest.exit_code in EXPECTED:
        return Finding("runs", "ok", f"{newest.command} {_ago(newest)} went well; {since}")
    text = f"{newest.command} {_ago(newest)} ended with exit code {newest.exit_code}: {newest.error}; {since}"
    remedy, help_ = against(newest.reason, facts), errors.runbook(newest.exit_code, newest.reason)
    # Whatever was the matter then: now both sides are in step.
    over = verdict is not None and verdict.state == "up_to_date"
    return Finding("runs", "note" if over else "bad", f"run {newest.run}: {text}", remedy.command, remedy.first, help_)


def guard(place: Place) -> Iterator[Finding]:
    """What a guard process last did in place of a dead run."""
    try:
        text = (place.state / "guard.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    # A server's message may have several lines; the first has the date.
    said = [line for line in text.splitlines() if DATED.match(line)]
    if said:
        yield Finding("guard", "note", f"it last had to act: {said[-1]}")


def _ago(record: Record) -> str:
    return ago((datetime.now(UTC) - record.began).total_seconds())
