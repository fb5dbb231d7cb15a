"""What a run does on the host that has the live file; one session per run and database.

Modules call these functions. They take and return plain data, so that a remote host can offer the same functions over
a channel. The session owns the one connection to the live file: opening and closing that file by any other way in this
process would silently drop SQLite's locks on it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from b2m import errors, faults
from b2m.buckets.protocol import Bucket
from b2m.facts import HostFacts, Live
from b2m.hosts import anchor as anchors
from b2m.hosts import kept as keeping
from b2m.hosts import rehearsals
from b2m.hosts.anchor import Anchor
from b2m.hosts.command import Finished, run_command
from b2m.hosts.hold import Hold
from b2m.hosts.live_view import LiveView
from b2m.hosts.lock import HostLock, holder
from b2m.hosts.place import Place
from b2m.hosts.recovery import recover_host
from b2m.hosts.service import Service, Shield
from b2m.journal import Journal
from b2m.sqlite import merge, openers, verify
from b2m.sqlite import snapshot as snapshots
from b2m.sqlite.connect import set_tick
from b2m.sqlite.diff import Changes, compare
from b2m.sqlite.live import sidecars
from b2m.sqlite.shape import Shape, shape_of
from b2m.versions import dbtoml, pack
from b2m.versions.commit import Commit

Progress = Callable[[str, int, int], None]

LOOKERS = 1.0  # seconds that somebody who only looks, as `b2m status` does, has to close the live file again


class Session:
    """The host's side of one run; ``tick`` is called often and may raise to stop long work."""

    def __init__(self, place: Place, run: str, progress: Progress, stop: Callable[[], None]) -> None:
        self.place = place
        self.run = run
        self.journal = Journal(place.journal)
        self.files: dict[str, Path] = {}
        self.verified: dict[str, set[str]] = {}  # file -> the checks that it passed, as it is now
        self.head: Anchor | None = None
        self.saved: Path | None = None  # where the rows are that the candidate was not given
        self.hold: Hold | None = None
        self.swapped = False  # live is another file than before, and may still be put back
        self.progress = progress
        self._stop = stop
        self._limit, self._timeout = float("inf"), 0.0  # monotonic end of the task's time, and that time in seconds
        self._lock: HostLock | None = None
        self.live = LiveView(place)
        self._consumed: dict[str, int] = {}  # candidate -> data_version of live that its last replay read
        self._took: dict[str, str] = {}  # candidate -> the snapshot that was replayed onto it
        self._snapshot_version: dict[str, int] = {}
        set_tick(self.tick)

    # -- beginning and end ---------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called from within long work: lets a signal, or the end of the allowed downtime, stop it."""
        self._stop()
        if self.hold is not None:
            self.hold.beat()
            if time.monotonic() > self.hold.deadline:
                raise errors.TaskFailed(
                    what=f"{self.place.db}: the work inside the hold took longer than "
                    f"max_downtime ({self.hold.max_downtime:g} s)"
                )
        if time.monotonic() > self._limit:
            took = f"the task took longer than its timeout ({self._timeout:g} s)"
            raise errors.TaskFailed(what=f"{self.place.db}: {took}")

    @contextmanager
    def limited(self, timeout: float | None) -> Iterator[None]:
        """Let ``tick`` end the work inside once so many seconds have passed; None sets no limit."""
        self._timeout = timeout or 0.0
        self._limit = time.monotonic() + timeout if timeout else float("inf")
        try:
            yield
        finally:
            self._limit = float("inf")

    def shell(self, command: str, cwd: str) -> Finished:
        """Run a command of a playbook; a signal, its timeout or the end of the allowed downtime end it."""
        return run_command(command, cwd, self.tick)

    def lock(self, wait: float) -> None:
        """Become the only run that changes this database here, or raise Locked."""
        self._require_folder()
        try:
            self._lock = HostLock(self.place.state / "lock", self.place.db, self.run, wait=wait)
        except OSError as error:
            raise errors.Unreadable(db=self.place.db, path=self.place.state, what=error.strerror) from None

    def _require_folder(self) -> None:
        # It is never made here: a disk that is not mounted must not look like a host without databases.
        if not self.place.folder.is_dir():
            raise errors.Unreadable(
                db=self.place.db,
                path=self.place.folder,
                what="the folder does not exist; make it, mount it, or name the right host with --host",
            )

    def recover(self, now: Service | None = None) -> list[str]:
        """Settle on the host what a dead run left; the publication, if one is open, is the caller's.

        ``now`` is the service as the inventory has it: for a command that failed then, and was mended since.
        """
        return recover_host(self.place, now=now)

    def begin(self) -> None:
        """Open this run's journal and work folder; what dead runs left in theirs goes."""
        for leftover in (self.place.state / "work").glob("*"):
            shutil.rmtree(leftover, ignore_errors=True)
        rehearsals.sweep(self.place)
        kept = keeping.load(self.place)
        anchors.sweep(self.place, keep=_underived(kept))
        bases = {Path(kept.base)} if kept else set()
        for path in (self.place.state / "kept").glob("*"):
            if kept is None or (path not in bases and path != Path(kept.path)):
                path.unlink(missing_ok=True)
        for path in sorted((self.place.state / "failed").glob("*"))[:-1]:
            path.unlink(missing_ok=True)  # a server that fails every night must not fill the disk
        self.place.work(self.run).mkdir(parents=True)
        self.journal.end()
        self.journal.begin(self.run, self.place.to_json())

    def finish(self) -> None:
        """Forget the journal and the work folder, unless something in them is for the next run to settle."""
        pending = self.journal.pending()
        if pending.hold is None and pending.switch is None and pending.publish is None:
            self.journal.end()
            shutil.rmtree(self.place.work(self.run), ignore_errors=True)

    def close(self) -> None:
        set_tick(None)
        self.live.close()
        if self.hold is not None:
            # The server could not be given back: the guard tries on, now and not at the end of a long process.
            self.hold.abandon()
            self.hold = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- looking -------------------------------------------------------------------------------------------------

    def observe(self) -> HostFacts:
        """Look at everything on the host, in one pass and without changing anything that others read."""
        # Asked first: a run that ends meanwhile is seen as running, never as cut off.
        busy = holder(self.place.state / "lock") if self._lock is None else None
        path = self.place.live()
        live = Live(path=str(path), name=path.name, file_version=self.place.file_version(path))
        anchor: Anchor | None = None
        problem: errors.Refused | None = None
        strays = 0
        try:
            self._require_folder()
            if os.path.lexists(path):
                live = self.live.outside(path)
            anchor = anchors.load(self.place)
            if live.exists:
                live = self.live.look(path, anchor, live, read=busy is None)
            kept = keeping.load(self.place)
            if kept is not None and busy is None and not kept.restoring:
                changes = keeping.stray_changes(self.place, kept, remember=self._lock is not None)
                strays = changes.counts.total if changes else 0
        except errors.Refused as refusal:
            problem = refusal
        except PermissionError as error:
            problem = errors.Unreadable(db=self.place.db, path=error.filename, what="permission denied")
        return HostFacts(
            live=live,
            anchor=anchor,
            unfinished=self.journal.pending().run if self._lock is None and busy is None else None,
            busy=busy,
            stray_rows=strays,
            free=shutil.disk_usage(self.place.folder).free if self.place.folder.is_dir() else 0,
            problem=problem,
        )

    # -- files ---------------------------------------------------------------------------------------------------

    def _new_file(self, name: str) -> Path:
        path = self.place.work(self.run) / f"{name}.db"
        path.unlink(missing_ok=True)
        self.verified.pop(name, None)
        self._consumed.pop(name, None)
        self._took.pop(name, None)
        self.files[name] = path
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
        live = self.live.file()
        done = snapshots.snapshot(live, self._new_file(name), progress=lambda a, b: self._progress("snapshot", a, b))
        self._snapshot_version[name] = done.data_version
        return done.size

    def changes(self, name: str) -> Changes | None:
        """Compare a snapshot with the anchor; None if this host has no anchor."""
        anchor = anchors.load(self.place)
        if anchor is None:
            return None
        return self.compare_files(anchors.check(self.place, anchor), name)

    def shape(self, name: str) -> Shape:
        """Return what a commit says of a file besides its hash."""
        return shape_of(self.files[name], self.place.db)

    def replay(self, source: str, onto: str, since: str | None, rules: merge.Rules) -> merge.Replay:
        """Replay onto ``onto`` what ``source`` (a snapshot's name, or ``live``) has and its base lacks.

        The base of a snapshot is the anchor; that of ``live`` is the last snapshot, which moves forward with it.
        """
        candidate = self.file(onto)
        if source == "live":
            since = since or "ours"
            base = self.file(since)
            # Only what came after the snapshot is replayed here: a candidate without the snapshot's own rows would
            # look complete, and go live without them.
            if self._consumed.get(onto) != self._snapshot_version[since]:
                raise errors.NotReplayed(db=self.place.db, file=onto, snapshot=since)
            live = self.live.file()
            with live.reading():
                version = live.version()
            if version == self._snapshot_version[since]:
                return merge.Replay({}, data_version=version)  # nobody wrote: the hold need not wait for a comparison
            done = merge.replay(self.place.db, base, live, candidate, rules, forward=base)
            assert done.data_version is not None
            self._consumed[onto] = done.data_version
            self._snapshot_version[since] = done.data_version
        else:
            anchor = anchors.load(self.place)
            if anchor is None:
                raise errors.NoBase(
                    db=self.place.db,
                    host=self.place.host,
                    path=self.place.live(),
                    head=self.head.number if self.head else 0,
                )
            base = anchors.check(self.place, anchor)
            done = merge.replay(self.place.db, base, self.file(source), candidate, rules)
            self._consumed[onto] = self._snapshot_version[source]
            self._took[onto] = source
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
                self.files[self._took[name]],
                self.files["head"],
                path,
                resolved_ok,
                db=self.place.db,
            )
        self.verified.setdefault(name, set()).update(checks)

    def send(self, bucket: Bucket, name: str, number: int) -> pack.PackInfo:
        """Upload a verified file as the pack of version ``number``."""
        if "integrity" not in self.verified.get(name, ()):
            raise errors.NotVerified(db=self.place.db, file=name, lacks="integrity")
        return pack.upload_pack(
            bucket,
            self.place.db,
            number,
            self.files[name],
            progress=lambda done, total: self._progress("upload", done, total),
        )

    def advance(self, name: str, anchor: Anchor) -> None:
        """Make a published snapshot the anchor; live is then what it was at the snapshot, and clean."""
        anchors.install(self.place, self.files.pop(name), anchor)
        faults.point("anchor-advanced")
        version = self._snapshot_version.get(name)
        path = self.place.live()
        self._name_live(path)
        if version is None:
            self.live.forget()
        else:
            clean = Live(str(path), path.name, True, self.place.file_version(path), path.stat().st_size)
            self.live.know(version, clean)

    def settle_publication(self, snapshot: Path, anchor: Anchor) -> None:
        """After a crash: the commit is ours, so its snapshot is the anchor."""
        anchors.install(self.place, snapshot, anchor)
        self._name_live(self.place.live())

    def _name_live(self, path: Path) -> None:
        """Enter the live file into ``db.toml`` if nothing names it there yet: servers read its name from that file."""
        if path.parent == self.place.folder and path.exists() and self.place.key not in dbtoml.read(self.place.toml):
            dbtoml.set_entry(self.place.toml, self.place.key, path.name)

    # -- the hold ------------------------------------------------------------------------------------------------

    def take_away(self, service: Service | None, max_downtime: float, shielded: Shield = nullcontext) -> None:
        """Make the server let go of live, and make sure that nobody else has it open."""
        if service is not None:
            assert self._lock is not None
            self.hold = Hold(self.place, self.journal, service, self._lock.fd, max_downtime)
            self.hold.take_away(shielded)
        path = self.place.live()
        found = openers.who_has_open([path, *sidecars(path)])
        until = time.monotonic() + LOOKERS
        while found and time.monotonic() < until:
            time.sleep(0.02)
            self.tick()
            found = openers.who_has_open([path, *sidecars(path)])
        if found:
            who = list(dict.fromkeys(map(str, found)))  # one process has the file and its sidecars open
            raise errors.StillOpen(db=self.place.db, path=path, who=", ".join(who[:3]))

    def give_back(self, shielded: Shield = nullcontext) -> None:
        """Give the server its database back and wait until it is healthy; ServiceError if it does not get well."""
        if self.hold is not None:
            self.hold.give_back(shielded)

    def end_hold(self) -> float:
        """Close the hold; return its downtime in seconds."""
        hold, self.hold = self.hold, None
        if hold is None:
            return 0.0
        hold.end()
        return hold.downtime or 0.0

    def consume(self, snapshot: str, candidate: str, saved: Path) -> None:
        """Declare that a snapshot's rows need not be on a candidate: they are in the file ``saved``."""
        self._consumed[candidate] = self._snapshot_version[snapshot]
        self.saved = saved

    def unproven(self, candidate: str) -> list[str]:
        """Return the checks that a candidate lacks; one that took rows needs the rows of both sides proven too."""
        needed = {"integrity", "foreign_keys"} | ({"rows"} if candidate in self._took else set())
        return sorted(needed - self.verified.get(candidate, set()))

    def file(self, name: str) -> Path:
        """Return a file of the work folder; TaskFailed if no task made it."""
        if name not in self.files:
            there = ", ".join(sorted(self.files)) or "none"
            raise errors.TaskFailed(what=f"{self.place.db}: no task made a file named {name}; there are: {there}")
        return self.files[name]

    def copy_of_live(self, candidate: str) -> Path:
        """Take out of the work folder the snapshot that a candidate started from, moved on with its late replays."""
        return self.files.pop(self._took.get(candidate, "ours"))

    def compare_files(self, base: Path, name: str) -> Changes:
        """Compare a file of the work folder with another one."""
        return compare(base, self.files[name], db=self.place.db)

    def note_consumed(self, candidate: str) -> int | None:
        """Return the state of live, as its connection's data_version, that the last replay onto a file read."""
        return self._consumed.get(candidate)

    def _progress(self, what: str, done: int, total: int) -> None:
        self.tick()
        self.progress(what, done, total)


def _underived(kept: keeping.Kept | None) -> set[str]:
    """Name the kept file's anchor if no bucket has it."""
    anchor = Anchor.from_json(dict(kept.anchor)) if kept is not None and kept.anchor else None
    return {anchor.file_name} if anchor is not None and anchor.derived else set()


def _fail(db: str, label: str, problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise errors.VerifyFailed(db=db, file=label, what="; ".join(problems[:3]) + more)
