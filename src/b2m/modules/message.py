"""Says something to people."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from b2m.modules.base import Module, Outcome
from b2m.run import Run


class Message(Module):
    """Print a line, and put it into the run record."""

    key: ClassVar[str] = "message"
    repeatable: ClassVar[bool] = True

    text: str = Field(min_length=1, description="what to say")

    def apply(self, run: Run) -> Outcome:
        run.events.emit("message", text=self.text)
        return Outcome("ok", self.text)
