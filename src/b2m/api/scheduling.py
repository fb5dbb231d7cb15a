"""Verbs about what runs by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from b2m import errors
from b2m.api.choosing import named
from b2m.project import ALL, LOCAL, Project, Target
from b2m.project.words import database_of

if TYPE_CHECKING:
    from b2m.schedule import Entry


def scheduled(found: Project, dbs: Iterable[str], host: str | None = None) -> list[Target]:
    """Return the named databases on the hosts that their schedules name; ``all`` are those that have a schedule.

    UsageError for a database that has none, or another host's than ``host``.
    """
    words, planned = list(dbs), {db: book.schedule for db, book in found.playbooks.items() if book.schedule is not None}
    if words == [ALL]:
        words = [db for db, schedule in sorted(planned.items()) if host in (None, schedule.host)]
        if not words:
            raise errors.UsageError(what="no playbook has a schedule" + (f" for {host}" if host else ""))
    names = list(dict.fromkeys(database_of(found, word, host or LOCAL) for word in words))
    if not names:
        raise errors.UsageError(what=f"name a database: --db {' or --db '.join(found.databases)}, or --db all")
    hosts = {db: host or (planned[db].host if db in planned else LOCAL) for db in names}
    return [target for db in names for target in named(found, [db], hosts[db])]


def schedule_entry(target: Target, *, to_remove: bool = False) -> Entry:
    """Return what makes a database sync by itself; UsageError if its playbook has no schedule for this host.

    With ``to_remove`` the playbook need not have it any more.
    """
    from b2m.schedule import entry_of

    return entry_of(target, to_remove=to_remove)
