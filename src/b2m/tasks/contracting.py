"""The task for whoever writes or operates a server that b2m takes databases from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from b2m.tasks.frame import DBS, chosen, emit, events, for_each, help_of, reported, seconds, tell

if TYPE_CHECKING:
    from b2m.contract import Check
    from b2m.project import Target


@task(**DBS, help=help_of("db", "host", "project", "json", "wait"))
def contract(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False, wait: str = "") -> None:
    """Check that a running server keeps docs/server-contract.md, by taking databases from it for a moment."""
    with reported(c, json):
        from b2m import api

        patience = seconds(wait or None)

        def show(target: Target) -> int:
            if not json and target.service is not None:
                tell(f"{target.db}@{target.host}  {target.service.name}")
            found = api.contract(target, events(json), _silent if json else _line, wait=patience)
            emit(found.to_json()) if json else tell(found.line())
            found.require()
            return 0

        for_each(chosen(db, host, project), json, show)


def _line(check: Check) -> None:
    tell(check.line())


def _silent(check: Check) -> None:
    """Nothing is said before the end: a program reads all checks in one object."""


TASKS = (contract,)
