"""Eight people and work folders, one bucket of each kind, all at once: every row arrives, each number is used once."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import apsw
import pytest

from b2m.buckets import open_bucket
from b2m.buckets.marker import init_bucket
from b2m.versions import log, pack
from tests.buckets.b2_backends import B2_BACKENDS
from tests.buckets.backends import BACKENDS, Backend
from tests.buckets.s3_backends import S3_BACKENDS
from tests.support import forks
from tests.support.far import yaml_of
from tests.support.settings import trials
from tests.support.world import World

STORES = [*BACKENDS, *S3_BACKENDS, *B2_BACKENDS]
PEOPLE = [f"member-{number}" for number in range(8)]
SYNC = ["sync", "--db", "notes", "--wait", "120s", "--json"]


def project(root: Path, entry: Mapping[str, object]) -> None:
    """Write a project with one small database, which each of eight members has in a folder of their own."""
    made = World(root)
    shutil.rmtree(root / "prod")
    shutil.rmtree(root / "bucket")
    hosts = "".join(
        f"      {name}:\n        folder: {name}\n        databases:\n          notes: {{}}\n" for name in PEOPLE
    )
    (made.root / "inventory.yaml").write_text(
        f"buckets:\n  main:\n{yaml_of(entry)}databases:\n  notes:\n    file: notes-v{{version}}.db\n    bucket: main\n"
        f"groups:\n  team:\n    hosts:\n{hosts}"
    )
    playbook = made.root / "playbooks" / "ipm.yaml"
    text = playbook.read_text().replace("db: ipm", "db: notes").replace("[production, team]", "[team]")
    text = re.sub(r"    tables:\n      ipm_data: .*\n", "", text)
    (made.root / "playbooks" / "notes.yaml").write_text(text)
    playbook.unlink()
    (made.root / "playbooks" / "emoji.yaml").unlink()
    for name in PEOPLE:
        (root / name).mkdir()


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_eight_runners_at_once(store: Backend, tmp_path: Path) -> None:
    root = tmp_path / "project"
    entry = store.make(tmp_path)
    project(root, entry)
    bucket = open_bucket(entry)
    init_bucket(bucket)
    first = root / PEOPLE[0] / "notes-v1.db"
    connection = apsw.Connection(str(first))
    connection.execute("CREATE TABLE note (text TEXT PRIMARY KEY, author TEXT NOT NULL)")
    connection.close()
    written: set[str] = set()
    done = forks.Command([*SYNC, "--host", PEOPLE[0]], root, os.environ).ended(60)
    assert done.returncode == 0, done
    for turn in range(trials(3, 25)):
        running = {}
        for name in PEOPLE:
            live = sorted((root / name).glob("notes-v*.db"))
            if live:
                connection = apsw.Connection(str(live[-1]), flags=apsw.SQLITE_OPEN_READWRITE)
                connection.execute("INSERT INTO note VALUES (?, ?)", (f"{name} {turn}", name))
                connection.close()
                written.add(f"{name} {turn}")
            running[name] = forks.Command([*SYNC, "--host", name], root, os.environ)
        for name, process in running.items():
            done = process.ended(300)
            assert done.returncode == 0, (turn, name, done.stdout[-2000:], done.stderr[-2000:])
    numbers = log.numbers(bucket, "notes")
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 1 + len(written)
    restored = tmp_path / "restored.db"
    pack.fetch(bucket, log.read(bucket, "notes", numbers[-1]), restored)
    connection = apsw.Connection(str(restored), flags=apsw.SQLITE_OPEN_READONLY)
    found = [row[0] for row in connection.execute("SELECT text FROM note")]
    connection.close()
    assert len(found) == len(written)
    assert set(found) == written
