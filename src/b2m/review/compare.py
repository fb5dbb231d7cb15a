"""Two readings of a project, compared database by database, state by state and host by host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from b2m.errors import B2mError
from b2m.project import Policy, Project, Target
from b2m.project.load import Reading
from b2m.project.models import InventoryFile
from b2m.review.guards import new_commands, weaker
from b2m.review.policies import Changed, changed_policy, changed_settings
from b2m.review.revisions import Change
from b2m.review.steps import Step, difference, steps

Result = TypeVar("Result")

StatePlans: TypeAlias = Mapping[tuple[str, str], tuple[tuple[Step, ...], tuple[Step, ...]]]
"""State and host -> the plan before and after."""

PROJECT = Path("PROJECT")
"""Where both sides are taken to lie, so that the place of neither is seen."""


@dataclass(frozen=True)
class Warned:
    """One thing that a reviewer should have seen; ``db`` is None for the project's files."""

    db: str | None
    what: str
    states: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plans:
    """One difference of plans, and in which states on which hosts the same lines change; no hosts: on all of them.

    ``around`` is the host whose unchanged lines are shown, if those of others differ.
    """

    states: tuple[str, ...]
    hosts: tuple[str, ...]
    lines: tuple[str, ...]
    around: str | None = None


@dataclass(frozen=True)
class Database:
    """What changed for one database; ``changed`` holds each setting with its hosts, none: on all of them."""

    db: str
    notes: tuple[str, ...]
    changed: tuple[tuple[Changed, tuple[str, ...]], ...]
    plans: tuple[Plans, ...]


@dataclass(frozen=True)
class Review:
    """What a change does in effect; ``invalid`` is what is wrong after it, ``was_invalid`` what was before."""

    change: Change
    databases: tuple[Database, ...]
    warnings: tuple[Warned, ...]
    invalid: tuple[str, ...]
    was_invalid: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """3 if the project is not valid after the change, 8 if there are warnings, else 0."""
        return 3 if self.invalid else 8 if self.warnings else 0


@dataclass(frozen=True)
class Compared:
    """What comparing found; ``unseen`` are the databases that could not be compared, with the reason."""

    databases: tuple[Database, ...]
    warnings: tuple[Warned, ...]
    unseen: tuple[str, ...]


def compare(before: Reading, after: Reading) -> Compared:
    """Compare all that could be read of both sides."""
    if after.inventory is None or (before.inventory is None and before.documents):
        return Compared((), (), ("the databases: without an inventory that can be read nothing was compared",))
    old, new = _project(before), _project(after)
    databases: list[Database] = []
    warnings: list[Warned] = []
    unseen: list[str] = []
    for db in sorted({*old.databases, *new.databases}):
        if db not in new.databases:
            databases.append(Database(db, ("No longer in the project.",), (), ()))
            warnings.append(Warned(db, "removed from the project: nothing keeps it in step any more"))
            continue
        if any(db in side.databases and db not in side.playbooks for side in (old, new)):
            unseen.append(f"{db}: one side has no playbook for it that can be read")
            continue
        try:
            one, warned = _Comparison(db, old, new).result()
        except B2mError as error:
            unseen.append(f"{db}: {' '.join(str(error).split())}")
            continue
        warnings += warned
        if one.notes or one.changed or one.plans:
            databases.append(one)
    return Compared(tuple(databases), tuple(warnings), tuple(unseen))


def _project(read: Reading) -> Project:
    inventory = read.inventory or InventoryFile(buckets={}, databases={})
    return Project(PROJECT, inventory, read.hosts, read.playbooks, read.roles, read.documents)


