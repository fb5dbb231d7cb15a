"""Carries rows from the live file, or a snapshot of it, onto a candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from b2m.modules.base import Module, Outcome
from b2m.wording import rows

if TYPE_CHECKING:
    from b2m.facts import Facts
    from b2m.run import Run


class Replay(Module):
    """Replay what one file has and its base lacks onto another, row by row, with the policy's rules for conflicts."""

    key: ClassVar[str] = "replay"

    from_: str = Field(alias="from", description="a snapshot's name (its base is the anchor), or live")
    onto: str = Field("candidate", description="the file that takes the rows")
    since: str | None = Field(None, description="for live: the snapshot that is its base; without it, the last one")

    def skip(self, facts: Facts) -> str | None:
        if not facts.live.exists:
            return "there is no live file yet"
        return None if facts.anchor is not None else "the live file has no anchor"

    def apply(self, run: Run) -> Outcome:
        done = run.session.work.replay(self.from_, self.onto, self.since, run.rules)
        run.note_replay(done)
        total = sum(counts.total for counts in done.counts.values())
        words = [rows(done.counts)] if total else []
        if done.sequences and not total:
            words.append(f"the counter of {', '.join(done.sequences)}")
        if done.identical:
            words.append(f"{done.identical} there already")
        if done.merged:
            words.append(f"{done.merged} merged by column")
        words += [f"{count} conflicts settled by {rule}" for rule, count in sorted(done.resolved.items()) if count]
        words += [str(row) for row in done.settled]
        return Outcome("changed" if total or done.sequences else "ok", ", ".join(words) or "nothing new")
