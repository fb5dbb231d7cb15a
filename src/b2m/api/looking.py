"""Verbs that look at a database and its bucket; they lock nothing and change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from b2m.api.on_hosts import on_host
from b2m.events import Events
from b2m.project import Target

if TYPE_CHECKING:
    from b2m.buckets.lease import LeaseView
    from b2m.contract import Contract, Tell
    from b2m.doctor import Diagnosis
    from b2m.facts import Facts
    from b2m.looking import Difference
    from b2m.overview import Seen
    from b2m.plan import Step
    from b2m.records import Record
    from b2m.rehearsal import Rehearsed
    from b2m.state import Verdict
    from b2m.versions.commit import Commit


@on_host
def status(target: Target, events: Events) -> tuple[Facts, Verdict]:
    """Return the facts and the verdict of one database, without locking or changing anything."""
    from b2m.opening import opened
    from b2m.state import classify

    with opened(target, events) as found:
        facts = found.look()
    return facts, classify(facts)


@on_host
def plan(target: Target, events: Events) -> tuple[Facts, Verdict, list[Step]]:
    """Return the facts, the verdict and the steps that a sync would take."""
    from b2m.sync import check

    return check(target, events)


@on_host
def seen(target: Target, events: Events) -> Seen:
    """Return what ``status`` does, and the last run on the host that brought the database in step."""
    from b2m.opening import opened
    from b2m.overview import Seen
    from b2m.records import last_sync
    from b2m.state import classify

    with opened(target, events) as found:
        facts = found.look()
        last = last_sync(found.session.place)
    return Seen(facts, classify(facts), last)


@on_host
def rehearse(target: Target, events: Events) -> Rehearsed:
    """Try a sync in a throwaway folder: downloads, replays, verifies, and changes nothing."""
    from b2m.rehearsal import rehearse as run

    return run(target, events)


@on_host
def runs(target: Target) -> list[Record]:
    """Return the records of the runs on a host, newest first."""
    from b2m.opening import place_of
    from b2m.records import newest_first

    return list(newest_first(place_of(target)))


@on_host
def doctor(target: Target, events: Events, *, deep: bool = False) -> Diagnosis:
    """Return everything that may be wrong with a database on a host, and what helps; nothing is changed."""
    from b2m.doctor import examine

    return examine(target, events, deep=deep)


@on_host
def contract(target: Target, events: Events, tell: Tell, *, wait: float = 0.0) -> Contract:
    """Take a database from its server for a moment and see whether it keeps docs/server-contract.md."""
    from b2m.contract import check_service

    return check_service(target, events, tell, wait=wait)


@on_host
def diff(target: Target, events: Events, limit: int) -> Difference:
    """Return how live differs from its anchor, counted, and up to ``limit`` changed rows of each table."""
    from b2m.looking import diff as look

    return look(target, events, limit)


def history(target: Target, limit: int | None = 20) -> list[Commit]:
    """Return the newest commits of a database, newest first."""
    from b2m.buckets import open_marked
    from b2m.versions import log

    bucket = open_marked(target.bucket)
    return log.history(bucket, target.db, limit)


def locks(target: Target) -> LeaseView | None:
    """Return the lease on a database in the bucket, None if it is free."""
    from b2m.buckets import open_marked
    from b2m.buckets.lease import look

    bucket = open_marked(target.bucket)
    return look(bucket, target.db)


def db_toml(chosen: Iterable[Target]) -> str:
    """Return the text of a ``db.toml`` that names the newest version of databases, as their buckets have them."""
    from b2m.buckets import open_marked
    from b2m.versions import courtesy, dbtoml

    entries: dict[str, str] = {}
    for target in chosen:
        bucket = open_marked(target.bucket)
        entries |= courtesy.entries(bucket, {target.db: target.listed[target.db]})
    return dbtoml.render(entries)
