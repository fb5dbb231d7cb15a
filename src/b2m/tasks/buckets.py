"""Tasks about a bucket as a whole."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from b2m.tasks.frame import FLAGS, help_of, reported, the_project


@task(**FLAGS, help=help_of("project", bucket="a bucket of inventory.yaml; without it, every one"))
def init(c: Context, bucket: str = "", project: str = "") -> None:
    """Set buckets up; one that is set up already stays as it is."""
    with reported(c):
        from b2m import api

        for name, identity in api.bucket_init(the_project(project or None), bucket or None).items():
            print(f"{name}  {identity}", flush=True)


TASKS = (init,)
