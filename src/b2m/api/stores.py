"""Verbs about buckets themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from b2m import errors
from b2m.events import Events
from b2m.project import Project, Target

if TYPE_CHECKING:
    from b2m.buckets.checking import Checked
    from b2m.importing import Imported


def bucket_import(target: Target, events: Events, source: str, *, everything: bool = False) -> Imported:
    """Take an earlier tool's plain files over as versions; the newest, or all that follow one another."""
    from b2m.importing import import_versions

    return import_versions(target, events, source, everything=everything)


def bucket_init(found: Project, name: str | None = None) -> Mapping[str, str]:
    """Set up the project's buckets, or the named one; return each one's id."""
    from b2m.buckets import open_bucket
    from b2m.buckets.marker import init_bucket

    return {each: init_bucket(open_bucket(found.bucket(each))).id for each in _buckets(found, name)}


def bucket_check(found: Project, name: str | None = None) -> Iterator[Checked]:
    """Try the project's buckets, or the named one, one after the other."""
    from b2m.buckets import open_bucket
    from b2m.buckets.checking import Check

    for each in _buckets(found, name):
        config = found.bucket(each)
        yield Check(each, config.get("url") or config["path"], partial(open_bucket, config)).run()


def _buckets(found: Project, name: str | None) -> list[str]:
    """Return the names of the project's buckets, or the named one; UsageError."""
    known = found.inventory.buckets
    if name is not None and name not in known:
        raise errors.UsageError(what=f"unknown bucket {name}; inventory.yaml knows: {', '.join(sorted(known))}")
    return list(known) if name is None else [name]
