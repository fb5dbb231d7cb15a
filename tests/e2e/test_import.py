"""A bucket of the earlier tool: its plain files become versions, and nothing of it is changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from b2m.buckets.lease import look
from b2m.versions import log
from tests.support.commands import PATIENCE, wait_for
from tests.support.proof import assert_in_step
from tests.support.world import World


def left_behind(world: World, *numbers: int) -> Path:
    """Make an old bucket: one more entry in each version, and what the tool noted of the newest."""
    old = world.root / "old bucket"
    (old / "version").mkdir(parents=True)
    for number in numbers:
        path = old / f"ipm-db-v{number}.db"
        shutil.copy(world.prod / "ipm-db-v1.db", path)
        connection = apsw.Connection(str(path))
        connection.execute(
            "UPDATE ipm_data SET summary = ? WHERE slug_hash = (SELECT min(slug_hash) FROM ipm_data)", (f"v{number}",)
        )
        connection.close()
    newest = old / f"ipm-db-v{numbers[-1]}.db"
    notes = {
        "hash": hashlib.sha256(newest.read_bytes()).hexdigest(),
        "author": "lince",
        "timestamp": "2026-02-17T18:00:00",
    }
    (old / "version" / f"{newest.stem}.metadata.json").write_text(json.dumps(notes))
    return old


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_newest_becomes_the_first_version_and_the_server_starts_from_it(world: World) -> None:
    old = left_behind(world, 3, 4, 6)
    before = contents(old)
    done = world.b2m("bucket.import", "--db", "ipm", "--source", str(old))
    assert (done.code, done.out) == (0, "ipm  v6 imported; left alone: ipm-db-v3.db, ipm-db-v4.db\n"), done
    assert contents(old) == before
    commit = log.head(world.bucket, "ipm")
    assert commit is not None
    assert (commit.number, commit.parent, commit.author) == (6, None, "lince")
    assert (commit.time, commit.message) == ("2026-02-17T18:00:00+00:00", "imported from ipm-db-v6.db")
    # The server has rows since: only a person knows that they belong onto that version.
    shutil.copy(old / "ipm-db-v6.db", world.prod / "ipm-db-v6.db")
    world.change("prod/dbs/db.toml", "ipm-db-v1.db", "ipm-db-v6.db")
    with world.serving():
        assert world.post("from-the-api") == 201
        assert world.sync().code == 8
        done = world.b2m("adopt", "--db", "ipm", "--host", "prod", "--version", "6")
        assert done.code == 0, done
        done = world.sync()
        assert done.code == 0, done
        assert done.recap["to_version"] == 7
    assert "from-the-api" in world.slugs(world.restored())
    assert log.numbers(world.bucket, "ipm") == [6, 7]


def test_all_takes_what_follows_one_another(world: World) -> None:
    old = left_behind(world, 2, 4, 5, 6)
    done = world.b2m("bucket.import", "--db", "ipm", "--source", str(old), "--all", "--json")
    assert done.code == 0, done
    assert done.json[-1] == {"type": "import", "db": "ipm", "versions": [4, 5, 6], "left": ["ipm-db-v2.db"]}
    assert log.numbers(world.bucket, "ipm") == [4, 5, 6]
    found = [log.read(world.bucket, "ipm", number) for number in (4, 5, 6)]
    assert [commit.rows["ipm_data"].updated for commit in found[1:]] == [1, 1]
    for number in (4, 5, 6):
        rows = world.query(world.restored("ipm", number), "SELECT summary FROM ipm_data ORDER BY slug_hash LIMIT 1")
        assert rows == [(f"v{number}",)]
    done = world.b2m("bucket.import", "--db", "ipm", "--source", str(old), "--all")
    assert done.code == 0, "an import that was cut off goes on; one that was not has nothing left to do"
    assert log.numbers(world.bucket, "ipm") == [4, 5, 6]


@pytest.mark.parametrize("wrong", ["hash", "bytes", "published", "nothing", "zero"])
def test_what_is_not_right_is_refused_and_changes_nothing(world: World, wrong: str) -> None:
    old = left_behind(world, 6)
    if wrong == "hash":
        (old / "version" / "ipm-db-v6.metadata.json").write_text(json.dumps({"hash": "0" * 64}))
    elif wrong == "bytes":
        (old / "version" / "ipm-db-v6.metadata.json").unlink()
        with (old / "ipm-db-v6.db").open("r+b") as file:
            file.seek(8192)
            file.write(b"x" * 4096)
    elif wrong == "published":
        assert world.sync().code == 0
    elif wrong == "zero":
        (old / "ipm-db-v6.db").rename(old / "ipm-db-v0.db")
    else:
        (old / "ipm-db-v6.db").unlink()
    before = world.bucket.list("ipm")
    done = world.b2m("bucket.import", "--db", "ipm", "--source", str(old))
    code, text = {
        "hash": (8, "ipm-db-v6.db failed verification: its hash is another than was noted of it"),
        "bytes": (8, "ipm: ipm-db-v6.db failed verification: "),
        "published": (8, "ipm has versions already, the newest is v1"),
        "nothing": (1, "has no file like ipm-db-vN.db"),
        "zero": (1, "has no file like ipm-db-vN.db, N from 1 on, no space in its name"),
    }[wrong]
    assert done.code == code, done
    assert text in done.err
    assert [name for name in world.bucket.list("ipm") if "/lease/" not in name] == [
        name for name in before if "/lease/" not in name
    ]


HANGS = """
import sys, time
from pathlib import Path
from b2m import importing
from b2m.tasks.program import main
def hangs(*arguments, **named):
    Path("importing").touch()
    time.sleep(600)
