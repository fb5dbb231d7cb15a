"""The examination of one database on one host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from b2m import errors
from b2m.buckets.lease_objects import read_holder, view
from b2m.buckets.protocol import Bucket
from b2m.doctor import host
from b2m.doctor.findings import Diagnosis, Finding
from b2m.doctor.remedies import against, b2m
from b2m.events import Events
from b2m.facts import BucketFacts, Facts, HostFacts, Live
from b2m.opening import Opened, opened
from b2m.project import Target
from b2m.state import MAX_SKEW, Verdict, classify
from b2m.sync import merge_problems

DEAD_AFTER = 1.5  # lease_ttls without a renewal
PATIENCE = 15.0  # seconds, beyond a lease's ttl, until a run that waits has seen that it is dead


def examine(target: Target, events: Events, *, deep: bool = False) -> Diagnosis:
    """Look at everything about a database on a host; ``deep`` reads the whole anchor.

    What cannot be seen is a finding too.
    """
    with opened(target, events) as found:
        first: list[Finding] = []
        try:
            facts = found.look()
            verdict: Verdict | None = classify(facts)
        except errors.B2mError as error:
            facts, verdict = _without_bucket(found, error), None
            command = _said(error) or b2m("status", facts)
            first.append(Finding("look", "bad", str(error), command, help=error.help))
        findings = [each for look in _looks(found, facts, verdict, deep) for each in _careful(look, facts)]
        return Diagnosis(target.db, target.host, verdict.state if verdict else None, (*first, *findings))


Look = Callable[[], Iterator[Finding]]


def _looks(found: Opened, facts: Facts, verdict: Verdict | None, deep: bool) -> Iterator[Look]:
    """Yield the examinations, the most urgent first: the site, then the data, then the rest."""
    place, target = found.session.place, found.target
    yield lambda: iter([host.lock(target, place, facts)])
    yield lambda: iter([host.service(target, facts)])
    yield lambda: iter([_bucket(facts)])
    yield lambda: iter([_pause(facts)])
    yield lambda: iter([_lease(found.bucket, facts, verdict)])
    yield lambda: iter([host.disk(place, facts)])
    yield lambda: iter([host.anchor(place, facts, deep)])
    yield lambda: iter([_clock(facts)])
    if verdict is not None:
        yield lambda: iter([_state(facts, verdict)])
    if facts.on_host.busy is None and facts.on_host.problem is None:
        yield lambda: iter(_policy(found, facts))
    yield lambda: iter([host.kept(place, facts)])
    yield lambda: iter([host.leftovers(place, facts)])
    yield lambda: iter([host.runs(place, facts, verdict)])
    yield lambda: host.guard(place)


def _careful(look: Look, facts: Facts) -> list[Finding]:
    """Examine; what stands in the way of looking is a finding itself."""
    try:
        return list(look())
    except errors.B2mError as error:
        return [Finding("look", "bad", str(error), _said(error) or b2m("status", facts), help=error.help)]
    except OSError as error:
        text = f"{error.filename or 'a file'}: {error.strerror or error}"
        return [Finding("look", "bad", text, b2m("status", facts))]


def _without_bucket(found: Opened, error: errors.B2mError) -> Facts:
    """Return what the host shows where the bucket cannot be asked, or the host's files not be read."""
    try:
        on_host = found.session.observe()
    except errors.B2mError:
        on_host = HostFacts(Live(path=str(found.target.folder), name=""))
    return found.facts(on_host, BucketFacts(problem=str(error)))


def _said(error: errors.B2mError) -> str | None:
    """Return the command that an error's own text names."""
    words = str(error).rpartition(": b2m ")[2]
    return f"b2m {words}" if words != str(error) else None


def _bucket(facts: Facts) -> Finding:
    bucket = facts.in_bucket
    if bucket.problem is None:
        head = f"v{facts.head.number} is the newest version" if facts.head else "it has no version yet"
        return Finding("bucket", "ok", f"id {bucket.bucket_id}, {head}")
    remedy = against("bucket_lost", facts)
    return Finding("bucket", "bad", bucket.problem, remedy.command, remedy.first, _page("bucket_lost"))


def _pause(facts: Facts) -> Finding:
    pause = facts.in_bucket.pause
    if pause is None:
        return Finding("pause", "ok", "it is not paused")
    return Finding(
        "pause", "bad", pause.line(), f"b2m resume --db {facts.db}", "ask whether it may go on", _page("paused")
    )


def _lease(bucket: Bucket, facts: Facts, verdict: Verdict | None) -> Finding:
    """Who holds the lease; judged by the holder's own clock here, by what a waiting run sees when it is taken over."""
    if facts.in_bucket.problem is not None:
        return Finding("lease", "note", "the bucket cannot be asked")
    ledger, claim = read_holder(bucket, facts.db)
    if claim is None:
        return Finding("lease", "ok", "it is free")
    lease = view(claim, ledger.renewals, time.time())
    silent = lease.age - lease.renewals * lease.ttl / 3
    text = f"held by {lease.owner} on {lease.host} since {lease.since} for {lease.reason}"
    if silent <= lease.ttl * DEAD_AFTER:
        return Finding("lease", "note", text, b2m("sync", facts, "--wait 30m"))
    text += f", without a sign of life for about {silent:.0f} s"
    waiting = facts.in_bucket.lease is not None and not facts.in_bucket.lease.ours
    needed = verdict is not None and verdict.state == "locked" and waiting
    # A run that waits sees for itself that the holder is dead, so that it need not be broken by force.
    wait = f"--wait {lease.ttl + PATIENCE:.0f}s"
    return Finding("lease", "bad" if needed else "note", text, b2m("sync", facts, wait))


def _clock(facts: Facts) -> Finding:
    skew = facts.in_bucket.skew
    if skew <= MAX_SKEW:
        return Finding("clock", "ok", "it agrees with what the bucket shows")
    remedy = against("clock_skew", facts)
    text = f"the bucket has signs from {skew:.0f} s in the future"
    return Finding("clock", "bad", text, remedy.command, remedy.first, _page("clock_skew"))


def _state(facts: Facts, verdict: Verdict) -> Finding:
    if verdict.refusal is not None:
        remedy = against(verdict.reason, facts)
        return Finding("state", "bad", str(verdict.refusal), remedy.command, remedy.first, verdict.refusal.help)
    if verdict.state in ("ready_to_upload", "outdated_db"):
        return Finding("state", "note", f"{verdict.state}: the next sync has work", b2m("sync", facts))
    return Finding("state", "ok", verdict.state)


def _policy(found: Opened, facts: Facts) -> list[Finding]:
    first = f"mend {found.target.playbook.file}"
    return [
        Finding("policy", "bad", what, b2m("plan", facts), first, _page("conflict")) for what in merge_problems(found)
    ]


def _page(reason: str) -> str:
    return errors.runbook(errors.Refused.exit_code, reason)
