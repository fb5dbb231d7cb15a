"""The main job: bring one database on one host, and its bucket, in step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from b2m import errors
from b2m.adoption import closest, install
from b2m.buckets.lease import Lease, acquire
from b2m.ending import carry_strays, ended
from b2m.engine import Engine
from b2m.events import Events
from b2m.facts import BucketFacts, Facts, HostFacts, Live
from b2m.opening import Opened, locked, opened
from b2m.plan import Step, plan
from b2m.project import Target
from b2m.project.problems import suggest
from b2m.report import Recap
from b2m.run import Run
from b2m.sqlite.schema import read_schema
from b2m.state import Verdict, classify
from b2m.versions import log
from b2m.wording import size

HEAL_VERSIONS = 5  # how many of the newest versions a file without an anchor is compared with
FAILURES = (errors.TaskFailed, errors.UndoFailed, errors.BucketError, errors.HostUnreachable)
SPARE = 16 << 20  # bytes that must stay free beside what a run needs


@dataclass(frozen=True)
class Options:
    """How a sync is to be done.

    ``wait`` is seconds for a lock that somebody holds; ``publish_only`` refuses an outdated database.
    """

    wait: float = 0.0
    message: str = ""
    command: str = "sync"
    publish_only: bool = False


def sync(target: Target, events: Events, options: Options = Options()) -> Recap:
    """Do what the playbook says for the state that the database is in, and return what came of it.

    Raises what made it fail, after undoing and after the playbook's ``on_refused`` or ``on_failed`` tasks; the recap
    is then in the error's ``recap`` attribute.
    """
    with _told(target, events), locked(target, events, wait=options.wait) as found:
        carry_strays(found)
        facts = found.look()
        verdict = classify(facts)
        run = found.run(facts, options.message)
        if verdict.reason == "no_base" and heal(found, run):
            run.facts = found.look()
            verdict = classify(run.facts)
        engine = Engine(run)
        events.emit("state", db=target.db, host=target.host, state=verdict.state, reason=verdict.reason)
        if verdict.state == "outdated_db":
            for what in merge_problems(found):
                events.warn(what)
        return ended(
            found,
            run,
            engine,
            verdict,
            lambda: _sync(found, run, engine, verdict, options),
            command=options.command,
            then=lambda recap: _tell_success(engine, recap),
        )


@contextmanager
def _told(target: Target, events: Events) -> Iterator[None]:
    """Let the playbook tell also of what went wrong before there was anything to run, when nothing could be seen."""
    try:
        yield
    except (errors.Refused, *FAILURES) as error:
        if getattr(error, "recap", None) is None:
            with opened(target, events) as found:
                live = Live(path=str(target.folder), name="")
                _tell(Engine(found.run(found.facts(HostFacts(live), BucketFacts()))), error, "failed")
        raise


def _tell(engine: Engine, error: errors.B2mError, state: str) -> None:
    """Run the playbook's ``on_refused`` or ``on_failed`` tasks."""
    target = engine.run.target
    if isinstance(error, errors.Refused):
        engine.tell(target.tasks("on_refused"), state="refused", refusal=str(error), reason=error.reason)
    else:
        engine.tell(target.tasks("on_failed"), state=state, failure=str(error))


def _tell_success(engine: Engine, recap: Recap) -> None:
    """Run the playbook's ``on_success`` tasks."""
    known = {
        "line": recap.line(),
        "changed": recap.tasks["changed"] > 0,
        "before": recap.before,
        "after": recap.after,
        "from_version": recap.from_version,
        "to_version": recap.to_version,
        "rows": dict(recap.rows),
    }
    engine.tell(engine.run.target.tasks("on_success"), state=recap.after, recap=known)


def heal(found: Opened, run: Run) -> bool:
    """Give a file without an anchor the one it must have started from: a recent version with the very same rows."""
    newest = reversed(log.numbers(found.bucket, found.target.db)[-HEAL_VERSIONS:])
    commit, changes = closest(found, run, newest)
    if changes.dirty:
        return False
    install(found, run, commit)
    run.events.emit("recovered", run=run.id, text=f"live has the rows of v{commit.number}, and starts from it now")
    return True


def merge_problems(found: Opened) -> list[str]:
    """Return what ``policy.merge`` names and the live file does not have: such a rule settles nothing.

    Each is ``file:line:column: what``; nothing is looked for where there is no live file, or a run is at it.
    """
    playbook, session = found.target.playbook, found.session
    rules = playbook.policy.merge.tables
    if not rules or not session.place.live().exists():
        return []
    with session.live.file().reading() as conn:
        known = read_schema(conn).tables
    wrong = []
    for name, rule in rules.items():
        path = ("policy", "merge", "tables", name)
        table = known.get(name)
        if table is None:
            what = f"{session.place.live().name} has no table {name}{suggest(name, known)}"
            wrong.append(f"{playbook.document.key_at(path)}: {what}")
        elif rule.by is not None and rule.by not in table.values:
            what = f"{name} has no column {rule.by}{suggest(rule.by, table.values)}"
            wrong.append(f"{playbook.document.at((*path, 'by'))}: {what}")
    return wrong


