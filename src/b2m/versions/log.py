"""The history of a database: its commits, newest first, and the one point at which a version comes into being."""

from __future__ import annotations

import json
import re
from typing import Literal

from b2m.buckets.protocol import Bucket
from b2m.errors import BucketError, LeaseLost, ObjectDamaged, ObjectMissing, UnknownFormat
from b2m.versions.commit import Commit, commit_name

Ancestry = Literal["ok", "diverged", "changed"]

_NAME = re.compile(r"(\d{8,})\.json")
_BEFORE_ALL = 0  # in place of a version's number: the object that says which number the first version has
_FORMAT = 1


def numbers(bucket: Bucket, db: str) -> list[int]:
    """Return the numbers of all versions, lowest first, by one listing."""
    names = (name.rpartition("/")[2] for name in bucket.list(f"{db}/commits"))
    found = (int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
    return sorted(number for number in found if number != _BEFORE_ALL)


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


def first_number(bucket: Bucket, db: str, wanted: int) -> int:
    """Return the number that the first version has or will have: ``wanted``, unless another was decided before.

    Each host would begin with the number in its own file's name. Without one decision for all, two who believe to be
    the first would both publish, under two numbers, and one history would hide the other.
    """
    name = commit_name(db, _BEFORE_ALL)
    try:
        bucket.create(name, json.dumps({"first": wanted, "format": _FORMAT}, indent=1).encode() + b"\n")
    except BucketError as error:
        try:
            data = json.loads(bucket.get(name))
        except ObjectMissing:
            raise error from None
        except ValueError:
            data = None
        first, known = (data.get("first"), data.get("format")) if isinstance(data, dict) else (None, None)
        if isinstance(known, int) and known > _FORMAT:
            raise UnknownFormat(what=name, found=known, known=_FORMAT) from None
        if not isinstance(first, int) or first < 1:
            raise ObjectDamaged(bucket=bucket.name, name=name, what="it has no number of a first version") from None
        return first
    return wanted


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
