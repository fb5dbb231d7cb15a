"""Tasks for whatever starts with the databases: a developer's server, another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from b2m.tasks.frame import DBS, chosen, emit, events, for_each, help_of, reported, tell, the_project

if TYPE_CHECKING:
    from b2m.project import Target


@task(**DBS, help=help_of("db", "host", "project", "json"))
def ensure(c: Context, db: list[str], host: str = "", project: str = "", json: bool = False) -> None:
    """Fetch databases that are missing or outdated, before a server starts; one with rows of its own stays as it is."""
    with reported(c, json):
        from b2m import api

        def act(target: Target) -> int:
            found = api.ensure(target, events(json))
            if json:
                fields = {"db": found.db, "host": found.host, "did": found.did, "version": found.version}
                emit({"type": "ensure", **fields, "text": found.text})
                if found.recap is not None:
                    emit(found.recap.to_json())
            else:
                tell(found.line())
            return 0

        for_each(chosen(db, host, project), json, act)


@task(**DBS, help=help_of("db", "host", "project", output="write it to this file; without it, to standard output"))
def fetch_db_toml(c: Context, db: list[str], host: str = "", project: str = "", output: str = "") -> None:
    """Print a db.toml that names the newest version of each database, as the buckets have them."""
    with reported(c):
        from b2m import api

        found = the_project(project or None)
        text = api.db_toml(api.targets(found, db or ["all"], host or "local"))
        if output:
            api.write_db_toml(found, Path(output).expanduser(), text)
        else:
            tell(text, end="")


TASKS = (ensure, fetch_db_toml)
