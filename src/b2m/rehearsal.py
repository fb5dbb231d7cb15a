"""A rehearsal of a sync: what can be tried without changing anything is tried, in a throwaway folder.

The playbook's own tasks are run: versions are downloaded, live is copied, rows are replayed and verified. Nobody is
held, nothing goes live and nothing is sent. A real run that begins meanwhile ends the rehearsal, never the other way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from b2m import errors, faults, records
from b2m.buckets.dry import DryBucket
from b2m.engine import Engine, Work
from b2m.events import Events
from b2m.facts import Facts
from b2m.hosts import rehearsals
from b2m.hosts.lock import holder
from b2m.hosts.session import Session
from b2m.modules.base import Module, Outcome
from b2m.modules.download import Download
from b2m.modules.hold import Hold
from b2m.modules.replay import Replay
from b2m.modules.snapshot import Snapshot
from b2m.modules.swap import Swap
from b2m.modules.upload import Upload
from b2m.modules.verify import Verify
from b2m.opening import Opened, opened
from b2m.plan import plan, work_in
from b2m.project import Limits, Target, Task
from b2m.run import Run
from b2m.sqlite.rules import check_deletes
from b2m.state import Verdict, classify
from b2m.sync import check_space
from b2m.versions import log
from b2m.wording import rows, size

SHOWN = 20  # conflicts
LOOK_EVERY = 0.2  # seconds between two looks for a real run


@dataclass(frozen=True)
class Downtime:
    """What a hold would take, in ms: b2m's own work, measured, and what the last hold here took in all."""

    late_rows_ms: int
    last_ms: int | None
    last_run: str | None


@dataclass(frozen=True)
class Rehearsed:
    """What a sync would come to; ``upload`` is in bytes, None if nothing would be sent; ``holds`` says how often."""

    facts: Facts
    verdict: Verdict
    work: bool
    refusal: errors.B2mError | None = None
    conflicts: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=lambda: {"inserted": 0, "updated": 0, "deleted": 0})
    upload: int | None = None
    holds: int = 0
    downtime: Downtime | None = None
    bytes_down: int = 0

    @property
    def exit_code(self) -> int:
        """0 nothing to do, 4 locked, 10 work that would go well, else the refusal's."""
        if self.refusal is not None:
            return self.refusal.exit_code
        return 4 if self.verdict.state == "locked" else 10 if self.work else 0


def rehearse(target: Target, events: Events) -> Rehearsed:
    """Try a sync in a throwaway folder and say what would come of it; Locked if a real run is, or gets, under way."""
    with opened(target, events) as found:
        facts = found.look()
        verdict = classify(facts)
        if verdict.refusal is not None:
            return Rehearsed(facts, verdict, False, verdict.refusal)
        tasks = target.tasks(verdict.state)
        observed = found.run(facts).observed(state=verdict.state)
        work = verdict.state != "locked" and work_in(plan(target, tasks, facts, observed))
        if not work or verdict.state == "up_to_date":
            return Rehearsed(facts, verdict, work)
        found.session.close()
        with rehearsals.scratch(found.session.place, found.run_id) as place:
            session = Session(place, found.run_id, _reported(events), _giving_way(found))
            try:
                run = replace(found, session=session).run(facts)
                return _rehearsed(run, tasks, verdict)
            finally:
                session.close()


def _rehearsed(run: Run, tasks: Iterable[Task], verdict: Verdict) -> Rehearsed:
    engine = Rehearsal(run)
    facts = run.facts  # those of the tasks are what a run would make of them
    refusal: errors.B2mError | None = None
    try:
        check_space(run)
        engine.rehearse(tasks, verdict.state)
    except errors.Refused as error:
        refusal = error
    last = records.last_hold(run.session.place)
    return Rehearsed(
        facts=facts,
        verdict=verdict,
        work=True,
        refusal=refusal,
        conflicts=tuple(str(each) for each in getattr(refusal, "conflicts", ()))[:SHOWN],
        rows=engine.rows,
        upload=engine.upload,
        holds=engine.holds,
        downtime=Downtime(round(engine.late * 1000), last.downtime_ms if last else None, last.run if last else None)
        if engine.holds
        else None,
        bytes_down=run.bucket.counters.bytes_down,
    )


def _reported(events: Events) -> Callable[[str, int, int], None]:
    return lambda what, done, total: events.emit("progress", what=what, done=done, total=total)


