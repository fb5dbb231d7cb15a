"""The history of a database: its commits, newest first, and the one point at which a version comes into being."""

from __future__ import annotations

import re
from typing import Literal

from b2m.buckets.protocol import Bucket
from b2m.errors import BucketError, LeaseLost, ObjectMissing
from b2m.versions.commit import Commit, commit_name

Ancestry = Literal["ok", "diverged", "changed"]

_NAME = re.compile(r"(\d{8,})\.json")


def numbers(bucket: Bucket, db: str) -> list[int]:
    """Return the numbers of all versions, lowest first, by one listing."""
    names = (name.rpartition("/")[2] for name in bucket.list(f"{db}/commits"))
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def read(bucket: Bucket, db: str, number: int) -> Commit:
    """Return a commit; ObjectMissing, ObjectDamaged, UnknownFormat."""
    name = commit_name(db, number)
    return Commit.from_bytes(bucket.get(name), bucket=bucket.name, name=name)


def head(bucket: Bucket, db: str) -> Commit | None:
    """Return the newest commit, None if nothing was published yet."""
    found = numbers(bucket, db)
    return read(bucket, db, found[-1]) if found else None


def history(bucket: Bucket, db: str, limit: int | None = None) -> list[Commit]:
    """Return the newest ``limit`` commits, or all, newest first."""
    newest = numbers(bucket, db)[::-1][:limit]
    return [read(bucket, db, number) for number in newest]


def publish(bucket: Bucket, commit: Commit) -> None:
    """Make a version exist, if its parent is still the head; LeaseLost if somebody else published meanwhile.

    Publishing the same commit again is fine, so that a run may repeat it after an answer that never came.
    """
    known = numbers(bucket, commit.db)
    newest = known[-1] if known else None
    if newest == commit.parent:
        if newest is not None and read(bucket, commit.db, newest).token != commit.parent_token:
            raise _lost(bucket, commit, f"v{newest} is another than the one that v{commit.number} was made from")
        _create(bucket, commit)
    elif commit.number not in known:
        raise _lost(bucket, commit, f"the head is v{newest}, v{commit.number} was made from v{commit.parent}")
    elif (other := read(bucket, commit.db, commit.number)).token != commit.token:
        raise _lost(bucket, commit, _by(other))


def is_ancestor(bucket: Bucket, db: str, number: int, token: str, head: Commit) -> Ancestry:
    """Tell whether commit ``number`` with ``token`` is ``head`` or in its history.

    "changed": the bucket has another commit of that number; "diverged": the head's history does not lead there.
    Asks for one object a version in between.
    """
    commit = head
    while commit.number > number:
        if commit.parent is None:
            return "diverged"
        parent = read(bucket, db, commit.parent)
        if parent.token != commit.parent_token:
            return "changed"
        commit = parent
    if commit.number < number:
        return "diverged"
    return "ok" if commit.token == token else "changed"


def _create(bucket: Bucket, commit: Commit) -> None:
    """Create the commit's object; after an answer that settles nothing, its token tells whether it is ours."""
    try:
        bucket.create(commit.name(), commit.to_bytes())
    except BucketError as error:
        try:
            other = read(bucket, commit.db, commit.number)
        except ObjectMissing:
            raise error from None
        # A number has one commit for ever: another's token there means that ours is not and will not be.
        if other.token != commit.token:
            raise _lost(bucket, commit, _by(other)) from error


def _by(other: Commit) -> str:
    return f"v{other.number} was published by {other.author} meanwhile"


def _lost(bucket: Bucket, commit: Commit, what: str) -> LeaseLost:
    return LeaseLost(bucket=bucket.name, db=commit.db, what=what)
