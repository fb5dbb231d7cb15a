"""Runs tasks: in order, each one undone in reverse order if a later one fails.

A hold that ended well settles what is in it and before it: its swap is live, the server accepts rows in it, and a
later failure (of the upload, say) leaves a state that the next run goes on from.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from b2m import errors, faults
from b2m.failures import as_failure
from b2m.hosts.service import ServiceError
from b2m.modules.base import Module, Outcome
from b2m.modules.hold import Hold
from b2m.project import Limits, Task
from b2m.run import Run

Tally = dict[str, int]

UNLIMITED = Limits()
RETRY_PAUSE, MAX_RETRY_PAUSE = 1.0, 30.0  # seconds before the first repetition, doubled each time, and at most


@dataclass(frozen=True)
class Work:
    """A task that a command brings itself, beside those of a playbook."""

    name: str
    does: Module
    block: tuple[Work, ...] = ()


class Engine:
    """Applies a scenario's tasks to a run and counts what came of them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tally: Tally = {"ok": 0, "changed": 0, "skipped": 0, "failed": 0, "undone": 0}
        self._done: list[tuple[str, Module]] = []
        self._settled = False  # a hold ended well: what it put live stays
        self._step = 0

    @property
    def outcome(self) -> str:
        """What becomes of the work done so far if the run fails now, for people."""
        if self._settled or self.run.commit is not None:
            return "what was put live or published before stays, and the next run goes on from it"
        return "what was done is undone"

    def apply(self, tasks: Iterable[Task | Work], **facts: Any) -> None:
        """Run tasks; on a failure undo what was done, and raise what the failure is for the user."""
        try:
            self._tasks(tasks, facts)
        except BaseException as error:
            failure = as_failure(error, self.run.target.db, self.outcome)
            self._undo(failure)
            if failure is error:
                raise
            raise failure from error

    def tell(self, tasks: Iterable[Task], **facts: Any) -> None:
        """Run tasks that only tell of a refusal, a failure or a success: what goes wrong in them is only reported."""
        try:
            self._tasks(tasks, facts)
        except Exception as error:
            self.run.events.warn(f"while telling about it: {error}")
        self._done.clear()

    def _tasks(self, tasks: Iterable[Task | Work], facts: dict[str, Any]) -> None:
        for task in tasks:
            if isinstance(task, Work):
                self._task(task.name, task.does, task.block, facts)
                continue
            observed = self.run.observed(**facts)
            if not self.run.target.applies(task, observed):
                self._skipped(task.name, task.module, f"when {task.when}")
            elif task.model is None:
                self.run.target.check_arguments(task, observed)
                self._tasks(task.block, facts)
            else:
                module = self.run.target.render(task, observed)
                assert isinstance(module, Module)
                self._task(task.name, module, task.block, facts, task.limits)

    def _task(
        self,
        name: str,
        module: Module,
        block: Iterable[Task | Work],
        facts: dict[str, Any],
        limits: Limits = UNLIMITED,
    ) -> None:
        reason = module.skip(self.run.facts)
        if reason is not None:
            self._skipped(name, module.key, reason)
            return
        self._step += 1
        point = f"{self._step}:{module.key}"
        faults.point(f"before-task:{point}")
        began = time.monotonic()
        self.run.events.emit("task", name=name, module=module.key, status="started")
        self._done.append((name, module))
        try:
            self.run.session.tick()
            if isinstance(module, Hold):
                outcome = self._hold(module, block, facts)
            else:
                outcome = self._attempts(name, module, limits, began)
        except BaseException as error:
            self.tally["failed"] += 1
            self._emit(name, module, "failed", str(error), began)
            raise
        self.tally[outcome.status] += 1
        self._emit(name, module, outcome.status, outcome.detail, began)
        faults.point(f"after-task:{point}")

    def _attempts(self, name: str, module: Module, limits: Limits, began: float) -> Outcome:
        """Apply a module, again after a failure if its task has retries; each time with the task's whole timeout."""
        session = self.run.session
        pause = faults.setting("RETRY_PAUSE", RETRY_PAUSE)
        for left in range(limits.retries, -1, -1):
            try:
                with session.limited(limits.timeout or module.usual_timeout):
                    return module.apply(self.run)
            except Exception as error:
                failure = as_failure(error, self.run.target.db, "the task is tried again")
                if not left or not _may_pass(failure):
                    raise
                self._emit(name, module, "retrying", f"{failure}; again in {pause:g} s, {left} left", began)
            until = time.monotonic() + pause
            while time.monotonic() < until:
                session.tick()
                time.sleep(0.05)
            pause = min(2 * pause, MAX_RETRY_PAUSE)
        raise AssertionError("the last try returns or raises")

    def _hold(self, hold: Hold, block: Iterable[Task | Work], facts: dict[str, Any]) -> Outcome:
        hold.enter(self.run)
        self._tasks(block, facts)
        hold.give_back(self.run)
        # The server is well: from here on nothing is undone any more, and no signal may come half-way.
        with self.run.shielded():
            outcome = hold.leave(self.run)
            self._done.clear()
            self._settled = True
            self.run.session.swapped = False
        return outcome

    def _undo(self, failure: BaseException) -> None:
        """Undo what was done, newest first; the server gets its database back whatever fails. Raises UndoFailed."""
        first: Exception | None = None
        with self.run.shielded():
            while self._done:
                name, module = self._done.pop()
                try:
                    if isinstance(module, Hold):
                        self._release()
                    elif not module.undoes():
                        continue
                    else:
                        module.undo(self.run)
                    self.tally["undone"] += 1
                    self.run.events.emit("undone", name=name, module=module.key)
                except Exception as error:
                    self.run.events.emit("undo_failed", name=name, module=module.key, text=str(error))
                    first = first or error
            if self.run.commit is not None:
                self.run.events.emit("kept", text=f"v{self.run.commit.number} is published")
        if first is not None:
            target = self.run.target
            raise errors.UndoFailed(
                what=f"{failure}; and undoing it failed: {first}. {self.run.session.place.live()} is live, nothing was "
                f"deleted; mend the cause, then run: b2m sync --db {target.db} --host {target.host}"
            ) from failure

    def _release(self) -> None:
        session = self.run.session
        if session.hold is None:
            return
        try:
            session.give_back()
        except ServiceError as error:
            raise errors.UndoFailed(what=str(error)) from None
        self.run.count_hold(session.end_hold())

    def _skipped(self, name: str, module: str, reason: str) -> None:
        self.tally["skipped"] += 1
        self.run.events.emit("task", name=name, module=module, status="skipped", detail=reason)

    def _emit(self, name: str, module: Module, status: str, detail: str, began: float) -> None:
        took = round((time.monotonic() - began) * 1000)
        self.run.events.emit("task", name=name, module=module.key, status=status, detail=detail, ms=took)


def _may_pass(failure: BaseException) -> bool:
    """Tell whether a failure may be gone at the next try; a refusal or a lost lease will not be."""
    if isinstance(failure, errors.LeaseLost):
        return False
    return isinstance(failure, errors.TaskFailed | errors.BucketError | errors.HostUnreachable)
