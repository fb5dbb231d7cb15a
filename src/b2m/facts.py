"""What one look found, on the host and in the bucket: the only input of ``classify`` and of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from b2m.buckets.pause import Pause
from b2m.errors import Refused
from b2m.hosts.anchor import Anchor
from b2m.hosts.lock import Holder
from b2m.versions.commit import Commit


@dataclass(frozen=True)
class Live:
    """The live file; ``rows`` are those that the anchor lacks, per table."""

    path: str
    name: str
    exists: bool = False
    file_version: int | None = None
    size: int = 0
    dirty: bool = False
    rows: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    schema_changed: bool = False
    linked: bool = False  # db.toml names a symlink; a file elsewhere keeps its name

    @property
    def inserted(self) -> int:
        return sum(row[0] for row in self.rows.values())

    @property
    def updated(self) -> int:
        return sum(row[1] for row in self.rows.values())

    @property
    def deleted(self) -> int:
        return sum(row[2] for row in self.rows.values())

    @property
    def changed_rows(self) -> int:
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True)
class HostFacts:
    """What the host shows; ``problem`` is what makes it unusable, ``busy`` a run that is changing it now."""

    live: Live
    anchor: Anchor | None = None
    unfinished: str | None = None
    busy: Holder | None = None
    stray_rows: int = 0
    free: int = 0
    problem: Refused | None = None


@dataclass(frozen=True)
class LeaseFacts:
    """Who holds the lease; ``age`` in seconds, by the holder's own claim."""

    owner: str
    host: str
    since: str
    age: float
    reason: str
    ours: bool


@dataclass(frozen=True)
class BucketFacts:
    """What the bucket shows; ``ancestry`` is how the anchor's version stands to the head."""

    bucket_id: str | None = None
    head: Commit | None = None
    ancestry: Literal["ok", "diverged", "changed"] = "ok"
    lease: LeaseFacts | None = None
    pause: Pause | None = None
    skew: float = 0.0
    problem: str | None = None


@dataclass(frozen=True)
class Facts:
    """One look at one database on one host."""

    db: str
    host: str
    direction: Literal["both", "bucket_to_host"]
    naming: Literal["versioned", "stable"]
    rename: Literal["now", "next_swap"]
    on_host: HostFacts
    in_bucket: BucketFacts

    @property
    def live(self) -> Live:
        return self.on_host.live

    @property
    def anchor(self) -> Anchor | None:
        return self.on_host.anchor

    @property
    def head(self) -> Commit | None:
        return self.in_bucket.head

    @property
    def rename_due(self) -> bool:
        """Live is the head, by its rows, and its file still has an older number in its name."""
        return (
            self.naming == "versioned"
            and self.rename == "now"
            and self.live.exists
            and not self.live.linked
            and self.anchor is not None
            and self.live.file_version is not None
            and self.live.file_version < self.anchor.number
        )

    def named(self) -> dict[str, Any]:
        """Return the facts by the names that playbooks use."""
        live, anchor, head, lease = self.live, self.anchor, self.head, self.in_bucket.lease
        return {
            "db": {"rename_due": self.rename_due},
            "live": {
                "file": live.name,
                "version": anchor.number if anchor else None,
                "file_version": live.file_version,
                "dirty": live.dirty,
            },
            "anchor": {"version": anchor.number if anchor else None, "commit": anchor.token if anchor else None},
            "head": {"version": head.number if head else None, "commit": head.token if head else None},
            "lease": {
                "owner": lease.owner if lease else None,
                "host": lease.host if lease else None,
                "since": lease.since if lease else None,
                "age": lease.age if lease else 0.0,
                "reason": lease.reason if lease else None,
            },
        }

    def with_live(self, **changes: Any) -> Facts:
        return replace(self, on_host=replace(self.on_host, live=replace(self.live, **changes)))