class _Comparison:
    """One database on all its hosts, before and after."""

    def __init__(self, db: str, old: Project, new: Project) -> None:
        self._db = db
        self._old = self._targets(old)
        self._new = self._targets(new)
        self._known = db in old.databases

    def _targets(self, project: Project) -> dict[str, Target]:
        if self._db not in project.databases:
            return {}
        return {host: project.target(self._db, host) for host in project.hosts_of(self._db)}

    def result(self) -> tuple[Database, list[Warned]]:
        """What changed, and what of it is to be warned of."""
        plans = dict(self._plans())
        changed = self._changed()
        warned = [
            Warned(self._db, f"{one.name} {one.before} -> {one.after}: {one.means}", hosts=hosts)
            for one, hosts in changed
            if one.weaker
        ]
        warned += self._warned(plans)
        return Database(self._db, tuple(self._notes()), changed, self._differences(plans)), warned

    def _notes(self) -> Iterator[str]:
        if not self._known:
            yield f"New in the project, on {', '.join(self._new)}; its policy is compared with the defaults."
            return
        if came := [host for host in self._new if host not in self._old]:
            yield f"It may run on {', '.join(came)} now."
        if went := [host for host in self._old if host not in self._new]:
            yield f"It may no longer run on {', '.join(went)}."

    def _changed(self) -> tuple[tuple[Changed, tuple[str, ...]], ...]:
        # A policy is the same on every host; that of a new database is compared with the defaults.
        was, now = (next(iter(side.values())).policy if side else Policy() for side in (self._old, self._new))
        policies = changed_policy(was, now)
        both = [host for host in self._new if host in self._old]
        found: list[tuple[Changed, tuple[str, ...]]] = [(one, ()) for one in policies]
        pairs = ((host, one) for host in both for one in changed_settings(self._old[host], self._new[host]))
        return (*found, *((one, self._all_or(hosts, both)) for one, hosts in _grouped(pairs)))

    def _plans(self) -> Iterator[tuple[tuple[str, str], tuple[tuple[Step, ...], tuple[Step, ...]]]]:
        """Every plan before and after, by state and host; a host that is new has the plan of another before."""
        spare = next(iter(self._old.values()), None)
        for host, target in self._new.items():
            old = self._old.get(host, spare)
            for section, _ in target.playbook.sections():
                yield (section, host), (steps(old, section) if old else (), steps(target, section))

    def _differences(self, plans: StatePlans) -> tuple[Plans, ...]:
        by_state: dict[str, dict[str, tuple[str, ...]]] = {}
        for (state, host), (old, new) in plans.items():
            if (host in self._old or not self._known) and (lines := difference(old, new)):
                by_state.setdefault(state, {})[host] = lines
        pairs = []
        for state, found in by_state.items():
            # Hosts often differ only in lines around, such as the service that a hold names.
            for _, hosts in _grouped((host, _without_context(lines)) for host, lines in found.items()):
                lines = found[hosts[-1]]
                around = hosts[-1] if any(found[host] != lines for host in hosts) else None
                pairs.append((state, (self._all_or(hosts, self._new), lines, around)))
        return tuple(Plans(states, *found) for found, states in _grouped(pairs))

    def _warned(self, plans: StatePlans) -> Iterator[Warned]:
        for judge in (weaker, new_commands):
            yield from self._judged(judge, plans)
        if not self._known:
            return
        for section in ("on_refused", "on_failed", "on_success"):
            found = [both for (state, _), both in plans.items() if state == section]
            if found and all(old for old, _ in found) and not any(new for _, new in found):
                yield Warned(self._db, f"{section} has no task any more: nobody is told")

    def _judged(
        self,
        judge: Callable[[tuple[Step, ...], tuple[Step, ...]], Iterable[str]],
        plans: StatePlans,
    ) -> Iterator[Warned]:
        places: dict[str, list[tuple[str, str]]] = {}
        for place, (old, new) in plans.items():
            for what in judge(old, new):
                places.setdefault(what, []).append(place)
        for what, found in places.items():
            states = tuple(dict.fromkeys(state for state, _ in found))
            hosts = tuple(dict.fromkeys(host for _, host in found))
            yield Warned(self._db, what, states, self._all_or(hosts, self._new))

    @staticmethod
    def _all_or(hosts: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
        return () if set(hosts) == set(known) else hosts


def _without_context(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line for line in lines if line[0] in "-+")


def _grouped(pairs: Iterable[tuple[str, Result]]) -> list[tuple[Result, tuple[str, ...]]]:
    """Every different result with the names that have it."""
    found: dict[Result, list[str]] = {}
    for name, result in pairs:
        found.setdefault(result, []).append(name)
    return [(result, tuple(names)) for result, names in found.items()]