def check(target: Target, events: Events) -> tuple[Facts, Verdict, list[Step]]:
    """Return the facts, the state and the plan of a sync, and change nothing."""
    with opened(target, events) as found:
        facts = found.look()
        verdict = classify(facts)
        run = found.run(facts)
        if facts.on_host.busy is None and facts.on_host.problem is None:
            for what in merge_problems(found):
                events.warn(what)
        if verdict.state == "refused":
            return facts, verdict, []
        return facts, verdict, plan(target, target.tasks(verdict.state), facts, run.observed(state=verdict.state))


def _sync(found: Opened, run: Run, engine: Engine, verdict: Verdict, options: Options) -> None:
    target = found.target
    refuse_if_paused(run.facts)
    try:
        if verdict.state in ("ready_to_upload", "outdated_db", "locked"):
            # A lease that looks taken is asked for too: its holder may be done in a moment, or long dead.
            _work(found, run, engine, options)
        elif verdict.state == "up_to_date":
            tasks = target.tasks("up_to_date")
            steps = plan(target, tasks, run.facts, run.observed(state="up_to_date"))
            if any(step.skip is None for step in steps):
                engine.apply(tasks, state="up_to_date")
        else:
            assert verdict.refusal is not None
            raise verdict.refusal
    except (errors.Refused, *FAILURES) as error:
        _tell(engine, error, verdict.state)
        raise


def _work(found: Opened, run: Run, engine: Engine, options: Options) -> None:
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
    with _held(run, lease):
        run.facts = found.look()
        refuse_if_paused(run.facts)
        verdict = classify(run.facts)
        if verdict.refusal is not None:
            raise verdict.refusal
        if verdict.state == "outdated_db" and options.publish_only:
            assert run.facts.head is not None
            raise errors.NotOnHead(db=target.db, host=target.host, head=run.facts.head.number)
        if verdict.state != "up_to_date":
            check_space(run)
            check_owner(run)
            if verdict.state == "outdated_db":
                check_file_system(run)
            engine.apply(target.tasks(verdict.state), state=verdict.state)


@contextmanager
def _held(run: Run, lease: Lease) -> Iterator[None]:
    """Let a run have a lease; no signal keeps it from being given back."""
    run.lease = lease
    try:
        yield
    except BaseException as error:
        with run.shielded():
            lease.__exit__(type(error), error, None)
        raise
    with run.shielded():
        lease.release()


def refuse_if_paused(facts: Facts) -> None:
    """Raise Paused if somebody asked every runner to leave the database alone for now."""
    pause = facts.in_bucket.pause
    if pause is not None:
        raise errors.Paused(db=facts.db, until=pause.ends, owner=pause.owner, why=pause.reason)


def space_needed(facts: Facts) -> int:
    """Return how many bytes must be free for the copies that a run makes."""
    behind = facts.head is not None and (facts.anchor is None or facts.anchor.number != facts.head.number)
    needed = facts.live.size + SPARE
    if facts.head is not None and behind:
        needed += facts.live.size + 2 * facts.head.size  # the anchor to be, and the candidate
    return needed


def check_space(run: Run) -> None:
    """Refuse before anything is done if the disk cannot hold the copies that the run makes."""
    facts, needed = run.facts, space_needed(run.facts)
    if facts.on_host.free < needed:
        raise errors.NoSpace(
            db=facts.db, folder=run.session.place.folder, free=size(facts.on_host.free), needed=size(needed)
        )


def check_file_system(run: Run) -> None:
    """Refuse before anything is done if no file could take live's place under the name that it keeps, in one step."""
    place = run.session.place
    path = place.live()
    if place.versioned or not path.parent.exists() or path.parent.stat().st_dev == place.state.stat().st_dev:
        return
    what = f"it is on another file system than {place.folder}, so no file from there can take its place at once"
    raise errors.Unreadable(db=run.target.db, path=path, what=f"{what}: name its own folder in inventory.yaml")


def check_owner(run: Run) -> None:
    """Refuse before anything is done if the file that takes live's place could not be given to live's owner."""
    path = run.session.place.live()
    if os.geteuid() == 0 or not path.exists():
        return
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_gid not in {os.getegid(), *os.getgroups()}:
        what = f"it belongs to user {found.st_uid} and group {found.st_gid}, to whom this user cannot give a new file"
        raise errors.Unreadable(db=run.target.db, path=path, what=f"{what}: run b2m as that user, in that group")
