"""Runs a command of one's own on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from b2m.errors import TaskFailed
from b2m.modules.base import Module, Outcome
from b2m.project import Command

if TYPE_CHECKING:
    from b2m.run import Run


class Shell(Module):
    """Run a shell command in the host's ``workdir``, or else the project's folder; its output goes into the run record.

    Nothing undoes it. Without a ``timeout`` it may take a minute; inside a hold it counts against ``max_downtime``.
    """

    key: ClassVar[str] = "shell"
    repeatable: ClassVar[bool] = True
    usual_timeout: ClassVar[float | None] = 60.0

    run: Annotated[Command, Field(min_length=1, description="the command; what {{ }} puts in is one quoted word")]
    reason: str = Field(min_length=1, description="why no module does, for whoever reviews the playbook")

    def apply(self, run: Run) -> Outcome:
        done = run.session.shell(self.run, str(run.target.workdir))
        run.events.emit("shell", command=self.run, reason=self.reason, code=done.code, output=done.output)
        if done.code:
            ended = f"was ended by signal {-done.code}" if done.code < 0 else f"ended with exit code {done.code}"
            said = f": {done.last_lines}" if done.last_lines else ""
            raise TaskFailed(what=f"{run.target.db}: `{self.run}` {ended}{said}")
        return Outcome("changed", done.last_lines)
