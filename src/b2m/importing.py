"""Versions that an earlier tool left in a bucket as plain files, taken over as versions of b2m.

::

    <root>/ipm-db-v5.db                    a version, by the number in its name
    <root>/version/ipm-db-v5.metadata.json  what that tool noted of it, if it did

The old names are only read. Since a history has no gaps, only versions whose numbers follow one another up to the
newest can be taken.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from b2m import __version__, errors
from b2m.buckets import open_bucket, open_marked
from b2m.buckets.lease import Lease, acquire
from b2m.buckets.protocol import Bucket
from b2m.events import Events
from b2m.project import Target
from b2m.run import new_run_id, owner
from b2m.signals import Signals
from b2m.sqlite import verify
from b2m.sqlite.diff import compare
from b2m.sqlite.shape import shape_of
from b2m.versions import courtesy, log, pack
from b2m.versions.commit import Commit, RowCounts

METADATA = "version"
PATIENCE = 1.2  # times the lease's ttl: an import that was killed has lost its own by then
_DIGEST = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_HASHES = ("hash", "blake3", "sha256", "sha1", "checksum")
_AUTHORS = ("author", "uploader", "uploaded_by", "user", "owner")
_TIMES = ("time", "timestamp", "uploaded_at", "created_at", "datetime")


@dataclass(frozen=True)
class Old:
    """One file of the earlier tool, and what it noted of it; empty if it noted nothing that can be read."""

    number: int
    name: str
    notes: Mapping[str, Any]

    def note(self, keys: tuple[str, ...]) -> str | None:
        """Return the first of several notes that is there, as text."""
        return next((str(self.notes[key]) for key in keys if self.notes.get(key)), None)


@dataclass(frozen=True)
class Imported:
    """What came of an import: the versions taken, and the files that no version could be made of."""

    db: str
    taken: tuple[int, ...]
    left: tuple[str, ...]


def import_versions(target: Target, events: Events, source: str, *, everything: bool = False) -> Imported:
    """Publish an earlier tool's newest file, or all, as versions of a database that has none yet.

    ``source`` is where they lie: a folder, or the address of a bucket that the same key may read. UsageError if there
    is nothing; Refused if the database has versions, or a file is not what was noted of it; BucketError.
    """
    if "{version}" not in target.file:
        raise errors.UsageError(what=f"{target.file} has no number in its name, which would tell old files apart")
    bucket = open_marked(target.bucket)
    old = open_bucket(_source(target, source))
    found = list(find(old, target.file))
    if not found:
        what = f"{source} has no file like {target.file.replace('{version}', 'N')}, N from 1 on, no space in its name"
        raise errors.UsageError(what=what)
    chosen, left = _chosen(found, everything)
    ttl = target.policy.lease_ttl
    with Signals(), TemporaryDirectory(prefix="b2m-import-") as name:
        work = Path(name)
        with acquire(
            bucket,
            target.db,
            owner=owner(),
            host=target.host,
            work=secrets.token_hex(16),
            reason="bucket.import",
            ttl=ttl,
            wait=PATIENCE * ttl,
            seen=work / "lease-seen.json",
        ) as lease:
            _require_new(bucket, target.db, chosen)
            _publish_all(bucket, old, target, chosen, work, lease, events)
    with suppress(errors.BucketError):
        courtesy.publish(bucket, target.listed)
    return Imported(target.db, tuple(each.number for each in chosen), tuple(each.name for each in left))


def find(bucket: Bucket, pattern: str) -> Iterator[Old]:
    """Yield an earlier tool's files of one database, lowest number first; ``pattern`` has ``{version}`` in it."""
    fits = re.compile(re.escape(pattern).replace(re.escape("{version}"), r"(\d+)"))
    names = bucket.list("")
    numbered = sorted((int(match[1]), name) for name in names if (match := fits.fullmatch(name)) and int(match[1]))
    for number, name in numbered:
        note = f"{METADATA}/{name.rpartition('.')[0]}.metadata.json"
        yield Old(number, name, _notes(bucket, note) if note in names else {})


def _source(target: Target, source: str) -> dict[str, Any]:
    """Return the entry of the bucket that the old files are in: the database's own, with another address."""
    config = {key: value for key, value in target.bucket.items() if key != "locks"}
    if config["type"] == "folder":
        return {**config, "path": str(Path(source).expanduser().absolute())}
    if not source.startswith(f"{config['type']}://"):
        raise errors.UsageError(what=f"--source {source}: write {config['type']}://bucket/folder")
    return {**config, "url": source.rstrip("/")}


