"""A project: found, read, checked as a whole, and asked for one database on one host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from b2m import secrets
from b2m.errors import InvalidProject, UsageError
from b2m.project import rules
from b2m.project.models import LOCAL, FolderBucket, HostDatabaseFile, HostFile, InventoryFile, PlaybookFile, RoleFile
from b2m.project.problems import Position, Problems, suggest
from b2m.project.reader import RoleSource, TaskReader, read_playbook
from b2m.project.salvage import salvage
from b2m.project.scope import Layer, Source
from b2m.project.strict import secrets_of
from b2m.project.target import Host, Listed, Target, absolute, resolve
from b2m.project.tasks import Modules, Playbook, Task
from b2m.project.usage import variables
from b2m.project.wording import validate
from b2m.project.yaml import Document, parse

INVENTORY = "inventory.yaml"
SHARED = "x-"
"""How a top-level key begins that only holds values for anchors."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Project:
    """A folder with an inventory.yaml, all of it read and valid."""

    root: Path
    inventory: InventoryFile
    hosts: Mapping[str, Host]
    playbooks: Mapping[str, Playbook]
    roles: Mapping[str, RoleSource] = field(repr=False)
    documents: Mapping[str, Document] = field(repr=False, default_factory=dict)

    @property
    def databases(self) -> tuple[str, ...]:
        """The databases by name."""
        return tuple(sorted(self.inventory.databases))

    def hosts_of(self, db: str) -> tuple[str, ...]:
        """The hosts that the database's playbook may run on, ``local`` first."""
        allowed = rules.hosts_of(self.playbooks[db], self.inventory) if db in self.playbooks else ()
        return tuple(host for host in allowed if db in self.hosts[host].file.databases)

    def hosts_here(self, db: str) -> tuple[str, ...]:
        """Those of ``hosts_of`` whose files are on this machine."""
        return tuple(host for host in self.hosts_of(db) if self.hosts[host].file.connection == "local")

    def host(self, name: str) -> Host:
        """One host by its name; UsageError for a name that the project does not know, or a group's."""
        if name in self.hosts:
            return self.hosts[name]
        group = self.inventory.groups.get(name)
        if group is not None:
            raise UsageError(what=f"{name} is a group; its hosts: {', '.join(group.hosts) or 'none'}")
        raise UsageError(what=f"unknown host {name}{suggest(name, self.hosts, label=f'{INVENTORY} knows')}")

    def variables(self, db: str) -> set[str]:
        """The variables that a database's playbook has, on whichever host."""
        return variables(self.playbooks[db], self.hosts.values())

    def target(self, db: str, host: str = LOCAL, overrides: tuple[Layer, ...] = (), *, here: bool = False) -> Target:
        """Resolve one database on one host; UsageError for a name that the project does not know.

        ``here`` says that this process runs on that host. ``overrides`` are the variables of ``-e``; InvalidProject if
        an argument of a role does not take their value. From here on no text shows its secrets, read or not.
        """
        known = self.inventory.databases
        if db not in known:
            raise UsageError(what=f"unknown database {db}{suggest(db, known, label=f'{INVENTORY} knows')}")
        found = self.host(host)
        if db not in self.playbooks:
            raise UsageError(what=f"there is no playbook for {db}: write playbooks/{db}.yaml")
        playbook = self.playbooks[db]
        allowed = self.hosts_of(db)
        if host not in allowed:
            raise UsageError(what=f"{playbook.file} does not run on {host}; it runs on: {', '.join(allowed)}")
        database = known[db]
        bucket = self.bucket(database.bucket)
        if found.group is None:
            found = Host(LOCAL, None, _local_file(database.folder, (db,)), found.layers, found.source)
        if overrides:
            problems = Problems()
            for arguments in playbook.includes():
                arguments.check_overrides(overrides, (*found.layers, playbook.layer), problems)
            problems.raise_any()
        target = resolve(
            self.root, db, database, found, playbook, bucket, overrides, self.listed(database.bucket), here
        )
        told = {name: secrets_of(known) for name, known in self.inventory.messages.items()}
        target = replace(target, messages=told, own_messages=secrets_of(database.messages))
        secrets.mention(target.mentioned)
        return target

    def bucket(self, name: str) -> dict[str, Any]:
        """What ``open_bucket`` needs to know of a bucket: its paths absolute, its secrets still names."""
        entry = self.inventory.buckets[name]
        config = entry.model_dump()
        if isinstance(entry, FolderBucket):
            config["path"] = str(absolute(self.root, entry.path))
        return config

    def listed(self, bucket: str) -> dict[str, Listed]:
        """How ``db.toml`` names each database of a bucket."""
        known = self.inventory.databases
        return {db: Listed(one.key or f"{db}db", one.file) for db, one in known.items() if one.bucket == bucket}


def find_project(named: Path | str | None = None, start: Path | None = None) -> Path:
    """The project's folder: the one that is named, else the nearest upwards of ``start`` (the working folder)."""
    if named is not None:
        root = Path(os.path.abspath(Path(named).expanduser()))  # noqa: PTH100 - keeps symlinks, as people wrote it
        if not root.is_dir():
            raise UsageError(what=f"there is no folder {named}")
        if not (root / INVENTORY).is_file():
            raise UsageError(what=f"{named} has no {INVENTORY}: name a project's folder, or write one")
        return root
    begin = start or Path.cwd()
    for folder in (begin, *begin.parents):
        if (folder / INVENTORY).is_file():
            return folder
    raise UsageError(what=f"no {INVENTORY} in {begin} or above it: go into a project, or name one with --project DIR")


