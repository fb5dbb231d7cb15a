"""Says something to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from b2m.modules.base import Module, Outcome
from b2m.project import Name

if TYPE_CHECKING:
    from b2m.run import Run


class Message(Module):
    """Print a line, put it into the run record, and with ``to`` send it to people.

    It is sent by the machine on which the command was started, beside the run, which never waits for it or fails by it.
    """

    key: ClassVar[str] = "message"
    repeatable: ClassVar[bool] = True

    to: Name | None = Field(default=None, description="who gets it: a name under messages in inventory.yaml")
    text: str = Field(min_length=1, description="what to say")

    def apply(self, run: Run) -> Outcome:
        run.events.emit("message", to=self.to, text=self.text)
        return Outcome("ok", self.text)
