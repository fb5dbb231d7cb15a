"""The command line: thin Invoke tasks that parse flags, call ``b2m.api`` and map errors to exit codes."""

from __future__ import annotations

from invoke.collection import Collection

from b2m.tasks import (
    authoring,
    buckets,
    changing,
    contracting,
    fetching,
    looking,
    project,
    remote,
    reviewing,
    scheduling,
    upkeep,
)


def _namespace() -> Collection:
    root = Collection()
    for module in (looking, changing, fetching, upkeep, scheduling, remote, contracting, authoring, reviewing, project):
        for task in module.TASKS:
            root.add_task(task)
    nested = Collection("bucket")
    for task in buckets.TASKS:
        nested.add_task(task)
    root.add_collection(nested)
    return root


namespace = _namespace()
