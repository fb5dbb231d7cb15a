"""Changed policies and changed settings of a database, in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from b2m.project import MergeRule, Policy, Target
from b2m.review.steps import hidden

_RULES = {
    "fail": "the run is refused",
    "ours": "the row that was written here wins",
    "theirs": "the row of the bucket wins",
    "newest": "the newer row wins",
}
_TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times", 10: "ten times"}


@dataclass(frozen=True)
class Changed:
    """One setting that changed; ``weaker`` if it lets something happen that was kept from happening."""

    name: str
    before: str
    after: str
    means: str
    weaker: bool = False


def changed_policy(before: Policy, after: Policy) -> Iterator[Changed]:
    """What changed in a playbook's policy, and what that means for a run."""
    old, new = before.max_downtime, after.max_downtime
    if old != new:
        means = f"a hold may last {_factor(old, new)}"
        yield Changed("max_downtime", seconds(old), seconds(new), means, weaker=new > old)
    yield from _merge(before, after)
    limits, allowed = before.max_deletes, after.max_deletes
    if limits.rows != allowed.rows:
        means = f"up to {allowed.rows} rows of a table may vanish in one run"
        weak = allowed.rows > limits.rows
        yield Changed("max_deletes.rows", str(limits.rows), str(allowed.rows), means, weak)
    if limits.share != allowed.share:
        means = f"up to {allowed.share:.0%} of a table's rows may vanish in one run"
        weak = allowed.share > limits.share
        yield Changed("max_deletes.share", f"{limits.share:g}", f"{allowed.share:g}", means, weak)
    if before.naming != after.naming:
        means = f"the live file's name {'tells its version' if after.naming == 'versioned' else 'is always the same'}"
        yield Changed("naming", before.naming, after.naming, means)
    if before.rename != after.rename:
        means = "a mere upload renames the live file at once, in a hold of its own"
        later = "the live file keeps its old number until the next swap"
        yield Changed("rename", before.rename, after.rename, means if after.rename == "now" else later)
    if before.lease_ttl != after.lease_ttl:
        longer = after.lease_ttl > before.lease_ttl
        means = "after a run dies, others wait longer" if longer else "a run that stalls is taken for dead sooner"
        yield Changed("lease_ttl", seconds(before.lease_ttl), seconds(after.lease_ttl), means)


def _merge(before: Policy, after: Policy) -> Iterator[Changed]:
    old, new = before.merge, after.merge
    if old.default != new.default:
        yield _rule("merge.default", "a row", old.default, new.default)
    for table in sorted(old.tables.keys() | new.tables.keys()):
        if table not in old.tables and new.tables[table] == new.default:
            continue  # it only says again what holds for all
        if old.rule(table) != new.rule(table) and (table in old.tables or table in new.tables):
            yield _rule(f"merge.tables.{table}", f"a row of {table}", old.rule(table), new.rule(table))


def _rule(name: str, row: str, before: MergeRule, after: MergeRule) -> Changed:
    means = f"when both sides changed {row}, {_RULES[after.on_conflict]}"
    weak = before.on_conflict == "fail" != after.on_conflict
    if weak:
        means += ", and the other's change is dropped"
    return Changed(name, _words(before), _words(after), means, weak)


def _words(rule: MergeRule) -> str:
    return f"{rule.on_conflict} by {rule.by}" if rule.by else rule.on_conflict


def settings(target: Target) -> dict[str, str]:
    """What the inventory says of a database on one host, all of it on one line each."""
    service = target.service
    found = {
        "file": target.file,
        "key": target.key,
        "direction": target.direction,
        "bucket": f"{target.bucket_name} ({_place(target.bucket)})",
        "locks": (target.bucket.get("locks") or {}).get("url", "none"),
        "folder": str(target.folder),
        "service": service.name if service else "none",
    }
    if service is not None:
        back = "start" if service.verb == "stop" else "connect"
        found |= {service.verb: service.away, back: service.back}
        found["health"] = service.health_url or service.health_command or "none"
        found["start_timeout"], found["stop_timeout"] = seconds(service.start_timeout), seconds(service.stop_timeout)
    # Which Python runs b2m says nothing about the project.
    return {name: value.replace(sys.executable, "{{ python }}") for name, value in found.items()}


def _place(bucket: Mapping[str, Any]) -> str:
    """Where a bucket is: its path or address, and the store that is asked for it."""
    store = bucket.get("endpoint") or bucket.get("realm")
    return f"{bucket.get('path') or bucket['url']}{f' at {store}' if store not in (None, 'production') else ''}"


def changed_settings(before: Target, after: Target) -> Iterator[Changed]:
    """What changed in the inventory for a database on one host."""
    old, new = settings(before), settings(after)
    # The commands of a service that went or came are told by its name.
    for name in (name for name in new if name in old and old[name] != new[name]):
        was, now = hidden(name, old[name]), hidden(name, new[name])
        yield Changed(name, was, now, *_meaning(name, new[name], before, after))


def _meaning(name: str, now: str, before: Target, after: Target) -> tuple[str, bool]:
    if name == "direction":
        opens = now == "both"
        return ("this host may now publish", True) if opens else ("this host only receives", False)
    if name == "service" and now == "none":
        return "no server is asked to let go of the file", True
    if name == "health" and now == "none" and after.service is not None:
        return "nobody notices that the server did not come back", True
    if name in ("start_timeout", "stop_timeout") and before.service and after.service:
        longer = getattr(after.service, name) > getattr(before.service, name)
        return f"the server may take {'longer' if longer else 'less long'}, and a hold with it", longer
    if name == "locks" and now == "none":
        return "versions are published by flags, which takes longer and trusts in the order that the store keeps", True
    if name in ("bucket", "folder", "file"):
        return "what is at the old place stays there, and is not looked for", False
    return "", False


def seconds(value: float) -> str:
    """A duration as people write it."""
    for unit, size in (("h", 3600), ("m", 60)):
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value * 1000:g}ms" if 0 < value < 1 else f"{value:g}s"


def _factor(old: float, new: float) -> str:
    if not old or not new:
        return "longer" if new > old else "less long"
    times = new / old
    if times in _TIMES:
        return f"{_TIMES[int(times)]} as long"
    if times > 1:
        return f"{times:.3g} times as long"
    return f"only {times:.0%} as long" if times >= 0.01 else "less long"
