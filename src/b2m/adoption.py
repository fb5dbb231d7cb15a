"""Finding the version that a file without an anchor started from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from b2m import errors
from b2m.events import Events
from b2m.hosts.anchor import Anchor
from b2m.opening import Opened, locked
from b2m.project import Target
from b2m.run import Run
from b2m.sqlite.diff import Changes
from b2m.versions import log, pack
from b2m.versions.commit import Commit
from b2m.wording import rows


@dataclass(frozen=True)
class Adoption:
    """The version closest to a file; ``adopted`` tells whether it is the anchor now."""

    db: str
    host: str
    path: str
    commit: Commit
    changes: Changes
    adopted: bool

    def line(self) -> str:
        found = f"{self.db}@{self.host}  {self.path}"
        if self.adopted:
            return f"{found} starts from v{self.commit.number} now  rows {rows(self.changes.tables)}"
        what = "; ".join([rows(self.changes.tables), *self.changes.schema_detail])
        return (
            f"{found} is closest to v{self.commit.number}, but differs: {what}. If it started from there: "
            f"b2m adopt --db {self.db} --host {self.host} --version {self.commit.number}"
        )


def adopt(target: Target, events: Events, *, version: int | None) -> Adoption:
    """Find the version that live started from; with a version of the same rows, or one named, remember it.

    A version that the host remembers, while its copy of it is damaged, is fetched anew.
    """
    with locked(target, events) as found:
        facts = found.look()
        if facts.in_bucket.problem is not None:
            raise errors.BucketLost(db=target.db, what=facts.in_bucket.problem)
        if not found.session.place.live().exists() or facts.head is None:
            raise errors.NothingHere(db=target.db, host=target.host, path=facts.live.path)
        damaged = isinstance(facts.on_host.problem, errors.AnchorDamaged)
        if facts.on_host.problem is not None and not damaged:
            raise facts.on_host.problem
        # A derived anchor is in no bucket: nothing can be fetched that is the same.
        remembered = facts.anchor if damaged and facts.anchor is not None and not facts.anchor.derived else None
        run = found.run(facts)
        if version is not None:
            numbers: Iterable[int] = [known_version(found, version)]
        elif remembered is not None:
            numbers = [known_version(found, remembered.number)]
        else:
            numbers = reversed(log.numbers(found.bucket, target.db))
        commit, changes = closest(found, run, numbers)
        certain = remembered is not None and commit.token == remembered.token
        adopted = version is not None or certain or not changes.dirty
        if adopted:
            install(found, run, commit)
        return Adoption(target.db, target.host, facts.live.path, commit, changes, adopted)


def closest(found: Opened, run: Run, numbers: Iterable[int]) -> tuple[Commit, Changes]:
    """Return the version with the fewest differing rows, and the differences; stops at one that has none."""
    session = found.session
    session.work.snapshot("ours")
    best: tuple[int, Commit, Changes] | None = None
    for number in numbers:
        commit = log.read(found.bucket, found.target.db, number)
        target = session.place.work(session.run) / f"v{number}.db"
        pack.fetch(found.bucket, commit, target)
        changes = session.work.compare_files(target, "ours")
        distance = changes.counts.total + (1_000_000_000 if changes.schema_changed else 0)
        if best is None or distance < best[0]:
            if best is not None:
                (target.parent / f"v{best[1].number}.db").unlink()
            best = (distance, commit, changes)
        else:
            target.unlink()
        if not changes.dirty:
            break
    assert best is not None
    return best[1], best[2]


def install(found: Opened, run: Run, commit: Commit) -> None:
    """Make a version, that ``closest`` left in the work folder, the anchor."""
    session = found.session
    source = session.place.work(session.run) / f"v{commit.number}.db"
    anchor = Anchor(commit.number, commit.token, commit.blake3, commit.size, run.bucket_id)
    session.work.paths["adopted"] = source
    session.advance("adopted", anchor)


def known_version(found: Opened, version: int) -> int:
    """Return ``version`` if the bucket has it; UsageError."""
    numbers = log.numbers(found.bucket, found.target.db)
    if version not in numbers:
        shown = f"v{numbers[0]} to v{numbers[-1]}" if numbers else "none"
        raise errors.UsageError(what=f"{found.target.db} has no version {version}; the bucket has {shown}")
    return version
