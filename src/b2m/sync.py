"""The main job: bring one database on one host, and its bucket, in step."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

from b2m import errors
from b2m.adoption import closest, install
from b2m.buckets.lease import acquire
from b2m.engine import Engine
from b2m.events import Events
from b2m.facts import Facts
from b2m.hosts import kept as keeping
from b2m.hosts.place import write_json
from b2m.opening import Opened, locked, opened
from b2m.plan import Step, plan, work_in
from b2m.project import Target
from b2m.report import Recap
from b2m.run import Run, merge_rules
from b2m.state import Verdict, classify
from b2m.versions import log
from b2m.wording import size

HEAL_VERSIONS = 5  # how many of the newest versions a file without an anchor is compared with
SPARE = 16 << 20  # bytes that must stay free beside what a run needs


@dataclass(frozen=True)
class Options:
    """How a sync is to be done; ``wait`` is seconds for a lock that somebody holds."""

    wait: float = 0.0
    message: str = ""
    command: str = "sync"
    only: tuple[str, ...] = field(default=("ready_to_upload", "outdated_db"))


def sync(target: Target, events: Events, options: Options = Options()) -> Recap:
    """Do what the playbook says for the state that the database is in, and return what came of it.

    Raises what made it fail, after undoing and after the playbook's ``on_refused`` or ``on_failed`` tasks; the recap
    is then in the error's ``recap`` attribute.
    """
    with locked(target, events, wait=options.wait) as found:
        carry_strays(found)
        facts = found.look()
        verdict = classify(facts)
        run = found.run(facts, options.message)
        if verdict.reason == "no_base" and heal(found, run):
            run.facts = found.look()
            verdict = classify(run.facts)
        engine = Engine(run)
        events.emit("state", db=target.db, host=target.host, state=verdict.state, reason=verdict.reason)
        before = verdict
        try:
            after = _sync(found, run, engine, verdict, options)
        except BaseException as error:
            recap = _recap(run, engine, before, None, found.began, getattr(error, "exit_code", 1))
            _record(found, recap, str(error))
            error.recap = recap  # type: ignore[attr-defined]
            raise
        recap = _recap(run, engine, before, after, found.began, 0)
        _record(found, recap, None)
        return recap


def heal(found: Opened, run: Run) -> bool:
    """Give a file without an anchor the one it must have started from: a recent version with the very same rows."""
    newest = reversed(log.numbers(found.bucket, found.target.db)[-HEAL_VERSIONS:])
    commit, changes = closest(found, run, newest)
    if changes.dirty:
        return False
    install(found, run, commit)
    run.events.emit("recovered", run=run.id, text=f"live has the rows of v{commit.number}, and starts from it now")
    return True


def conclude(found: Opened, run: Run, engine: Engine, before: Verdict) -> Recap:
    """Look again after a command that changed the host, save its record and return its recap."""
    recap = _recap(run, engine, before, _after(found, run), found.began, 0)
    _record(found, recap, None)
    return recap


def check(target: Target, events: Events) -> tuple[Facts, Verdict, list[Step]]:
    """Return the facts, the state and the plan of a sync, and change nothing."""
    with opened(target, events) as found:
        facts = found.look()
        verdict = classify(facts)
        run = found.run(facts)
        if verdict.state == "refused":
            return facts, verdict, []
        return facts, verdict, plan(target, target.tasks(verdict.state), facts, run.observed(state=verdict.state))


def _sync(found: Opened, run: Run, engine: Engine, verdict: Verdict, options: Options) -> Verdict:
    target = found.target
    try:
        if verdict.state in ("ready_to_upload", "outdated_db"):
            verdict = _work(found, run, engine, options)
        elif verdict.state == "up_to_date":
            tasks = target.tasks("up_to_date")
            if work_in(plan(target, tasks, run.facts, run.observed(state="up_to_date"))):
                engine.apply(tasks, state="up_to_date")
        elif verdict.state == "locked":
            _locked(run, engine)
        else:
            assert verdict.refusal is not None
            raise verdict.refusal
    except errors.Refused as refusal:
        engine.tell(target.tasks("on_refused"), state="refused", refusal=str(refusal), reason=refusal.reason)
        raise
    except (errors.TaskFailed, errors.UndoFailed, errors.BucketError, errors.HostUnreachable) as failure:
        engine.tell(target.tasks("on_failed"), state=verdict.state, failure=str(failure))
        raise
    return _after(found, run)


def _work(found: Opened, run: Run, engine: Engine, options: Options) -> Verdict:
    """Take the lease, look again under it, and run the scenario of the state that is then found."""
    target, session = found.target, found.session
    state_folder = session.place.state
    try:
        lease = acquire(
            found.bucket,
            target.db,
            owner=run.owner,
            host=target.host,
            work=session.place.work_id(),
            reason=options.command,
            ttl=target.policy.lease_ttl,
            wait=options.wait,
            seen=state_folder / "lease-seen.json",
        )
    except errors.Locked:
        run.facts = found.look()
        engine.tell(target.tasks("locked"), state="locked")
        raise
    with lease:
        run.lease = lease
        run.facts = found.look()
        verdict = classify(run.facts)
        if verdict.refusal is not None:
            raise verdict.refusal
        if verdict.state not in options.only:
            return verdict
        _check_space(run)
        if verdict.state != "up_to_date":
            engine.apply(target.tasks(verdict.state), state=verdict.state)
    return verdict


def _locked(run: Run, engine: Engine) -> None:
    engine.apply(run.target.tasks("locked"), state="locked")
    lease = run.facts.in_bucket.lease
    assert lease is not None
    raise errors.Locked(db=run.target.db, owner=lease.owner, since=lease.since)


def _after(found: Opened, run: Run) -> Verdict:
    """Look again; rows that came since the last look are the next run's, anything else would be a bug."""
    carry_strays(found)
    run.observe_locally()
    run.facts = replace(run.facts, in_bucket=replace(run.facts.in_bucket, lease=None))
    return classify(run.facts)


