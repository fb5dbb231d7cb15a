"""One run: a target, what was seen of it, and what modules may use while they work on it."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from b2m import errors
from b2m.buckets.lease import Lease
from b2m.buckets.protocol import Bucket
from b2m.events import Events
from b2m.facts import Facts, Live
from b2m.hosts import anchor as anchors
from b2m.hosts import swapping
from b2m.hosts.anchor import Anchor
from b2m.hosts.kept import Kept
from b2m.hosts.service import Service
from b2m.hosts.session import Session
from b2m.project import Policy, Target
from b2m.signals import Signals
from b2m.sqlite.merge import Replay, Rule, Rules
from b2m.versions.commit import Commit


def new_run_id() -> str:
    """Return an id that sorts by time: ``20260921T180004Z-9f3a``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Caller:
    """Who started a run, as ``user@machine``, and the state of the project there; None outside Git."""

    owner: str
    revision: str | None
    dirty_tree: bool | None


_caller: Caller | None = None


def act_for(someone: Caller) -> None:
    """Run in the name of somebody on another machine from here on."""
    global _caller
    _caller = someone


def caller(root: Path) -> Caller:
    """Return who runs this: whoever sits before this machine, unless it acts for somebody on another one."""
    return _caller or Caller(owner(), *_git(root))


