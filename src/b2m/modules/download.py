"""Brings a version from the bucket into the work folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from b2m.errors import NothingHere
from b2m.modules.base import Module, Outcome
from b2m.wording import size

if TYPE_CHECKING:
    from b2m.run import Run


class Download(Module):
    """Fetch a version, check it against its commit, and make it the candidate."""

    key: ClassVar[str] = "download"
    repeatable: ClassVar[bool] = True

    version: int | Literal["head"] = Field("head", description="which version: a number, or head")
    as_: str = Field("candidate", alias="as", description="the name of the file in the work folder")

    def apply(self, run: Run) -> Outcome:
        from b2m.versions import log

        db = run.target.db
        commit = run.facts.head if self.version == "head" else log.read(run.bucket, db, self.version)
        if commit is None:
            raise NothingHere(db=db, host=run.target.host, path=run.facts.live.path)
        down = run.session.work.fetch(run.bucket, commit, run.bucket_id, self.as_)
        run.onto = commit
        return Outcome("changed", f"v{commit.number}, {size(down)} read")