importing._publish = hangs
sys.argv = ["b2m", *sys.argv[1:]]
sys.exit(main())
"""


def cut_off(world: World, old: Path, wanted: signal.Signals) -> int:
    """Send an import a signal while it holds a lease that others may break after five seconds; return how it ended."""
    world.change("playbooks/ipm.yaml", "max_downtime: 5s", "max_downtime: 5s\n  lease_ttl: 5s")
    command = [sys.executable, "-c", HANGS, "bucket.import", "--db", "ipm", "--source", str(old)]
    process = subprocess.Popen(command, cwd=world.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: (world.root / "importing").exists() or process.poll() is not None, "it was importing")
        assert process.poll() is None, process.communicate()
        assert look(world.bucket, "ipm") is not None
        process.send_signal(wanted)
        return process.wait(PATIENCE)
    finally:
        process.kill()
        process.communicate()


def test_an_import_that_was_killed_does_not_lock_later_ones_out(world: World) -> None:
    old = left_behind(world, 6)
    assert cut_off(world, old, signal.SIGKILL) == -signal.SIGKILL
    assert look(world.bucket, "ipm") is not None
    done = world.b2m("bucket.import", "--db", "ipm", "--source", str(old))
    assert (done.code, done.out) == (0, "ipm  v6 imported\n"), done
    assert look(world.bucket, "ipm") is None


def test_an_import_that_is_told_to_end_gives_its_lease_back(world: World) -> None:
    old = left_behind(world, 6)
    assert cut_off(world, old, signal.SIGTERM) == 128 + signal.SIGTERM
    assert look(world.bucket, "ipm") is None
    assert log.numbers(world.bucket, "ipm") == []
    done = world.b2m("bucket.import", "--db", "ipm", "--source", str(old))
    assert (done.code, done.out) == (0, "ipm  v6 imported\n"), done


def test_an_import_gives_way_to_a_first_version_that_somebody_began_to_publish(world: World) -> None:
    old = left_behind(world, 6)
    assert log.first_number(world.bucket, "ipm", 1) == 1
    done = world.b2m("bucket.import", "--db", "ipm", "--source", str(old))
    assert done.code == 9, done
    assert "v6 cannot be its first version: somebody began to publish v1 as that" in done.err
    assert log.numbers(world.bucket, "ipm") == []


def test_plain_keeps_publishing_plain_files(world: World) -> None:
    world.change("inventory.yaml", "    file: ipm-db", "    plain: true\n    file: ipm-db")
    with world.serving():
        assert world.sync().code == 0
        assert world.post("from-the-api") == 201
        assert world.sync().recap["to_version"] == 2
        assert_in_step(world)
    assert world.bucket.list("ipm/files") == ["ipm/files/ipm-db-v1.db", "ipm/files/ipm-db-v2.db"]
    plain = world.root / "plain.db"
    plain.write_bytes(world.bucket.get("ipm/files/ipm-db-v2.db"))
    assert world.slugs(plain) == world.slugs(world.restored())
    assert plain.read_bytes() == world.restored().read_bytes()
