"""``b2m init``: a new project's files, commented, that pass ``b2m check``."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from pydantic import TypeAdapter, ValidationError

from b2m import __version__
from b2m.errors import UsageError
from b2m.project.models import ALL, LOCAL, FilePattern
from b2m.project.overrides import typed
from b2m.project.strict import Name

_SKELETON = files("b2m.project").joinpath("skeleton")
_MAY_BE_THERE = frozenset({".git"})


@dataclass(frozen=True)
class NewDatabase:
    """A database of a new project: its short name, and its file's name, with ``{version}`` if it is numbered."""

    name: str
    file: str

    @property
    def versioned(self) -> bool:
        return "{version}" in self.file


@dataclass(frozen=True)
class NewService:
    """The commands that stop and start the server that opens the databases; ``health`` is empty or an address."""

    stop: str
    start: str
    health: str


@dataclass(frozen=True)
class NewProject:
    """What ``b2m init`` asks for; ``folder`` is where the host has its databases, ``bucket`` a folder's path."""

    dbs: tuple[NewDatabase, ...]
    host: str
    folder: str
    bucket: str
    service: NewService | None = None


def new_database(text: str) -> NewDatabase:
    """Read ``ipm=ipm-db-v5.db``, or a name alone; UsageError if it cannot be.

    A number behind a ``v`` in the file's name becomes ``{version}``: that is what numbers it.
    """
    name, _, file = text.partition("=")
    file = re.sub(r"(?<=[-_.]v)\d+(?=\.)", "{version}", file or f"{name}-db-v{{version}}.db")
    if name == ALL:
        raise UsageError(what=f"--db {text}: {name} is taken, choose another name")
    return NewDatabase(valid(Name, name, "--db"), valid(FilePattern, file, "--db"))


def new_databases(dbs: Iterable[str]) -> tuple[NewDatabase, ...]:
    """Read what each ``--db`` says; UsageError if it cannot be."""
    databases = tuple(map(new_database, dbs))
    if not databases:
        raise UsageError(what="name a database: --db name=file, as in --db ipm=ipm-db-v5.db")
    for what in ("name", "file"):
        given = [getattr(db, what) for db in databases]
        twice = next((one for one in given if given.count(one) > 1), None)
        if twice is not None:
            raise UsageError(what=f"--db: two databases have the {what} {twice}")
    return databases


def new_host(text: str) -> tuple[str, str]:
    """Read ``prod`` or ``prod=/srv/dbs`` as a name and a folder; UsageError if it cannot be."""
    name, _, folder = text.partition("=")
    if name in ("servers", LOCAL, ALL):
        raise UsageError(what=f"--host {text}: {name} is taken, choose another name")
    return valid(Name, name, "--host"), folder or "dbs"


def new_service(stop: str, start: str, health: str) -> NewService | None:
    """Read the commands of a server, None if there is none; UsageError if one lacks the other."""
    if bool(stop) != bool(start) or (health and not stop):
        raise UsageError(what="--stop and --start belong together, and --health to them")
    return NewService(stop, start, health) if stop else None


def new_project(dbs: Iterable[str], host: str, bucket: str, service: NewService | None = None) -> NewProject:
    """Read what the flags say, ``host`` as ``prod`` or ``prod=/srv/dbs``; UsageError if it cannot be."""
    databases = new_databases(dbs)
    name, folder = new_host(host)
    if not bucket.strip():
        raise UsageError(what="--bucket: write the folder that keeps the versions")
    return NewProject(databases, name, folder, bucket, service)


def valid(kind: Any, text: str, flag: str) -> str:
    """The text, if it is what a key of inventory.yaml takes; UsageError in the same words."""
    try:
        return str(TypeAdapter(kind).validate_python(text))
    except ValidationError as error:
        raise UsageError(what=f"{flag} {text}: {error.errors()[0]['msg']}") from None


def write_project(root: Path, new: NewProject) -> tuple[str, ...]:
    """Write a new project's files and return their names; UsageError if the folder has anything in it."""
    if root.exists() and not root.is_dir():
        raise UsageError(what=f"{root} is no folder")
    inside = sorted(path.name for path in root.iterdir() if path.name not in _MAY_BE_THERE) if root.exists() else []
    if inside:
        raise UsageError(what=f"{root} is not empty, it has {inside[0]}: name a new folder")
    made = texts(new)
    try:
        for name, text in made.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(what=f"{error.filename}: {error.strerror}") from None
    return tuple(made)


def texts(new: NewProject) -> Mapping[str, str]:
    """File name -> text, of everything that a new project has."""
    # Other brackets than Jinja's own, which stand in playbooks and mean something there.
    environment = Environment(
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # YAML, not HTML
    )

    def text(name: str, **values: Any) -> str:
        source = _SKELETON.joinpath(f"{name}.jinja").read_text("utf-8")
        return environment.from_string(source).render(**vars(new), quoted=_quoted, version=__version__, **values)

    return {
        "inventory.yaml": text("inventory.yaml"),
        **{f"playbooks/{db.name}.yaml": text("playbook.yaml", db=db) for db in new.dbs},
        "roles/publish/role.yaml": text("publish.yaml"),
        "roles/renumber/role.yaml": text("renumber.yaml"),
        "tasks.py": text("tasks.py"),
        ".github/workflows/b2m.yml": text("ci.yaml"),
        ".gitignore": text("gitignore", inside=_inside(new.bucket)),
    }


def _inside(path: str) -> str | None:
    """A path in the project, from its root; None for one that leads out of it."""
    found = posixpath.normpath(path)
    return None if found.startswith(("/", "~", "..")) or found == "." else found


def _quoted(text: str) -> str:
    """A text as a YAML scalar: plain where that reads back as the same text, else in double quotes."""
    if re.fullmatch(r"[\w./~-][\w./~+@-]*", text) and not text.startswith("-") and isinstance(typed(text), str):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
