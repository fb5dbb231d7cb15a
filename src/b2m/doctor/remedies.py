"""Which command helps against which refusal, and what a person must do before."""

from __future__ import annotations

from dataclasses import dataclass

from b2m.facts import Facts


@dataclass(frozen=True)
class Remedy:
    """A command line, and what must be done first, if anything."""

    command: str
    first: str | None = None


def b2m(verb: str, facts: Facts, *flags: str) -> str:
    """Return a command line of b2m's about this database on this host."""
    return " ".join(["b2m", verb, "--db", facts.db, "--host", facts.host, *flags])


def against(reason: str | None, facts: Facts) -> Remedy:
    """Return what helps against a refusal of this reason; running sync again, if nothing better is known."""
    sync = b2m("sync", facts)
    if reason in ("diverged", "changed_under_number"):
        flags = ("--discard",) if facts.live.dirty else ()
        first = f"look at both with: b2m history --db {facts.db}; what only this host has is kept in .b2m/{facts.db}"
        return Remedy(b2m("download", facts, *flags), first)
    if reason == "bucket_lost":
        if facts.anchor is None and facts.in_bucket.bucket_id is None:
            return Remedy("b2m bucket init", "if the bucket should be there already, mount it, or name the right one")
        return Remedy(sync, "bring the bucket back: mount it, or name the right one in inventory.yaml")
    if reason == "unreadable":
        return Remedy(b2m("status", facts), f"see what became of {facts.live.path}: owner, mode, disk")
    if reason == "read_only_host":
        first = f"look at the rows with: {b2m('diff', facts)}; they are kept in .b2m/{facts.db}/backups"
        return Remedy(b2m("download", facts, "--discard"), first)
    if reason == "clock_skew":
        return Remedy("timedatectl set-ntp true", "find out whose clock is wrong, here or where it was last published")
    if reason == "cannot_replay":
        first = f"put what {b2m('diff', facts)} shows into the newest version by hand, on another host, and publish it"
        return Remedy(b2m("download", facts, "--discard"), f"{first}; a backup is kept in .b2m/{facts.db}/backups")
    if reason in ("conflict", "failed_verification", "mass_deletion"):
        look = b2m("plan", facts, "--rehearse") if reason == "conflict" else b2m("diff", facts)
        return Remedy(sync, f"see what it is about with: {look}; mend the rows, or policy in playbooks/{facts.db}.yaml")
    if reason == "nothing_here":
        return Remedy(sync, f"put the database at {facts.live.path}")
    if reason == "no_space":
        return Remedy(sync, "make room on the disk")
    known = {
        "live_missing": b2m("download", facts),
        "no_base": b2m("adopt", facts),
        "anchor_damaged": b2m("adopt", facts),
        "unsaved_rows": sync,
    }
    return Remedy(known.get(reason or "", sync))
