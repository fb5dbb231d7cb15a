"""What a module is: one class that declares its arguments, says when it has nothing to do, acts, and undoes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from b2m.facts import Facts
    from b2m.run import Run

Status = Literal["ok", "changed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """What a task did, for people and for the run record."""

    status: Status
    detail: str = ""


class Module(BaseModel):
    """One kind of task. Its fields are the task's arguments; ``key`` is its word in a playbook."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: ClassVar[str]
    repeatable: ClassVar[bool] = False  # may a playbook ask for retries: doing it twice is doing it once
    usual_timeout: ClassVar[float | None] = None  # seconds that it may take where its task does not say

    def skip(self, facts: Facts) -> str | None:
        """Return why there is nothing to do, judged from facts alone; None if there is."""
        return None

    def foresee(self, facts: Facts) -> Facts:
        """Return what a plan may expect of the facts after this task; as they are, by default."""
        return facts

    def apply(self, run: Run) -> Outcome:
        """Do it; a failure leaves nothing half done that ``undo`` does not know of."""
        raise NotImplementedError

    @classmethod
    def undoes(cls) -> bool:
        """Tell whether there is anything to take back: most tasks only work in the run's own folder."""
        return cls.undo is not Module.undo

    def undo(self, run: Run) -> None:
        """Take back what ``apply`` did, without losing what the server wrote since. Nothing, by default."""
