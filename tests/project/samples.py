"""A small valid project, and the argument models of the modules as the loader sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from b2m.project import Command, Modules, Name, Project, Strict, load_project

Check = Literal["integrity", "foreign_keys", "rows"]


class Download(Strict):
    repeatable: ClassVar[bool] = True
    version: int | Literal["head"] = "head"
    as_: str = Field(default="candidate", alias="as")


class Snapshot(Strict):
    as_: str = Field(default="ours", alias="as")


class Replay(Strict):
    from_: str = Field(alias="from")
    onto: str = "candidate"
    since: str | None = None


class Verify(Strict):
    file: str = "candidate"
    checks: list[Check] = Field(default=["integrity", "foreign_keys"], min_length=1)


class Swap(Strict):
    file: str = "candidate"


class Upload(Strict):
    file: str


class Hold(Strict):
    service: str | None = None


class Message(Strict):
    repeatable: ClassVar[bool] = True
    to: Name | None = None
    text: str = Field(min_length=1)


class Shell(Strict):
    repeatable: ClassVar[bool] = True
    run: Annotated[Command, Field(min_length=1)]
    reason: str = Field(min_length=1)


class Nothing(Strict):
    pass


MODULES: Modules = {
    "download": Download,
    "snapshot": Snapshot,
    "replay": Replay,
    "verify": Verify,
    "swap": Swap,
    "rename": Nothing,
    "upload": Upload,
    "hold": Hold,
    "message": Message,
    "shell": Shell,
}

INVENTORY = """\
buckets:
  main:
    type: folder
    path: bucket
databases:
  ipm:
    file: ipm-db-v{version}.db
    bucket: main
groups:
  servers:
    vars:
      team: ops
    hosts:
      prod:
        folder: dbs
        services:
          web:
            stop: "stop {{ db.name }}"
            start: "start {{ db.name }}"
        databases:
          ipm:
            service: web
"""

PLAYBOOK = """\
db: ipm
hosts: [servers]
vars:
  color: red
policy:
  max_downtime: 5s
scenarios:
  up_to_date: []
  locked:
    - message: {text: "held by {{ lease.owner }}"}
      when: lease.age > minutes(60)
  ready_to_upload:
    - role: publish
  outdated_db:
    - download: {version: head, as: candidate}
    - verify: {file: candidate}
    - hold: {service: "{{ db.service }}"}
      block:
        - swap: {file: candidate}
on_refused:
  - message: {text: "{{ team }}: {{ refusal }}"}
"""

ROLE = """\
defaults:
  word: done
tasks:
  - snapshot: {as: ours}
  - verify: {file: ours}
  - upload: {file: ours}
  - message: {text: "{{ word }}"}
"""

FILES = {"inventory.yaml": INVENTORY, "playbooks/ipm.yaml": PLAYBOOK, "roles/publish/role.yaml": ROLE}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def load(root: Path, **changed: str) -> Project:
    """Load the sample project with the texts of ``inventory``, ``playbook`` or ``role`` changed."""
    names = dict(zip(("inventory", "playbook", "role"), FILES, strict=True))
    files = FILES | {names[key]: text for key, text in changed.items()}
    return load_project(write(root, files), MODULES)


def arguments(value: BaseModel) -> dict[str, object]:
    return {name: given for name, given in value.model_dump(by_alias=True).items() if (name, given) != ("to", None)}
