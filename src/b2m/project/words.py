"""What people type for a database: its name, its file's name, or the path of its file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from b2m.errors import UsageError
from b2m.project.load import Project
from b2m.project.target import absolute


def database_of(project: Project, word: str, host: str) -> str:
    """Return the database that a word names on a host, or the word itself if it looks like no file of one.

    A number in a file's name does not matter. UsageError for the path of a file that is not in the host's folder.
    """
    if word in project.inventory.databases:
        return word
    folder, _, name = word.rpartition("/")
    fits = [db for db, each in project.inventory.databases.items() if _pattern(each.file).fullmatch(name)]
    if len(fits) != 1:
        return word
    db = fits[0]
    if folder or word.startswith("/"):
        _require_folder(project, word, Path(folder or "/"), db, host)
    return db


def folder_of(project: Project, db: str, host: str) -> Path:
    """Return the folder of a database on a host, symlinks resolved."""
    file = project.hosts[host].file
    own = file.databases.get(db)
    described = project.hosts[host].group is not None
    folder = (own.folder if own else None) or (file.folder if described else project.inventory.databases[db].folder)
    return Path(os.path.realpath(absolute(project.root, folder)))


def _require_folder(project: Project, word: str, folder: Path, db: str, host: str) -> None:
    there = Path(os.path.realpath(folder.expanduser()))
    hosts = [each for each in project.hosts_here(db) if folder_of(project, db, each) == there]
    if host in hosts or host not in project.hosts:
        return
    if host not in project.hosts_here(db):
        raise UsageError(what=f"{word} is a path on this machine, and {host} is another: name the database, {db}")
    hint = f"it has {db} in {folder_of(project, db, host)}"
    if hosts:
        hint = f"it is {db} on {hosts[0]}: add --host {hosts[0]}"
    raise UsageError(what=f"{word} is not in the folder of {host}; {hint}")


def _pattern(file: str) -> re.Pattern[str]:
    return re.compile(re.escape(file).replace(re.escape("{version}"), r"\d+"))
