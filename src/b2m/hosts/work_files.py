"""The files of a run's work folder, and what is known of each: what it was made from, and what was proven of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from b2m import errors
from b2m.buckets.protocol import Bucket
from b2m.hosts import anchor as anchors
from b2m.hosts.anchor import Anchor
from b2m.hosts.live_view import LiveView
from b2m.hosts.place import Place
from b2m.sqlite import merge, verify
from b2m.sqlite import snapshot as snapshots
from b2m.sqlite.diff import Changes, compare
from b2m.sqlite.shape import Shape, shape_of
from b2m.sqlite.swap import fsync_file
from b2m.versions import pack
from b2m.versions.commit import Commit

Progress = Callable[[str, int, int], None]


class WorkFiles:
    """Files by name, such as ``candidate`` or ``ours``: fetched, copied from live, replayed onto, verified, sent."""

    def __init__(self, place: Place, run: str, live: LiveView, progress: Progress) -> None:
        self.place = place
        self.run = run
        self.paths: dict[str, Path] = {}
        self.verified: dict[str, set[str]] = {}  # file -> the checks that it passed, as it is now
        self.head: Anchor | None = None
        self.saved: Path | None = None  # where the rows are that the candidate was not given
        self._live = live
        self._progress = progress
        self._consumed: dict[str, int] = {}  # candidate -> data_version of live that its last replay read
        self._took: dict[str, str] = {}  # candidate -> the snapshot with all that was replayed onto it
        self._copies: dict[str, str] = {}  # candidate -> the snapshot that is as live was at its last replay
        self._snapshot_version: dict[str, int] = {}

    def _new_file(self, name: str) -> Path:
        path = self.place.work(self.run) / f"{name}.db"
        path.unlink(missing_ok=True)
        self.verified.pop(name, None)
        self._consumed.pop(name, None)
        self._took.pop(name, None)
        self._copies.pop(name, None)
        self._snapshot_version.pop(name, None)
        self.paths[name] = path
        return path

    def file(self, name: str) -> Path:
        """Return a file of the work folder; TaskFailed if no task made it."""
        if name not in self.paths:
            there = ", ".join(sorted(self.paths)) or "none"
            raise errors.TaskFailed(what=f"{self.place.db}: no task made a file named {name}; there are: {there}")
        return self.paths[name]

    def snapshot_file(self, name: str) -> Path:
        """Return a copy of live in the work folder; TaskFailed for a file that no snapshot task made."""
        path = self.file(name)
        if name not in self._snapshot_version:
            there = ", ".join(sorted(self._snapshot_version.keys() & self.paths.keys())) or "none"
            raise errors.TaskFailed(what=f"{self.place.db}: {name} is no snapshot of live; there are: {there}")
        return path

    def fetch(self, bucket: Bucket, commit: Commit, bucket_id: str, name: str) -> int:
        """Bring a version into the work folder twice: ``head``, the anchor to be, and ``name``; return bytes read."""
        anchor = anchors.load(self.place)
        head = self._new_file("head")
        down = 0
        if anchor is not None and anchor.token == commit.token and anchors.is_whole(self.place, anchor):
            snapshots.copy_file(anchors.path_of(self.place, anchor), head)
        else:
            down = pack.fetch(bucket, commit, head, progress=lambda a, b: self._progress("download", a, b))
        self.head = Anchor(commit.number, commit.token, commit.blake3, commit.size, bucket_id)
        snapshots.copy_file(head, self._new_file(name))
        return down

    def snapshot(self, name: str) -> int:
        """Copy the live file, consistently, while its server writes; return its size in bytes."""
        live = self._live.file()
        done = snapshots.snapshot(live, self._new_file(name), progress=lambda a, b: self._progress("snapshot", a, b))
        self._snapshot_version[name] = done.data_version
        return done.size

    def changes(self, name: str) -> Changes | None:
        """Compare a snapshot with the anchor; None if this host has no anchor."""
        anchor = anchors.load(self.place)
        if anchor is None:
            return None
        return self.compare_files(anchors.check(self.place, anchor), name)

    def compare_files(self, base: Path, name: str) -> Changes:
        """Compare a file of the work folder with another one."""
        return compare(base, self.paths[name], db=self.place.db)

    def shape(self, name: str) -> Shape:
        """Return what a commit says of a file besides its hash."""
        return shape_of(self.paths[name], self.place.db)

    def replay(self, source: str, onto: str, since: str | None, rules: merge.Rules) -> merge.Replay:
        """Replay onto ``onto`` what ``source`` (a snapshot's name, or ``live``) has and its base lacks.

        The base of a snapshot is the anchor; that of ``live`` is the last snapshot, which moves forward with it.
        """
        candidate = self.file(onto)
        if source == "live":
            since = since or "ours"
            base = self.snapshot_file(since)
            # Only what came after the snapshot is replayed here: a candidate without the snapshot's own rows would
            # look complete, and go live without them.
            if self._consumed.get(onto) != self._snapshot_version[since]:
                raise errors.NotReplayed(db=self.place.db, file=onto, snapshot=since)
            # From here on this is the snapshot that moves on with the candidate: another one stays behind.
            self._copies[onto] = since
            if onto in self._took:
                self._took[onto] = since
            live = self._live.file()
            with live.reading():
                version = live.version()
            if version == self._snapshot_version[since]:
                return merge.Replay({}, data_version=version)  # nobody wrote: the hold need not wait for a comparison
            done = merge.replay(self.place.db, base, live, candidate, rules, forward=base)
            assert done.data_version is not None
            self._consumed[onto] = done.data_version
            self._snapshot_version[since] = done.data_version
        else:
            ours = self.snapshot_file(source)
            anchor = anchors.load(self.place)
            if anchor is None:
                raise errors.NoBase(
                    db=self.place.db,
                    host=self.place.host,
                    path=self.place.live(),
                    head=self.head.number if self.head else 0,
                )
            base = anchors.check(self.place, anchor)
            done = merge.replay(self.place.db, base, ours, candidate, rules)
            self._consumed[onto] = self._snapshot_version[source]
            self._took[onto] = self._copies[onto] = source
            self.verified.pop(onto, None)
        return done

    def verify(self, name: str, checks: list[str], *, resolved_ok: bool) -> None:
        """Check a file of the work folder; raise VerifyFailed, or remember that it was verified.

        ``resolved_ok``: a merge rule settled conflicts, so either side's value of those rows will do.
        """
        path = self.file(name)
        label = f"{name} ({path.name})"
        if "integrity" in checks:
            _fail(self.place.db, label, verify.check_integrity(path, db=self.place.db))
        if "foreign_keys" in checks:
            _fail(self.place.db, label, [str(found) for found in verify.check_foreign_keys(path, db=self.place.db)])
        anchor = anchors.load(self.place)
        if "rows" in checks and anchor is not None and name in self._took:
            verify.verify_rows(
                anchors.path_of(self.place, anchor),
                self.paths[self._took[name]],
                self.paths["head"],
                path,
                resolved_ok,
                db=self.place.db,
            )
        self.verified.setdefault(name, set()).update(checks)

    def flush(self) -> None:
        """Get the files to the disk now, so that little is left to be written while the server is away."""
        for path in self.paths.values():
            fsync_file(path)

    def unproven(self, candidate: str) -> list[str]:
        """Return the checks that a candidate lacks; one that took rows needs the rows of both sides proven too."""
        needed = {"integrity", "foreign_keys"} | ({"rows"} if candidate in self._took else set())
        return sorted(needed - self.verified.get(candidate, set()))

    def send(self, bucket: Bucket, name: str, number: int) -> pack.PackInfo:
        """Upload a verified file as the pack of version ``number``."""
        if "integrity" not in self.verified.get(name, ()):
            raise errors.NotVerified(db=self.place.db, file=name, lacks="integrity")
        return pack.upload_pack(
            bucket,
            self.place.db,
            number,
            self.paths[name],
            progress=lambda done, total: self._progress("upload", done, total),
        )

    def consume(self, snapshot: str, candidate: str, saved: Path) -> None:
        """Declare that a snapshot's rows need not be on a candidate: they are in the file ``saved``."""
        self._consumed[candidate] = self._snapshot_version[snapshot]
        self._copies[candidate] = snapshot
        self.saved = saved

    def snapshot_version(self, name: str) -> int | None:
        """Return the state of live that a snapshot has; None if the file is no snapshot."""
        return self._snapshot_version.get(name)

    def note_consumed(self, candidate: str) -> int | None:
        """Return the state of live, as its connection's data_version, that the last replay onto a file read."""
        return self._consumed.get(candidate)

    def copy_of_live(self, candidate: str) -> Path:
        """Take out of the work folder the snapshot that is as live was when a candidate's last replay read it."""
        return self.paths.pop(self._copies.get(candidate, "ours"))


def _fail(db: str, label: str, problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise errors.VerifyFailed(db=db, file=label, what="; ".join(problems[:3]) + more)
