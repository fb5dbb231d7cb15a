"""Proves that a file may be put live or published."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from b2m.modules.base import Module, Outcome

if TYPE_CHECKING:
    from b2m.facts import Facts
    from b2m.run import Run

Check = Literal["integrity", "foreign_keys", "rows"]


def _both() -> list[Check]:
    return ["integrity", "foreign_keys"]


class Verify(Module):
    """Check a file of the work folder; swap and upload refuse what was not verified."""

    key: ClassVar[str] = "verify"
    repeatable: ClassVar[bool] = True

    file: str = Field("candidate", description="the file in the work folder")
    checks: list[Check] = Field(
        default_factory=_both,
        min_length=1,
        description="integrity: SQLite's own check; foreign_keys; rows: every row of both sides is there, counted, as "
        "a swap of replayed rows needs; without it the first two",
    )

    def skip(self, facts: Facts) -> str | None:
        return None if facts.live.exists or self.file != "ours" else "there is no live file yet"

    def apply(self, run: Run) -> Outcome:
        run.session.work.verify(self.file, list(self.checks), resolved_ok=run.resolved)
        return Outcome("ok", ", ".join(self.checks))
