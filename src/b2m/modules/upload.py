"""Publishes a verified snapshot as the next version."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from b2m import __version__, errors, faults
from b2m.modules.base import Module, Outcome
from b2m.wording import rows, size

if TYPE_CHECKING:
    from b2m.facts import Facts
    from b2m.run import Run


class Upload(Module):
    """Upload a verified snapshot, then create the commit that makes it a version; it becomes the anchor."""

    key: ClassVar[str] = "upload"

    file: str = Field("ours", description="the verified snapshot in the work folder")

    def foresee(self, facts: Facts) -> Facts:
        """Return the facts of a live file that is the next version, without changes of its own."""
        from b2m.hosts.anchor import Anchor

        head = facts.head
        number = head.number + 1 if head else facts.live.file_version or 1
        anchor = Anchor(number, "", "", facts.live.size, facts.in_bucket.bucket_id or "")
        newer = head.model_copy(update={"number": number, "token": ""}) if head else None
        clean = facts.with_live(dirty=False, rows={}, schema_changed=False)
        return replace(
            clean,
            on_host=replace(clean.on_host, anchor=anchor),
            in_bucket=replace(facts.in_bucket, head=newer),
        )

    def apply(self, run: Run) -> Outcome:
        from b2m.hosts.anchor import Anchor
        from b2m.sqlite.rules import check_deletes
        from b2m.versions import log
        from b2m.versions.commit import Commit, RowCounts

        session, facts, db = run.session, run.facts, run.target.db
        head = facts.head
        if (head.token if head else None) != (facts.anchor.token if facts.anchor else None):
            raise errors.NotOnHead(db=db, host=facts.host, head=head.number if head else 0)
        changes = session.work.changes(self.file)
        if changes is not None and not changes.dirty:
            assert head is not None
            return Outcome("ok", f"nothing that v{head.number} lacks")
        if facts.direction == "bucket_to_host":
            # Somebody wrote while this run was under way: the rows are live, and stay there.
            count = changes.counts.total if changes else "all"
            raise errors.ReadOnlyHost(db=db, path=facts.live.path, rows=count, host=facts.host)
        if changes is not None:
            check_deletes(db, changes, run.rules)
        assert run.lease is not None, "publishing needs the lease"
        run.lease_holds()
        number = head.number + 1 if head else log.first_number(run.bucket, db, facts.live.file_version or 1)
        packed = session.work.send(run.bucket, self.file, number)
        shape = session.work.shape(self.file)
        commit = Commit(
            db=db,
            number=number,
            parent=head.number if head else None,
            parent_token=head.token if head else None,
            epoch=run.lease.epoch,
            blake3=packed.blake3,
            size=packed.size,
            page_size=shape.page_size,
            page_count=shape.page_count,
            rows={
                name: RowCounts(inserted=c.inserted, updated=c.updated, deleted=c.deleted)
                for name, c in (changes.tables if changes else {}).items()
            },
            schema_hash=shape.schema_hash,
            message=run.message,
            author=run.owner,
            host=run.target.host,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            revision=run.revision,
            dirty_tree=run.dirty_tree,
            sqlite=shape.sqlite,
            run=run.id,
            b2m=__version__,
        )
        anchor = Anchor(number, commit.token, commit.blake3, commit.size, run.bucket_id)
        with run.shielded():
            run.lease_holds()
            session.journal.append(
                "publish",
                number=number,
                token=commit.token,
                snapshot=str(session.work.paths[self.file]),
                anchor=anchor.to_json(),
                commit=commit.model_dump(mode="json"),
            )
            try:
                log.publish(run.bucket, commit)
            except errors.LeaseLost:
                # Somebody else's number: certainly not ours. Any other error leaves the entry for recovery to settle.
                session.journal.append("unpublished")
                raise
            faults.point("commit-created")
            session.advance(self.file, anchor)
            session.journal.append("published")
            run.published(commit)
        run.observe_locally()
        what = rows(commit.rows) if commit.parent is not None else "the first version"
        return Outcome("changed", f"v{number}, {what}, {size(packed.bytes)} sent")
