"""Commands that change a host without publishing: download, rollback, adopt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from b2m import errors
from b2m.adoption import known_version
from b2m.ending import carry_strays, ended
from b2m.engine import Engine, Work
from b2m.events import Events
from b2m.facts import Facts
from b2m.hosts import anchor as anchors
from b2m.hosts import kept as keeping
from b2m.hosts import swapping
from b2m.hosts.anchor import Anchor
from b2m.hosts.kept import Kept
from b2m.modules.base import Module, Outcome
from b2m.modules.download import Download
from b2m.modules.hold import Hold
from b2m.modules.replay import Replay
from b2m.modules.snapshot import Snapshot
from b2m.modules.swap import Swap
from b2m.modules.verify import Verify
from b2m.opening import Opened, locked
from b2m.project import Target
from b2m.report import Recap
from b2m.run import Run
from b2m.sqlite.snapshot import copy_file
from b2m.state import Verdict, classify
from b2m.sync import check_file_system
from b2m.versions import log, pack


class Backup(Module):
    """Move a snapshot to the state folder's backups, so that its rows may be dropped from live."""

    key: ClassVar[str] = "backup"

    def apply(self, run: Run) -> Outcome:
        session = run.session
        target = session.place.state / "backups" / f"{session.run}.{run.facts.live.name}"
        target.parent.mkdir(exist_ok=True)
        # A copy, since the snapshot stays the base from which late rows are found.
        copy_file(session.work.paths["ours"], target)
        session.work.consume("ours", "candidate", target)
        # Of what was dropped, the candidate knows nothing: a row that is written from now on counts as it is.
        run.rules = swapping.CARRY
        run.events.emit("message", text=f"the rows in no version are saved in {target}")
        return Outcome("changed", str(target))


class Restore(Module):
    """Put the kept file back, with the rows written to its successor since."""

    key: ClassVar[str] = "restore"

    origin: tuple[Anchor, Path] | None = Field(description="what the kept file starts from when it is live again")

    def apply(self, run: Run) -> Outcome:
        session = run.session
        kept = keeping.load(session.place)
        assert kept is not None
        with run.shielded():
            live = swapping.restore(session, kept, session.work.paths["successor"], self.origin)
        run.note_live(live)
        return Outcome("changed", f"{live.name} is live")


def download(target: Target, events: Events, *, version: int | None, discard: bool) -> Recap:
    """Put a version live. Rows in no version are refused, or with ``discard`` backed up and dropped."""
    with locked(target, events) as found:
        facts = _usable(found, discard=discard)
        if facts.head is None:
            raise errors.NothingHere(db=target.db, host=target.host, path=facts.live.path)
        wanted = version or facts.head.number
        if version is not None:
            known_version(found, version)
        if facts.live.exists and facts.live.dirty and not discard:
            path, count = facts.live.path, facts.live.changed_rows or "unknown"
            raise errors.UnsavedRows(db=target.db, host=target.host, path=path, rows=count)
        run = found.run(facts)
        engine = Engine(run)
        same = facts.anchor is not None and facts.anchor.number == wanted and facts.in_bucket.ancestry == "ok"
        if same and facts.live.exists and not facts.live.dirty:
            return ended(found, run, engine, Verdict("up_to_date"), lambda: None, command="download")
        check_file_system(run)
        service = target.service.name if target.service else None
        steps = [Work("Get the version", Download.model_validate({"version": wanted}))]
        if facts.live.exists:
            steps.append(Work("Copy the live file", Snapshot.model_validate({})))
            steps.append(Work("Save its rows", Backup()) if discard else _carry())
        checks = ["integrity", "foreign_keys", "rows"]
        steps.append(Work("Check the version", Verify.model_validate({"checks": checks})))
        late = (Work("Take the late rows", Replay.model_validate({"from": "live"})),) if facts.live.exists else ()
        put = Work("Put it live", Swap.model_validate({}))
        steps.append(Work("Swap while the server is away", Hold(service=service), (*late, put)))
        before = classify(facts)
        return ended(found, run, engine, before, lambda: engine.apply(steps, state="outdated_db"), command="download")


def _carry() -> Work:
    return Work("Replay the server's rows", Replay.model_validate({"from": "ours"}))


def rollback(target: Target, events: Events) -> Recap:
    """Make the kept file live again, with every row that was written since."""
    with locked(target, events) as found:
        carry_strays(found)
        facts = found.look()
        if isinstance(facts.on_host.problem, errors.ReplacedLive):
            raise facts.on_host.problem
        kept = keeping.load(found.session.place)
        if kept is None:
            raise errors.NothingKept(db=target.db, host=target.host)
        run = found.run(facts)
        engine = Engine(run)
        successor = run.session.work.paths["successor"] = _successor(found, run, kept)
        origin = swapping.origin(run.session, kept, successor, run.session.work.paths.get("base"))
        service = target.service.name if target.service else None
        restore = Work("Put the kept file back", Restore(origin=origin))
        steps = [Work("Go back while the server is away", Hold(service=service), (restore,))]
        before = classify(facts)
        return ended(found, run, engine, before, lambda: engine.apply(steps, state="rollback"), command="rollback")


def _successor(found: Opened, run: Run, kept: Kept) -> Path:
    """Rebuild what the live file held when it replaced the kept one, from versions in the bucket."""
    head = _version_file(found, run, Anchor.from_json(dict(kept.head)), "head")
    base = _version_file(found, run, Anchor.from_json(dict(kept.anchor)), "base") if kept.anchor else None
    return swapping.rebuild_successor(found.session, kept, head, base, run.rules)


def _version_file(found: Opened, run: Run, anchor: Anchor, name: str) -> Path:
    session = found.session
    here = anchors.path_of(session.place, anchor)
    if here.exists() or anchor.derived:
        return anchors.check(session.place, anchor)
    target = session.place.work(session.run) / f"{name}.db"
    commit = log.read(found.bucket, found.target.db, anchor.number)
    if commit.token != anchor.token:
        raise errors.ChangedUnderNumber(db=found.target.db, version=anchor.number)
    pack.fetch(found.bucket, commit, target)
    if name == "base":
        session.work.paths["base"] = target
    return target


def _usable(found: Opened, *, discard: bool) -> Facts:
    """Return the facts, or raise why a download cannot start from them."""
    carry_strays(found, discard=discard)
    facts = found.look()
    verdict = classify(facts)
    allowed = ("read_only_host", "no_base", "diverged", "live_missing", "changed_under_number", "anchor_damaged")
    if verdict.refusal is not None and verdict.reason not in allowed:
        raise verdict.refusal
    if verdict.reason == "anchor_damaged":
        return replace(facts, on_host=replace(facts.on_host, live=replace(facts.live, dirty=True)))
    return facts