def _git(root: Path) -> tuple[str | None, bool | None]:
    """Return the Git revision of a folder, and whether its files differ from it."""

    def ask(*arguments: str) -> str | None:
        command = ["git", "-C", str(root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    revision = ask("rev-parse", "HEAD")
    changed = ask("status", "--porcelain", "--untracked-files=no") if revision else None
    return revision, None if changed is None else bool(changed)


def owner() -> str:
    """Return who runs this, as ``user@machine``."""
    if _caller is not None:
        return _caller.owner
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def merge_rules(policy: Policy, host: str) -> Rules:
    """Return a policy's merge rules and limits as the row engine takes them."""
    merge = policy.merge
    return Rules(
        default=Rule(merge.default.on_conflict, merge.default.by),
        tables={name: Rule(rule.on_conflict, rule.by) for name, rule in merge.tables.items()},
        max_deletes_rows=policy.max_deletes.rows,
        max_deletes_share=policy.max_deletes.share,
        host=host,
    )


class Run:
    """What a module sees: the session on the host, the bucket, the lease, the facts, and the run's own tally."""

    def __init__(
        self,
        target: Target,
        run_id: str,
        session: Session,
        bucket: Bucket,
        events: Events,
        signals: Signals,
        facts: Facts,
        message: str = "",
    ) -> None:
        self.target = target
        self.id = run_id
        self.session = session
        self.bucket = bucket
        self.events = events
        self.facts = facts
        self.message = message
        self.lease: Lease | None = None
        self.onto: Commit | None = None  # the version that the candidate was downloaded as
        self.gave_back = False  # the server had the swapped file since
        self.resolved = False
        self.commit: Commit | None = None
        self.downtime = 0.0
        self.holds = 0
        self._carried: dict[str, tuple[int, int, int]] = {}
        self._counters_moved = False
        self._signals = signals
        self.old_anchor = facts.anchor

    # -- who and what --------------------------------------------------------------------------------------------

    def service(self, name: str | None) -> Service | None:
        """Return a service of this host; UsageError if it has none of that name."""
        if name is None:
            return None
        known = self.target.services
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise errors.UsageError(what=f"{self.target.host} has no service {name}; it has: {there}")
        return Service(**asdict(known[name]))

    @property
    def bucket_id(self) -> str:
        assert self.facts.in_bucket.bucket_id is not None
        return self.facts.in_bucket.bucket_id

    @cached_property
    def owner(self) -> str:
        return owner()

    @cached_property
    def rules(self) -> Rules:
        return merge_rules(self.target.policy, self.target.host)

    @cached_property
    def _caller(self) -> Caller:
        return caller(self.target.root)

    @property
    def revision(self) -> str | None:
        """The Git revision of the project, None outside Git."""
        return self._caller.revision

    @property
    def dirty_tree(self) -> bool | None:
        """Whether the project differs from that revision."""
        return self._caller.dirty_tree

    # -- the lease -----------------------------------------------------------------------------------------------

    def lease_holds(self, *, look: bool = True) -> None:
        """Raise LeaseLost if the run has a lease that lapsed: asked before what cannot be taken back.

        Without ``look`` the time decides, and what was seen when the hold began: in a hold nobody waits for a store.
        What changes only this host, such as a download, runs without a lease.
        """
        if self.lease is not None:
            self.lease.ensure(look=look)

    # -- looking -------------------------------------------------------------------------------------------------

    def observe_locally(self) -> None:
        """Look at the host again, after a task changed what is there."""
        self.facts = replace(self.facts, on_host=self.session.observe())

    def note_live(self, path: Path) -> None:
        """Note that another file is live, without comparing it: the server is away and waits."""
        place = self.session.place
        renamed = self.facts.with_live(path=str(path), name=path.name, file_version=place.file_version(path))
        self.facts = replace(renamed, on_host=replace(renamed.on_host, anchor=anchors.load(place)))

    def observed(self, **more: Any) -> dict[str, Any]:
        """Return the facts by the names that playbooks use."""
        return {**self.facts.named(), "run": {"id": self.id}, **more}

    # -- the tally -----------------------------------------------------------------------------------------------

    def note_replay(self, done: Replay) -> None:
        """Remember what the candidate took from live, and whether a rule settled conflicts."""
        self.resolved = self.resolved or any(done.resolved.values())
        self._counters_moved = self._counters_moved or bool(done.sequences)
        for table, counts in done.counts.items():
            if counts.total:
                before = self._carried.get(table, (0, 0, 0))
                now = (counts.inserted, counts.updated, counts.deleted)
                self._carried[table] = (before[0] + now[0], before[1] + now[1], before[2] + now[2])

    def live_after_swap(self) -> Live:
        """Return what live is once the candidate is live: what the downloaded version lacks.

        An AUTOINCREMENT counter counts too: another host would give an id again that was given away here.
        """
        dirty = bool(self._carried) or self._counters_moved
        return Live(path="", name="", exists=True, dirty=dirty, rows=dict(self._carried))

    def next_number(self, parent: int) -> int:
        """Return the number of the version after ``parent``; under the lease nobody else takes it."""
        return parent + 1

    def published(self, commit: Commit) -> None:
        self.commit = commit
        self.facts = replace(self.facts, in_bucket=replace(self.facts.in_bucket, head=commit, ancestry="ok"))

    def count_hold(self, downtime: float | None) -> None:
        """Add a hold's downtime in seconds; None for one that held nothing."""
        if downtime is not None:
            self.holds += 1
            self.downtime += downtime

    @property
    def rows(self) -> Mapping[str, int]:
        """The rows of this run: those of the version it published, else those it carried over."""
        if self.commit is not None:
            counts = [(c.inserted, c.updated, c.deleted) for c in self.commit.rows.values()]
        else:
            counts = list(self._carried.values())
        return {
            "inserted": sum(c[0] for c in counts),
            "updated": sum(c[1] for c in counts),
            "deleted": sum(c[2] for c in counts),
        }

    # -- undoing -------------------------------------------------------------------------------------------------

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold signals back while something is done that must not be cut in two."""
        with self._signals.shielded():
            yield

    def held_again(self) -> None:
        """Take the server away once more, to undo what it already uses."""
        hold = self.session.hold
        if hold is not None and self.gave_back:
            hold.take_away()
            self.gave_back = False
        if hold is not None:
            hold.deadline = float("inf")

    def successor(self, kept: Kept) -> Path:
        """Return a file with the rows that the swapped-in file had at the swap."""
        place = self.session.place
        head = anchors.path_of(place, Anchor.from_json(dict(kept.head)))
        base = anchors.path_of(place, Anchor.from_json(dict(kept.anchor))) if kept.anchor else None
        return swapping.rebuild_successor(self.session, kept, head, base, self.rules)