def load_project(root: Path, modules: Modules) -> Project:
    """Read everything of a project and check it as a whole; InvalidProject with every error of every file.

    ``modules`` maps the key of each module to the model of its arguments.
    """
    problems = Problems()
    read = read_project(root, modules, problems)
    problems.raise_any()
    if read.inventory is None:
        raise InvalidProject([f"{INVENTORY}:1:1: it could not be read"])
    return Project(root, read.inventory, read.hosts, read.playbooks, read.roles, read.documents)


@dataclass(frozen=True)
class Reading:
    """What could be read of a project, right or wrong; ``role_tasks`` are the roles' tasks, each read on its own."""

    inventory: InventoryFile | None
    hosts: Mapping[str, Host]
    playbooks: Mapping[str, Playbook]
    roles: Mapping[str, RoleSource]
    role_tasks: Mapping[str, tuple[Task, ...]]
    documents: Mapping[str, Document]


def read_project(root: Path, modules: Modules, problems: Problems) -> Reading:
    """Read as much of a project as can be read; what is wrong goes to ``problems``."""
    documents: dict[str, Document] = {}
    inventory_document = _read(root, root / INVENTORY, problems, documents)
    inventory = _model(InventoryFile, inventory_document, problems)
    found = dict(_roles(root, problems, documents))
    reader = TaskReader(modules, found, problems)
    roles = {name: role for name, role in found.items() if role is not None}
    role_tasks = {name: reader.read_role(role) for name, role in roles.items()}
    playbooks: dict[str, Playbook] = {}
    for path in _files(root / "playbooks", root, problems):
        document = _read(root, path, problems, documents)
        file = _model(PlaybookFile, document, problems)
        lost: frozenset[str] = frozenset()
        if document is not None and file is None:
            file, lost = salvage(PlaybookFile, document.data)
        if document is None or file is None:
            continue
        playbook = read_playbook(file, document, reader, lost)
        if playbook.db in playbooks:
            at = document.at(("db",))
            problems.add(at, f"{playbook.db} has a playbook already: {playbooks[playbook.db].file}")
            continue
        playbooks[playbook.db] = playbook
    for playbook in playbooks.values():
        rules.check_tasks(playbook, problems)
    hosts: dict[str, Host] = {}
    if inventory is not None and inventory_document is not None:
        hosts = _hosts(inventory, inventory_document)
        rules.check_inventory(inventory, inventory_document, hosts.values(), problems)
        for playbook in playbooks.values():
            rules.check_playbook(playbook, inventory, hosts, problems)
    return Reading(inventory, hosts, playbooks, roles, role_tasks, documents)


def _hosts(inventory: InventoryFile, document: Document) -> dict[str, Host]:
    """Every host by name; the implicit ``local`` unless a group describes it."""
    hosts = {LOCAL: Host(LOCAL, None, _local_file("dbs", inventory.databases), (), Source(document, ()))}
    for group_name, group in inventory.groups.items():
        at = Source(document, ("groups", group_name))
        group_layer = Layer(f"group {group_name}", group.vars, at.below("vars"))
        for name, file in group.hosts.items():
            source = at.below("hosts", name)
            layers = (group_layer, Layer(f"host {name}", file.vars, source.below("vars")))
            hosts[name] = Host(name, group_name, file, layers, source)
    return hosts


def _local_file(folder: str, databases: Mapping[str, object] | tuple[str, ...]) -> HostFile:
    return HostFile(folder=folder, databases={db: HostDatabaseFile() for db in databases})


def _roles(root: Path, problems: Problems, documents: dict[str, Document]) -> Iterator[tuple[str, RoleSource | None]]:
    folder = root / "roles"
    for path in _inside(folder, root):
        if not path.is_dir() or path.name.startswith("."):
            continue
        document = _read(root, path / "role.yaml", problems, documents)
        file = _model(RoleFile, document, problems)
        yield path.name, RoleSource(path.name, file, document) if document is not None and file is not None else None


def _inside(folder: Path, root: Path) -> list[Path]:
    """Return what is in a folder of the project, nothing if it is not there; InvalidProject."""
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        # All that is named in it would be unknown: that alone is said.
        raise InvalidProject([f"{_shown(root, folder)}: {_not_read(error)}"]) from error


def _files(folder: Path, root: Path, problems: Problems) -> Iterator[Path]:
    for path in _inside(folder, root):
        if path.suffix == ".yml":
            problems.add(Position(_shown(root, path), 1, 1), "not read: playbooks end in .yaml")
        elif path.suffix == ".yaml" and path.is_file():
            yield path


def _read(root: Path, path: Path, problems: Problems, documents: dict[str, Document]) -> Document | None:
    """Read one file and keep it whole in ``documents``; returned is what is not there only to be used elsewhere."""
    shown = _shown(root, path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        col = error.start - error.object.rfind(b"\n", 0, error.start)
        problems.add(Position(shown, line, col), "not UTF-8")
        return None
    except OSError as error:
        problems.add(Position(shown, 1, 1), _not_read(error))
        return None
    document = parse(text, shown, problems)
    if document is None:
        return None
    documents[shown] = document
    return document.without(SHARED)


def _not_read(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


def _model(model: type[Model], document: Document | None, problems: Problems) -> Model | None:
    return None if document is None else validate(model, document.data, document, problems)


def _shown(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
