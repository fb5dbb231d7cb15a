"""What a run does on the host that has the live file; one session per run and database.

Modules call these functions, in the process that runs there. The session owns the one connection to the live file:
opening and closing that file by any other way in this process would silently drop SQLite's locks on it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from b2m import errors, faults
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
from b2m.hosts.work_files import Progress, WorkFiles
from b2m.journal import Journal
from b2m.sqlite import openers
from b2m.sqlite.connect import set_tick
from b2m.sqlite.live import sidecars
from b2m.versions import dbtoml

LOOKERS = 1.0  # seconds that somebody who only looks, as `b2m status` does, has to close the live file again


class Session:
    """The host's side of one run; ``tick`` is called often and may raise to stop long work."""

    def __init__(self, place: Place, run: str, progress: Progress, stop: Callable[[], None]) -> None:
        self.place = place
        self.run = run
        self.journal = Journal(place.journal)
        self.hold: Hold | None = None
        self.set_aside: Path | None = None  # where a kept file went that somebody wrote to while it was let go of
        self.swapped = False  # live is another file than before, and may still be put back
        self.progress = progress
        self._stop = stop
        self._limit, self._timeout = float("inf"), 0.0  # monotonic end of the task's time, and that time in seconds
        self._lock: HostLock | None = None
        self.live = LiveView(place)
        self.work = WorkFiles(place, run, self.live, self._progress)
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
        bases = {Path(kept.base), keeping.goal(kept)} if kept else set()
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
            going_back = self.journal.pending().switch is not None
            if kept is not None and Path(kept.path) == path and busy is None and not going_back:
                raise errors.ReplacedLive(
                    db=self.place.db,
                    host=self.place.host,
                    toml=self.place.toml,
                    path=path.name,
                    newer=self.place.newest_name(but=path.name) or "a file that is gone",
                )
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

    # -- what was published --------------------------------------------------------------------------------------

    def advance(self, name: str, anchor: Anchor) -> None:
        """Make a published snapshot the anchor; live is then what it was at the snapshot, and clean."""
        anchors.install(self.place, self.work.paths.pop(name), anchor)
        faults.point("anchor-advanced")
        version = self.work.snapshot_version(name)
        path = self.place.live()
        self._name_live(path)
        if version is None:
            self.live.forget()
        else:
            self.live.know(version, self.live.outside(path))

    def settle_publication(self, snapshot: Path, anchor: Anchor) -> None:
        """After a crash: the commit is ours, so its snapshot is the anchor."""
        anchors.install(self.place, snapshot, anchor)
        self._name_live(self.place.live())

    def _name_live(self, path: Path) -> None:
        """Enter the live file into ``db.toml`` if nothing names it there yet: servers read its name from that file."""
        if path.exists() and self.place.key not in dbtoml.read(self.place.toml):
            dbtoml.set_entry(self.place.toml, self.place.key, self.place.entry())

    # -- the hold ------------------------------------------------------------------------------------------------

    def take_away(self, service: Service | None, max_downtime: float, shielded: Shield = nullcontext) -> None:
        """Make the server let go of live, and make sure that nobody else has it open."""
        self.work.flush()
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

    def _progress(self, what: str, done: int, total: int) -> None:
        self.tick()
        self.progress(what, done, total)


def _underived(kept: keeping.Kept | None) -> set[str]:
    """Name the kept file's anchor if no bucket has it."""
    anchor = Anchor.from_json(dict(kept.anchor)) if kept is not None and kept.anchor else None
    return {anchor.file_name} if anchor is not None and anchor.derived else set()
