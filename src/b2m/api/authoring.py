"""Verbs about a project's own files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from b2m.project import Project, Target, find_project
from b2m.project.overrides import read_overrides

if TYPE_CHECKING:
    from b2m.project.checks import Report
    from b2m.project.create import NewService
    from b2m.project.origins import Origin


def check(folder: str | None = None, variables: Iterable[str] = ()) -> Report:
    """Check a project, all of it and all at once; UsageError if there is none."""
    from b2m.modules import MODULES
    from b2m.project.checks import check_project

    return check_project(find_project(folder), MODULES, read_overrides(variables))


def variables(found: Project, target: Target) -> list[Origin]:
    """Return what the expressions of a target may name, and which level decides it."""
    from b2m.project.origins import origins

    return origins(found, target)


def init(
    folder: Path, dbs: Iterable[str], host: str, bucket: str, service: NewService | None = None
) -> tuple[str, ...]:
    """Write a new project, and return the names of its files; UsageError if something is in the folder."""
    from b2m.project.create import new_project, write_project

    return write_project(folder, new_project(dbs, host, bucket, service))
