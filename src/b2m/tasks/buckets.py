"""Tasks about a bucket as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from b2m.errors import BucketError, UsageError
from b2m.tasks.frame import DBS, FLAGS, chosen, emit, events, for_each, help_of, reported, tell, the_project

if TYPE_CHECKING:
    from b2m.project import Target


@task(**FLAGS, help=help_of("project", bucket="a bucket of inventory.yaml; without it, every one"))
def init(c: Context, bucket: str = "", project: str = "") -> None:
    """Set buckets up; one that is set up already stays as it is."""
    with reported(c):
        from b2m import api

        for name, identity in api.bucket_init(the_project(project or None), bucket or None).items():
            tell(f"{name}  {identity}")


@task(**FLAGS, help=help_of("project", "json", bucket="a bucket of inventory.yaml; without it, every one"))
def check(c: Context, bucket: str = "", project: str = "", json: bool = False) -> None:
    """Try what buckets can do and their keys may do; exit 9 if something is missing."""
    with reported(c, json):
        from b2m import api

        ready = True
        for found in api.bucket_check(the_project(project or None), bucket or None):
            emit(found.to_json()) if json else tell(*found.lines())
            ready = ready and found.ready
        if not ready:
            raise Exit(None, BucketError.exit_code)


@task(
    **DBS,
    name="import",
    help=help_of(
        "db",
        "project",
        "json",
        source="where the files lie: a folder, or the address of a bucket that the same key may read",
        all="every version up to the newest whose numbers follow one another; without it, only the newest",
    ),
)
def import_(
    c: Context, db: list[str], source: str = "", project: str = "", all: bool = False, json: bool = False
) -> None:
    """Take over the plain files that an earlier tool left in a bucket as versions; they are only read."""
    with reported(c, json):
        from b2m import api

        if not source:
            raise UsageError(what="say where the files lie: --source s3://bucket/folder, b2://bucket/folder or a path")

        def act(target: Target) -> int:
            found = api.bucket_import(target, events(json), source, everything=all)
            if json:
                emit({"type": "import", "db": found.db, "versions": found.taken, "left": found.left})
                return 0
            left = f"; left alone: {', '.join(found.left)}" if found.left else ""
            tell(f"{found.db}  {', '.join(f'v{number}' for number in found.taken)} imported{left}")
            return 0

        for_each(chosen(db, "", project), json, act)


TASKS = (init, check, import_)
