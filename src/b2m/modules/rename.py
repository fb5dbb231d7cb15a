"""Gives the live file the number of the version it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from b2m.modules.base import Module, Outcome

if TYPE_CHECKING:
    from b2m.facts import Facts
    from b2m.run import Run


class Rename(Module):
    """Rename the live file to its version's number, and say so in db.toml; its rows stay as they are."""

    key: ClassVar[str] = "rename"

    def skip(self, facts: Facts) -> str | None:
        return None if facts.rename_due else "the file's name has the right number"

    def foresee(self, facts: Facts) -> Facts:
        return facts.with_live(file_version=facts.anchor.number if facts.anchor else None)

    def apply(self, run: Run) -> Outcome:
        from b2m.hosts import swapping

        assert run.facts.anchor is not None
        with run.shielded():
            new = swapping.rename(run.session, run.facts.anchor.number)
        run.note_live(new)
        return Outcome("changed", f"{new.name} is live")
