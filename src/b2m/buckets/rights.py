"""What a store says that a key may do, where it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Rights:
    """The rights of one key: those it has, those of ours that it lacks, and what it is restricted to, if it is."""

    url: str
    has: tuple[str, ...]
    missing: tuple[str, ...]
    bucket: str | None
    prefix: str | None

    def line(self) -> str:
        """Say it to people."""
        only = f"the bucket {self.bucket}" if self.bucket else "no bucket"
        only += f" and names that begin with {self.prefix}" if self.prefix else ""
        lacks = f"; it lacks {', '.join(self.missing)}" if self.missing else ""
        return f"the key for {self.url} has {', '.join(self.has)}, restricted to {only}{lacks}"


@runtime_checkable
class TellsRights(Protocol):
    """A bucket whose store says what its keys may do."""

    def rights(self) -> list[Rights]:
        """Return what each of the bucket's keys may do; BucketError."""
        ...
