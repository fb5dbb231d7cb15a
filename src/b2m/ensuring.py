"""What a server's start needs: a usable file of each database, the newest one where that loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from b2m import errors
from b2m.events import Events
from b2m.facts import Facts
from b2m.opening import opened
from b2m.project import Target
from b2m.report import Recap
from b2m.state import classify

Did = Literal["current", "fetched", "kept", "unchecked"]


@dataclass(frozen=True)
class Ensured:
    """What is there now; ``kept`` is a file with rows of its own, ``unchecked`` one whose bucket is not there."""

    db: str
    host: str
    did: Did
    version: int | None
    text: str
    recap: Recap | None = None

    def line(self) -> str:
        return f"{self.db}@{self.host}  {self.did}  {self.text}"


def ensure(target: Target, events: Events) -> Ensured:
    """Fetch a database that is missing, or outdated without rows of its own; never touch one that has such rows.

    A file whose bucket cannot be asked will do. Any other refusal of ``status`` comes out.
    """
    with opened(target, events) as found:
        facts = found.look()
    live, anchor, head = facts.live, facts.anchor, facts.head
    number = anchor.number if anchor else None
    if facts.on_host.busy is not None:
        raise errors.Locked(db=target.db, owner=facts.on_host.busy, since=facts.on_host.busy.since)
    if live.exists and facts.in_bucket.problem is not None:
        return Ensured(target.db, target.host, "unchecked", number, f"{live.name}: {facts.in_bucket.problem}")
    refusal = classify(facts).refusal
    if live.exists and (isinstance(refusal, errors.ReadOnlyHost) or (refusal is None and live.dirty)):
        return Ensured(target.db, target.host, "kept", number, _kept(facts))
    if refusal is not None and not isinstance(refusal, errors.LiveMissing):
        raise refusal
    if live.exists and anchor is not None and head is not None and anchor.token == head.token:
        return Ensured(target.db, target.host, "current", number, f"{live.name} is v{number}")
    # Imported here: mostly there is nothing to fetch, and a server's start waits for this.
    from b2m.commands import download

    recap = download(target, events, version=None, discard=False)
    return Ensured(target.db, target.host, "fetched", recap.to_version, f"v{recap.to_version}", recap)


def _kept(facts: Facts) -> str:
    live, anchor, head = facts.live, facts.anchor, facts.head
    if anchor is None:
        return f"{live.name} is in no version; publish it with: b2m sync --db {facts.db} --host {facts.host}"
    behind = f", and v{head.number} is out" if head and head.number > anchor.number else ""
    count = live.changed_rows
    what = f"{count} row{'s' if count > 1 else ''} of its own" if count else "a schema of its own"
    bring = f"bring both together with: b2m sync --db {facts.db} --host {facts.host}"
    return f"{live.name} is v{anchor.number} with {what}{behind}; {bring}"
