"""One database on one host, with everything resolved that a run needs to know."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from b2m import secrets
from b2m.project.models import DatabaseFile, HostDatabaseFile, HostFile, Policy, ServiceFile
from b2m.project.scope import Layer, Scope, Source, render, render_command
from b2m.project.tasks import Playbook, Task


@dataclass(frozen=True)
class Service:
    """The server that opens a database: rendered shell commands, run in ``cwd``; times in seconds."""

    name: str
    away: str
    back: str
    verb: Literal["stop", "disconnect"]
    cwd: str
    health_url: str | None
    health_command: str | None
    start_timeout: float
    stop_timeout: float


@dataclass(frozen=True)
class Listed:
    """How ``db.toml`` names a database: its key, and the pattern of its file names."""

    key: str
    file: str


@dataclass(frozen=True)
class Host:
    """One machine of the inventory: its own entry and the variables of its group and itself."""

    name: str
    group: str | None
    file: HostFile
    layers: tuple[Layer, ...] = field(repr=False)
    source: Source = field(repr=False)


@dataclass(frozen=True)
class Target:
    """One database on one host; paths are absolute, those of another machine as they are there.

    ``here`` is whether this process runs on that host; ``workdir`` is where its commands run.
    """

    root: Path
    db: str
    host: str
    key: str
    file: str
    direction: Literal["both", "bucket_to_host"]
    plain: bool
    connection: Literal["local", "ssh"]
    address: str
    bootstrap: Literal["manual", "auto"]
    here: bool
    folder: Path
    workdir: Path
    demo: bool
    bucket_name: str
    bucket: Mapping[str, Any] = field(repr=False)
    service: Service | None
    services: Mapping[str, Service] = field(repr=False)
    listed: Mapping[str, Listed] = field(repr=False)  # every database of the same bucket
    playbook: Playbook = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False)
    overrides: tuple[Layer, ...] = field(repr=False, default=())
    messages: Mapping[str, tuple[str, ...]] = field(repr=False, default_factory=dict)  # name -> names of secrets
    own_messages: tuple[str, ...] = field(repr=False, default=())  # secrets that get what is sent about it, too

    @property
    def ping(self) -> str | None:
        """The secret with the address to GET after a success on this host."""
        schedule = self.playbook.schedule
        if schedule is None or schedule.ping is None or schedule.host != self.host:
            return None
        return schedule.ping.removeprefix("$")

    @property
    def mentioned(self) -> frozenset[str]:
        """The names of all secrets that inventory and playbook have for it, whoever uses them, on whichever host."""
        told = (name for known in self.messages.values() for name in known)
        schedule = self.playbook.schedule
        ping = {schedule.ping.removeprefix("$")} if schedule is not None and schedule.ping is not None else set()
        return frozenset({*secrets.names(self.bucket), *told, *self.own_messages, *ping})

    @property
    def remote(self) -> bool:
        """Whether what is done on the host must be done by another process there."""
        return not self.here

    @property
    def policy(self) -> Policy:
        """The playbook's limits and merge rules."""
        return self.playbook.policy

    @cached_property
    def vars(self) -> Mapping[str, Any]:
        """The variables as written, group < host < playbook < -e; templates in them are rendered when they are read."""
        return {name: value for layer in (*self.layers, *self.overrides) for name, value in layer.values.items()}

    def file_name(self, version: int) -> str:
        """The live file's name at a version; the same for every version if policy.naming is stable."""
        return self.file.replace("{version}", str(version))

    def tasks(self, state: str) -> tuple[Task, ...]:
        """The playbook's tasks of a state, or of ``on_refused``, ``on_failed`` and ``on_success``."""
        return self.playbook.expanded(state)

    def facts(self, observed: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The facts that the project knows, with what was observed added to them and over them."""
        known: dict[str, Any] = {
            "db": {
                "name": self.db,
                "key": self.key,
                "file": self.file,
                "direction": self.direction,
                "service": self.service.name if self.service else None,
            },
            "host": {"name": self.host, "folder": str(self.folder), "connection": self.connection},
            "policy": self.policy.model_dump(),
        }
        for name, value in (observed or {}).items():
            both = isinstance(value, Mapping) and name in known
            known[name] = {**known[name], **value} if both else value
        return known

    def applies(self, task: Task, observed: Mapping[str, Any]) -> bool:
        """Whether the task's ``when`` holds; InvalidProject if it cannot be told."""
        return task.applies(self.facts(observed), self.layers, self.overrides)

    def check_arguments(self, task: Task, observed: Mapping[str, Any]) -> None:
        """Check what an include gives its role, now that templates have values; InvalidProject if it does not fit."""
        if task.arguments is not None:
            task.arguments.check_rendered(self.facts(observed), self.layers, self.overrides)

    def render(self, task: Task, observed: Mapping[str, Any]) -> BaseModel:
        """The task's arguments, rendered and validated; InvalidProject with line and column if they do not fit."""
        return task.rendered(self.facts(observed), self.layers, self.overrides)


def resolve(
    root: Path,
    db: str,
    database: DatabaseFile,
    host: Host,
    playbook: Playbook,
    bucket: Mapping[str, Any],
    overrides: tuple[Layer, ...] = (),
    listed: Mapping[str, Listed] | None = None,
    here: bool = False,
) -> Target:
    """Everything about one database on one host; the project was found valid before.

    ``here`` says that this process runs on the host, however others reach it.
    """
    own = host.file.databases.get(db, HostDatabaseFile())
    ssh = host.file.connection == "ssh"
    here = here or not ssh
    base = (Path.home() if here else Path("~")) if ssh else root
    folder = base / _expanded(own.folder or host.file.folder, here)
    workdir = base / _expanded(host.file.workdir or ".", here)
    key = database.key or f"{db}db"
    layers = (*host.layers, playbook.layer)
    facts = {
        "db": {"name": db, "key": key, "file": database.file},
        "host": {"name": host.name, "folder": str(folder), "connection": host.file.connection},
        "python": sys.executable,
        "project": str(root),
    }
    services = {
        name: _service(
            workdir,
            name,
            service,
            Scope({**facts, "service": {"name": name}}, layers, overrides),
            host.source.below("services", name),
        )
        for name, service in host.file.services.items()
    }
    return Target(
        root=root,
        db=db,
        host=host.name,
        key=key,
        file=database.file,
        direction=own.direction or database.direction,
        plain=database.plain,
        connection=host.file.connection,
        address=host.file.address or host.name,
        bootstrap=host.file.bootstrap,
        here=here,
        folder=folder,
        workdir=workdir,
        demo=host.file.demo,
        bucket_name=database.bucket,
        bucket=bucket,
        service=services[own.service] if own.service else None,
        services=services,
        listed=listed or {db: Listed(key, database.file)},
        playbook=playbook,
        layers=layers,
        overrides=overrides,
    )


def absolute(root: Path, path: str) -> Path:
    """A path of the inventory: relative ones are below the project, ``~`` is the user's home."""
    return root / Path(path).expanduser()


def _expanded(path: str, here: bool) -> Path:
    if here:
        return Path(path).expanduser()
    return Path("." if path == "~" else path.removeprefix("~/"))  # joined to the ~ of the other machine


def _service(workdir: Path, name: str, service: ServiceFile, scope: Scope, source: Source) -> Service:
    def command(text: str | None, *path: str) -> str:
        if text is None:
            return ""
        return render_command(text, scope, source.below(*path))

    health = service.health
    verb: Literal["stop", "disconnect"] = "stop" if service.stop else "disconnect"
    return Service(
        name=name,
        away=command(getattr(service, verb), verb),
        back=command(service.start or service.connect, "start" if service.stop else "connect"),
        verb=verb,
        cwd=str(workdir),
        health_url=str(render(health.url, scope, source.below("health", "url"))) if health and health.url else None,
        health_command=(command(health.command, "health", "command") or None) if health else None,
        start_timeout=service.start_timeout,
        stop_timeout=service.stop_timeout,
    )
