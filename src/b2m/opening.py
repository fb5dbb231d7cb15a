"""Opening a database on a host for one command: bucket, lock, recovery, facts; and closing it again.

A command's body is what happens between; nothing else in b2m opens, locks or releases.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw

from b2m import errors
from b2m.buckets import open_bucket
from b2m.buckets.lease import LeaseView, abandon, look
from b2m.buckets.marker import read_marker
from b2m.buckets.pause import read_pause
from b2m.buckets.protocol import Bucket, Settles
from b2m.events import Events
from b2m.facts import BucketFacts, Facts, HostFacts, LeaseFacts
from b2m.failures import as_failure
from b2m.hosts.anchor import Anchor
from b2m.hosts.place import Place
from b2m.hosts.service import Service
from b2m.hosts.session import Session
from b2m.journal import Pending
from b2m.project import Target
from b2m.run import Run, new_run_id
from b2m.signals import Signals
from b2m.versions import log
from b2m.versions.commit import Commit


@dataclass(frozen=True)
class Opened:
    """A target with its session, bucket and signals."""

    target: Target
    session: Session
    bucket: Bucket
    events: Events
    signals: Signals
    run_id: str
    began: float  # monotonic seconds

    def look(self) -> Facts:
        """Look once at everything, on the host and in the bucket."""
        on_host = self.session.observe()
        work = self.session.place.known_work_id()
        return self.facts(on_host, look_at_bucket(self.bucket, self.target.db, on_host.anchor, work))

    def facts(self, on_host: HostFacts, in_bucket: BucketFacts) -> Facts:
        target = self.target
        return Facts(
            db=target.db,
            host=target.host,
            direction=target.direction,
            naming=target.policy.naming,
            rename=target.policy.rename,
            on_host=on_host,
            in_bucket=in_bucket,
        )

    def run(self, facts: Facts, message: str = "") -> Run:
        return Run(self.target, self.run_id, self.session, self.bucket, self.events, self.signals, facts, message)


def place_of(target: Target) -> Place:
    """Return the names of a target's files."""
    return Place(
        db=target.db,
        host=target.host,
        folder=Path(os.path.realpath(target.folder)),
        pattern=target.file,
        key=target.key,
        naming=target.policy.naming,
    )


@contextmanager
def opened(target: Target, events: Events) -> Iterator[Opened]:
    """Open a target for looking: nothing is locked, and nothing is changed."""
    with Signals() as signals:
        run_id = new_run_id()

        def progress(what: str, done: int, total: int) -> None:
            events.emit("progress", what=what, done=done, total=total)

        began = time.monotonic()
        session = Session(place_of(target), run_id, progress, signals.check)
        try:
            yield Opened(target, session, open_bucket(target.bucket), events, signals, run_id, began)
        except (OSError, apsw.Error) as error:
            failure = as_failure(error, target.db, "nothing else was changed")
            failure.recap = getattr(error, "recap", None)  # type: ignore[attr-defined]
            raise failure from error
        finally:
            session.close()


@contextmanager
def locked(target: Target, events: Events, *, wait: float = 0.0) -> Iterator[Opened]:
    """Open a target for changing: be the only one on this host, and settle first what a dead run left."""
    with opened(target, events) as found:
        found.session.lock(wait)
        try:
            with found.signals.shielded():
                settle(found)
                found.session.begin()
            yield found
            found.signals.ignore()  # all is done: a signal that comes now has nothing to stop
        finally:
            with found.signals.shielded():
                found.session.live.close()
                found.session.finish()


