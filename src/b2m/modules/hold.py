"""The bracket in which the server does not use the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from b2m.errors import TaskFailed
from b2m.hosts.service import ServiceError
from b2m.modules.base import Module, Outcome

if TYPE_CHECKING:
    from b2m.run import Run


class Hold(Module):
    """Make the server let go of the database, run the block, and let it have the database again."""

    key: ClassVar[str] = "hold"

    service: str | None = Field(None, description="the service of this host that opens the database; null if none does")

    def enter(self, run: Run) -> None:
        """Make the server let go; the guard watches from here on."""
        run.lease_holds()
        try:
            run.session.take_away(run.service(self.service), run.target.policy.max_downtime, run.shielded)
        except ServiceError as error:
            raise TaskFailed(what=f"{run.target.db}: {error}") from None
        if run.lease is not None:
            run.lease.look_ahead()  # the server may have taken its time to let go

    def give_back(self, run: Run) -> None:
        """Give the database back, and see that the server is well."""
        run.gave_back = True
        try:
            run.session.give_back(run.shielded)
        except ServiceError as error:
            raise TaskFailed(what=f"{run.target.db}: {error}") from None

    def leave(self, run: Run) -> Outcome:
        """End the hold: the server has its database, and what was put live stays live."""
        hold = run.session.hold
        unwell = hold.still_unwell if hold is not None else None
        downtime = run.session.end_hold()
        run.gave_back = False
        run.count_hold(downtime if self.service else None)
        if self.service is None:
            return Outcome("ok", "no service opens it here")
        if unwell is not None:
            what = f"{self.service} was not well before it was held, and is not now: {unwell}"
            run.events.warn(f"{what}; nobody could tell whether the swap hurt it: mend it, or health in inventory.yaml")
        return Outcome("changed", f"{self.service} was away for {downtime:.2f} s")