def _notes(bucket: Bucket, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(bucket.get(name))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _chosen(found: list[Old], everything: bool) -> tuple[list[Old], list[Old]]:
    """Return the files to take, and those to leave: a history has no gaps."""
    chosen = [found[-1]]
    if everything:
        for old in reversed(found[:-1]):
            if old.number != chosen[0].number - 1:
                break
            chosen.insert(0, old)
    return chosen, [old for old in found if old not in chosen]


def _require_new(bucket: Bucket, db: str, chosen: list[Old]) -> None:
    """Refuse a database that has versions, unless they are the beginning of what is to be imported."""
    there = log.numbers(bucket, db)
    for number in there:
        commit = log.read(bucket, db, number)
        if number not in [old.number for old in chosen] or not commit.message.startswith("imported from "):
            raise errors.AlreadyPublished(db=db, version=there[-1])


def _publish_all(
    bucket: Bucket, old: Bucket, target: Target, chosen: list[Old], work: Path, lease: Lease, events: Events
) -> None:
    there = log.numbers(bucket, target.db)
    before: tuple[Commit, Path] | None = None
    for each in chosen:
        path = work / f"v{each.number}.db"
        _fetch(old, each, path, target.db)
        if each.number in there:
            commit = log.read(bucket, target.db, each.number)  # an import that was cut off came this far
        else:
            lease.ensure()
            commit = _publish(bucket, target, each, path, before, lease.epoch)
            events.emit("imported", db=target.db, version=each.number, text=f"v{each.number} from {each.name}")
        if before is not None:
            before[1].unlink()
        before = commit, path


def _fetch(old: Bucket, each: Old, path: Path, db: str) -> None:
    """Fetch a file, and see that it is sound and, where its hash was noted, that very file."""
    digests = {"sha1": hashlib.sha1(usedforsecurity=False), "sha256": hashlib.sha256()}
    with path.open("wb") as file:
        for chunk in old.stream(each.name):
            file.write(chunk)
            for digest in digests.values():
                digest.update(chunk)
    noted = each.note(_HASHES)
    if noted is not None and _DIGEST.fullmatch(noted):
        found = {pack.hash_file(path)[0], *(digest.hexdigest() for digest in digests.values())}
        if noted.lower() not in found:
            raise errors.VerifyFailed(db=db, file=each.name, what="its hash is another than was noted of it")
    problems = verify.check_integrity(path, db=db)
    if problems:
        raise errors.VerifyFailed(db=db, file=each.name, what="; ".join(problems[:3]))


def _publish(
    bucket: Bucket, target: Target, each: Old, path: Path, before: tuple[Commit, Path] | None, epoch: int
) -> Commit:
    shape = shape_of(path, target.db)
    changes = compare(before[1], path, db=target.db).tables if before else {}
    packed = pack.upload_pack(bucket, target.db, each.number, path)
    commit = Commit(
        db=target.db,
        number=each.number,
        parent=before[0].number if before else None,
        parent_token=before[0].token if before else None,
        epoch=epoch,
        blake3=packed.blake3,
        size=packed.size,
        page_size=shape.page_size,
        page_count=shape.page_count,
        rows={
            name: RowCounts(inserted=one.inserted, updated=one.updated, deleted=one.deleted)
            for name, one in changes.items()
        },
        schema_hash=shape.schema_hash,
        message=f"imported from {each.name}",
        author=each.note(_AUTHORS) or owner(),
        host=target.host,
        time=_time(each.note(_TIMES)),
        sqlite=shape.sqlite,
        run=new_run_id(),
        b2m=__version__,
    )
    if before is None and (begun := log.first_number(bucket, target.db, each.number)) != each.number:
        what = f"v{each.number} cannot be its first version: somebody began to publish v{begun} as that"
        raise errors.LeaseLost(bucket=bucket.name, db=target.db, what=what)
    log.publish(bucket, commit)
    return commit


def _time(noted: str | None) -> str:
    """Return when a version was made, as it was noted, in ISO 8601 in UTC; now if that is no time."""
    found = datetime.now(UTC)
    with suppress(ValueError, OverflowError, OSError):
        if noted is not None:
            number = noted.replace(".", "", 1).isdecimal()
            found = datetime.fromtimestamp(float(noted), UTC) if number else datetime.fromisoformat(noted)
    # A time without a zone was UTC as often as not; one in the future would look like a clock that is wrong.
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return min(found, datetime.now(UTC)).isoformat(timespec="seconds")
