"""Copies the live file while its server goes on writing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from b2m.modules.base import Module, Outcome
from b2m.wording import size

if TYPE_CHECKING:
    from b2m.facts import Facts
    from b2m.run import Run


class Snapshot(Module):
    """Copy the live file, consistently, without keeping the server from writing."""

    key: ClassVar[str] = "snapshot"
    repeatable: ClassVar[bool] = True

    as_: str = Field("ours", alias="as", description="the name of the copy in the work folder")

    def skip(self, facts: Facts) -> str | None:
        return None if facts.live.exists else "there is no live file yet"

    def apply(self, run: Run) -> Outcome:
        return Outcome("changed", size(run.session.work.snapshot(self.as_)))
