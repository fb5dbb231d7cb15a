"""Real Git repositories with a project whose main branch is sound, and branches that change it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

INVENTORY = """\
buckets:
  main:
    type: folder
    path: /srv/bucket
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
        folder: /srv/dbs
        services:
          web:
            stop: "systemctl stop {{ service.name }}"
            start: "systemctl start {{ service.name }}"
            health: {url: "http://127.0.0.1:8000/health"}
        databases:
          ipm:
            service: web
"""

PLAYBOOK = """\
db: ipm
hosts: [servers]
vars:
  tone: calm
policy:
  max_downtime: 5s
  max_deletes: {rows: 100}
scenarios:
  up_to_date: []
  locked:
    - message: {text: "{{ db.name }} ({{ tone }}): held by {{ lease.owner }}"}
      when: lease.age > minutes(60)
  ready_to_upload:
    - role: publish
  outdated_db:
    - download: {version: head, as: candidate}
    - snapshot: {as: ours}
    - replay: {from: ours, onto: candidate}
    - verify: {file: candidate, checks: [integrity, foreign_keys, rows]}
    - hold: {service: "{{ db.service }}"}
      block:
        - replay: {from: live, onto: candidate}
        - swap: {file: candidate}
    - role: publish
      when: live.dirty
on_failed:
  - message: {text: "{{ team | default('somebody') }}: {{ failure }}"}
"""

ROLE = """\
argument_specs:
  checks:
    type: list
    default: [integrity, foreign_keys]
tasks:
  - snapshot: {as: ours}
  - verify: {file: ours, checks: "{{ checks }}"}
  - upload: {file: ours}
"""

FILES = {"inventory.yaml": INVENTORY, "playbooks/ipm.yaml": PLAYBOOK, "roles/publish/role.yaml": ROLE}


def git(root: Path, *arguments: str) -> str:
    """Run Git as somebody whose own settings play no part."""
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


def write(root: Path, files: Mapping[str, str | None]) -> None:
    """Write files; None removes one."""
    for name, text in files.items():
        path = root / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def commit(root: Path, files: Mapping[str, str | None]) -> None:
    write(root, files)
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "change")


def repository(root: Path, files: Mapping[str, str | None] = FILES) -> Path:
    """A repository whose main branch has these files, and a branch to work on."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q", "-b", "main")
    commit(root, files)
    git(root, "checkout", "-q", "-b", "work")
    return root


def changed(text: str, *pairs: tuple[str, str]) -> str:
    """A text with parts exchanged, each of which must be there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text
