"""Puts a verified candidate live."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from b2m.modules.base import Module, Outcome

if TYPE_CHECKING:
    from b2m.facts import Facts
    from b2m.run import Run


class Swap(Module):
    """Make the candidate the live file and its version the anchor; the old file is kept."""

    key: ClassVar[str] = "swap"

    file: str = Field("candidate", description="the verified file in the work folder")

    def foresee(self, facts: Facts) -> Facts:
        """Return the facts of a live file that starts from the head, and bears the number that it will have."""
        from b2m.hosts.anchor import Anchor

        head = facts.head
        if head is None:
            return facts
        number = head.number + 1 if facts.live.dirty else head.number
        live = facts.with_live(exists=True, file_version=number if facts.naming == "versioned" else None)
        anchor = Anchor(head.number, head.token, head.blake3, head.size, facts.in_bucket.bucket_id or "")
        return replace(live, on_host=replace(live.on_host, anchor=anchor))

    def apply(self, run: Run) -> Outcome:
        from b2m.hosts import swapping

        run.lease_holds(look=run.session.hold is None)
        assert run.onto is not None
        live = run.live_after_swap()
        # A candidate with rows of ours becomes the next version: it bears that number now, so that one hold is enough.
        number = run.next_number(run.onto.number) if live.dirty else run.onto.number
        with run.shielded():
            new = swapping.swap(run.session, self.file, number, live)
        if (aside := run.session.set_aside) is not None:
            run.events.warn(f"somebody wrote to a file that was replaced before, in this moment; it is {aside} now")
        run.observe_locally()
        return Outcome("changed", f"{new.name} is live")

    def undo(self, run: Run) -> None:
        """Carry what the new file accepted back onto the old one, and put the old one back."""
        from b2m.hosts import kept as keeping
        from b2m.hosts import swapping
        from b2m.hosts import switch as switches
        from b2m.hosts.recovery import recover_host
        from b2m.hosts.switch import Switch

        place, session = run.session.place, run.session
        begun = session.journal.pending().switch
        if begun is not None:
            session.live.close()
            recover_host(place, service=False)
            # What was made and not completed is completed now, and then taken back as any other.
            session.swapped = switches.made(place, Switch.from_json(begun))
        kept = keeping.load(place)
        if not session.swapped or kept is None:
            return
        # Before the server is held again: this may take long, and what it reads does not change.
        base = None if session.live.known() is not None else run.successor(kept)
        run.held_again()
        if base is None and session.live.known() is None:
            base = run.successor(kept)  # somebody wrote just before the server was held
        with run.shielded():
            live = swapping.restore(session, kept, base, swapping.origin(session, kept, base))
        run.note_live(live)