def settle(found: Opened) -> None:
    """Finish or undo what a dead run announced in its journal; the bucket tells whether its version was published."""
    session = found.session
    pending = session.journal.pending()
    if not pending.anything:
        return
    found.events.emit("recovering", run=pending.run)
    try:
        acts = session.recover(_service_now(found.target, pending))
    except Exception as error:
        raise errors.UndoFailed(
            what=f"{found.target.db}: run {pending.run} was cut off, and settling it failed: {error}"
        ) from error
    if pending.publish is not None:
        entry = pending.publish
        # A bucket that is not there, or is another one, must not look like one without that version.
        if read_marker(found.bucket).id != entry["anchor"]["bucket_id"]:
            what = f"run {pending.run} was cut off while it published v{entry['number']} to another bucket"
            raise errors.BucketLost(db=found.target.db, what=what)
        # A version that shows up later would be merged with its own rows.
        if isinstance(found.bucket, Settles):
            found.bucket.settle(found.target.db)
        # A create of the dead run may be under way still. From here on the number is ours or another's for ever, and
        # what comes later can only come second; the pack was up before the entry was written.
        with suppress(errors.LeaseLost):
            log.publish(found.bucket, Commit.model_validate(entry["commit"]))
        # Nobody has the number if others' versions left it out, or the bucket was set back: then it is not ours either.
        commit = None
        with suppress(errors.ObjectMissing):
            commit = log.read(found.bucket, found.target.db, entry["number"])
        if commit is not None and commit.token == entry["token"]:
            session.settle_publication(Path(entry["snapshot"]), Anchor.from_json(entry["anchor"]))
            session.journal.append("published")
            acts.append(f"v{commit.number} was published, live starts from it now")
        else:
            session.journal.append("unpublished")
            acts.append(f"v{entry['number']} was not published")
    # Else others would wait for it to lapse. Whoever cannot be told now will have to.
    with suppress(errors.BucketError, errors.UnknownFormat):
        work = session.place.known_work_id()
        if work is not None and abandon(found.bucket, found.target.db, work):
            acts.append("its lease is given back")
    for act in acts:
        found.events.emit("recovered", run=pending.run, text=act)


def _service_now(target: Target, pending: Pending) -> Service | None:
    """Return the service of a hold that is open, as the inventory has it now; None if it is not there any more."""
    name = pending.hold["service"]["name"] if pending.hold is not None else ""
    now = target.services.get(name)
    return Service(**asdict(now)) if now is not None else None


def look_at_bucket(bucket: Bucket, db: str, anchor: Anchor | None, work_id: str | None) -> BucketFacts:
    """Return what the bucket shows of a database; a bucket that is not there, or not set up, is a fact, no error."""
    try:
        marker = read_marker(bucket)
    except errors.ObjectMissing:
        return BucketFacts(problem=f"the bucket {bucket.name} has no b2m.json: it is not set up, or not mounted")
    except errors.ObjectDamaged:
        raise
    except errors.BucketError as error:
        what = str(error.fields["what"]).partition("; ")[0]  # what to do now is said once, by who refuses
        return BucketFacts(problem=f"the bucket {bucket.name} cannot be reached: {what}")
    head = log.head(bucket, db)
    known = anchor is not None and anchor.bucket_id == marker.id
    ancestry: log.Ancestry = "ok"
    if known and anchor is not None and head is not None and head.number >= anchor.number:
        ancestry = log.is_ancestor(bucket, db, anchor.number, anchor.token, head)
    lease = look(bucket, db)
    return BucketFacts(
        bucket_id=marker.id,
        head=head,
        ancestry=ancestry,
        lease=None
        if lease is None
        else LeaseFacts(lease.owner, lease.host, lease.since, lease.age, lease.reason, lease.work == work_id),
        pause=read_pause(bucket, db),
        skew=_ahead(head, lease),
    )


def _ahead(head: Commit | None, lease: LeaseView | None) -> float:
    """Return by how many seconds the newest sign in the bucket is ahead of this machine's clock; 0 if it is not."""
    ahead = -lease.age if lease else 0.0
    if head is not None:
        ahead = max(ahead, (datetime.fromisoformat(head.time) - datetime.now(UTC)).total_seconds())
    return max(0.0, ahead)
