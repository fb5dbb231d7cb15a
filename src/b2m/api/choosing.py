"""Which databases a command is about, on which hosts; and doing something with each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from b2m import errors
from b2m.project import ALL, LOCAL, Project, Target, find_project, load_project
from b2m.project.overrides import check_known, read_overrides
from b2m.project.words import database_of

Result = TypeVar("Result")


# The worst outcome of several databases decides the exit code.
SEVERITY = (7, 6, 9, 5, 8, 3, 1, 4, 10)


def project(folder: str | None = None, *, checked: bool = False) -> Project:
    """Return the project in ``folder``, or the nearest one upwards; InvalidProject, UsageError.

    ``checked``, for what runs playbooks, refuses what ``check`` calls an error, too.
    """
    from b2m.modules import MODULES
    from b2m.project.checks import require_checked

    found = load_project(find_project(folder or None), MODULES)
    if checked:
        require_checked(found)
    return found


def targets(
    found: Project, dbs: Iterable[str], host: str = LOCAL, variables: Iterable[str] = (), *, checked: bool = False
) -> list[Target]:
    """Return the databases as ``named`` does; the demo host is made on first use.

    ``checked``, for what runs playbooks, refuses one that needs a variable which the host has not.
    """
    chosen = named(found, dbs, host, variables)
    if checked:
        from b2m.project.checks import require_names

        for target in chosen:
            require_names(found, target.db, target.host, target.overrides)
    if any(target.demo for target in chosen):
        from b2m.demo.host import ensure

        ensure(chosen[0])
    return chosen


def named(found: Project, dbs: Iterable[str], host: str = LOCAL, variables: Iterable[str] = ()) -> list[Target]:
    """Return the named databases on a host, all of the project's for ``all``, from its files alone.

    ``variables`` are ``name=value`` texts, the topmost level; UsageError for a name that no playbook in question has.
    """
    words = list(dbs)
    if not words:
        raise errors.UsageError(what=f"name a database: --db {' or --db '.join(found.databases)}, or --db all")
    found.host(host)
    names = list(dict.fromkeys(database_of(found, word, host) for word in words))
    if names == [ALL]:
        names = [db for db in found.databases if host in found.hosts_of(db)]
        if not names:
            raise errors.UsageError(what=f"no playbook runs on {host}: it has no database of this project")
    overrides = read_overrides(variables)
    chosen = [found.target(db, host, overrides) for db in names]
    if overrides:
        check_known(overrides, set().union(*(found.variables(db) for db in names)))
    return chosen


def fleet(found: Project, dbs: Iterable[str], variables: Iterable[str] = ()) -> list[Target]:
    """Return the named databases on all hosts that have them, except ``local``: first where rows come from.

    A host that only receives a database is brought to what the others have just published.
    """
    words = list(dbs)
    chosen: list[Target] = []
    for host in found.hosts:
        there = [db for db in found.databases if host in found.hosts_of(db)]
        wanted = there if words == [ALL] else [db for db in words if db in there or db not in found.databases]
        if host != LOCAL and wanted:
            chosen += targets(found, wanted, host, variables)
    missed = [db for db in words if db in found.databases and all(target.db != db for target in chosen)]
    if missed or not chosen:
        what = " or ".join(missed or words) or "a database that is named: add --db"
        raise errors.UsageError(what=f"no host has {what}")
    return sorted(chosen, key=lambda target: target.direction == "bucket_to_host")


@dataclass(frozen=True)
class Failure:
    """What went wrong with one of several databases."""

    target: Target
    error: errors.B2mError


def each(
    chosen: Iterable[Target], act: Callable[[Target], Result], *, stop: bool = False
) -> tuple[list[Result], list[Failure]]:
    """Do something with each database; one failing does not stop the rest, unless ``stop`` says so."""
    done: list[Result] = []
    failed: list[Failure] = []
    for target in chosen:
        try:
            done.append(act(target))
        except errors.B2mError as error:
            failed.append(Failure(target, error))
            if stop:
                break
    return done, failed


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several outcomes."""
    seen = set(codes)
    for code in SEVERITY:
        if code in seen:
            return code
    return max(seen, default=0)