def _giving_way(found: Opened) -> Callable[[], None]:
    """Return what long work calls: it stops for a signal, and for a real run, which must not find live in use by us."""
    lock = found.session.place.state / "lock"
    due = time.monotonic()

    def check() -> None:
        nonlocal due
        found.signals.check()
        if time.monotonic() < due:
            return
        due = time.monotonic() + LOOK_EVERY
        if (busy := holder(lock)) is not None:
            raise errors.Locked(db=found.target.db, owner=busy, since=busy.since)

    return check


class Rehearsal(Engine):
    """Applies the tasks that change nothing outside the work folder, and measures or skips the others."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.rows = {"inserted": 0, "updated": 0, "deleted": 0}
        self.upload: int | None = None
        self.holds = 0
        self.late = 0.0  # seconds that the replay inside the hold takes
        self._swapped: str | None = None  # the candidate that would be live

    def rehearse(self, tasks: Iterable[Task], state: str) -> None:
        """Go through a scenario; what a real run would refuse comes out, and nothing needs to be undone."""
        self._tasks(tasks, {"state": state})

    def _task(
        self,
        name: str,
        module: Module,
        block: Iterable[Task | Work],
        facts: dict[str, object],
        limits: Limits | None = None,
    ) -> None:
        reason = module.skip(self.run.facts)
        if reason is not None:
            self._skipped(name, module.key, reason)
            return
        faults.point(f"rehearsing:{module.key}")
        began = time.monotonic()
        if isinstance(module, Hold):
            self.holds += module.service is not None
            self._tasks(block, facts)
            return
        outcome = self._rehearsed(name, module, limits or Limits(), began)
        if outcome is None:
            self._skipped(name, module.key, "not in a rehearsal")
        else:
            self._emit(name, module, outcome.status, outcome.detail, began)

    def _rehearsed(self, name: str, module: Module, limits: Limits, began: float) -> Outcome | None:
        session = self.run.session
        if isinstance(module, Upload):
            return self._packed(module)
        if isinstance(module, Swap):
            if lacks := session.work.unproven(module.file):
                raise errors.NotVerified(db=self.run.target.db, file=module.file, lacks=", ".join(lacks))
            self._swapped = module.file
            live = self.run.live_after_swap()
            self.run.facts = module.foresee(self.run.facts.with_live(dirty=live.dirty, rows=live.rows))
            return None
        if isinstance(module, Replay) and module.from_ == "live":
            return self._late(module)
        if isinstance(module, Snapshot) and self._swapped is not None:
            # Live would be the candidate, and just verified.
            session.work.paths[module.as_] = session.work.file(self._swapped)
            session.work.verified[module.as_] = session.work.verified.get(self._swapped, set())
            return Outcome("ok", f"live would be {self._swapped}")
        if isinstance(module, Verify) and self._swapped is not None:
            return Outcome("ok", "as before")
        if isinstance(module, Download | Snapshot | Replay | Verify):
            outcome = self._attempts(name, module, limits, began)
            # What is read from here on is the copy.
            session.live.close()
            return outcome
        return None

    def _late(self, module: Replay) -> Outcome:
        """Measure what a replay from live costs while nobody writes; rows that are written later cost a little more."""
        session = self.run.session
        began = time.monotonic()
        since = module.since or "ours"
        # After the swap a snapshot is the candidate itself.
        base = session.work.snapshot_file(since) if self._swapped is None else session.work.file(since)
        session.work.compare_files(base, since)
        self.late = time.monotonic() - began
        return Outcome("ok", f"comparing takes {self.late:.2f} s")

    def _packed(self, module: Upload) -> Outcome:
        """Measure what would be sent, and count its rows."""
        run, session = self.run, self.run.session
        facts, head = run.facts, run.facts.head
        base: Path | None = session.work.file("head") if self._swapped else None
        changes = session.work.compare_files(base, module.file) if base else session.work.changes(module.file)
        if changes is not None and not changes.dirty:
            return Outcome("ok", "nothing new")
        what = "the first version"
        if changes is not None:
            check_deletes(facts.db, changes, run.rules)
            counts = changes.counts
            self.rows = {"inserted": counts.inserted, "updated": counts.updated, "deleted": counts.deleted}
            what = rows(changes.tables)
        numbers = log.numbers(run.bucket, facts.db)
        number = numbers[-1] + 1 if head and numbers else 1
        self.upload = session.work.send(DryBucket(run.bucket), module.file, number).bytes
        run.facts = module.foresee(facts)  # whether the file then has an older number, for one
        return Outcome("ok", f"v{number}, {what}, {size(self.upload)} to send")