def carry_strays(found: Opened) -> None:
    """Bring home what somebody wrote to the file that was live before the last swap."""
    session = found.session
    kept = keeping.load(session.place)
    if kept is None:
        return
    changes = keeping.stray_changes(session.place, kept)
    if changes is None:
        return
    count = changes.counts.total
    found.events.warn(
        f"{found.target.db}: {count} rows were written to {kept.path} after it was replaced, by some process that "
        f"had it open still; they are replayed onto the live file"
    )
    keeping.carry_strays(session.place, kept, session.place.live(), merge_rules(found.target.policy))


def _check_space(run: Run) -> None:
    """Refuse before anything is done if the disk cannot hold the copies that the run makes."""
    facts = run.facts
    behind = facts.head is not None and (facts.anchor is None or facts.anchor.number != facts.head.number)
    needed = facts.live.size + SPARE
    if facts.head is not None and behind:
        needed += 2 * facts.head.size  # the anchor to be, and the candidate
    if facts.on_host.free < needed:
        raise errors.NoSpace(
            db=facts.db, folder=run.session.place.folder, free=size(facts.on_host.free), needed=size(needed)
        )


def _recap(run: Run, engine: Engine, before: Verdict, after: Verdict | None, began: float, code: int) -> Recap:
    counters = run.bucket.counters
    anchor = run.facts.anchor
    return Recap(
        db=run.target.db,
        host=run.target.host,
        run=run.id,
        before=before.state,
        after=after.state if after else "failed",
        reason=(after or before).reason,
        from_version=run.old_anchor.number if run.old_anchor else None,
        to_version=anchor.number if anchor else None,
        rows=dict(run.rows),
        tasks=dict(engine.tally),
        downtime_ms=round(run.downtime * 1000),
        holds=run.holds,
        bytes_up=counters.bytes_up,
        bytes_down=counters.bytes_down,
        requests=counters.requests,
        total_ms=round((time.monotonic() - began) * 1000),
        exit_code=code,
    )


def _record(found: Opened, recap: Recap, error: str | None) -> None:
    """Save the run's record on the host, and in the bucket if it did anything there."""
    record: dict[str, Any] = {"format": 1, **recap.to_json(), "error": error, "events": found.events.kept}
    folder = found.session.place.state / "runs"
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{recap.run}.json", record)
        for old in sorted(folder.glob("*.json"))[:-100]:
            old.unlink(missing_ok=True)
    if recap.tasks["changed"] or recap.tasks["failed"]:
        with contextlib.suppress(errors.BucketError):
            found.bucket.put(f"{recap.db}/runs/{recap.run}.json", json.dumps(record).encode())

