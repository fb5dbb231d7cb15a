"""The commands, each from end to end: what it does, what it prints for people and programs, and how it ends."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2m.buckets.lease import Lease, acquire
from b2m.demo.entries import slug_hash
from b2m.errors import LeaseLost
from tests.e2e.conftest import Copy
from tests.e2e.test_crashes import keep_its_name
from tests.e2e.test_full_disk import small_disk
from tests.support.commands import script
from tests.support.proof import assert_all_there, assert_in_step, polling, publish, rows
from tests.support.world import Done, World

RECAP = {
    *("type", "db", "host", "run", "before", "after", "from_version", "to_version", "rows", "tasks", "downtime_ms"),
    *("holds", "bytes_up", "bytes_down", "requests", "total_ms", "exit_code"),
}

BEHIND_A_SECRET = """\
  far:
    type: s3
    url: s3://far/b2m
    endpoint: http://127.0.0.1:9
    region: x
    key_id: $NOBODY_SET_THIS
    key: $NOBODY_SET_THIS
"""


def error_of(done: Done) -> dict[str, object]:
    """Return the one error among the JSON lines."""
    (error,) = [line for line in done.json if line["type"] == "error"]
    return error


# -- looking -----------------------------------------------------------------------------------------------------


def test_status_has_the_fields_that_are_promised(copied: Copy) -> None:
    world = copied("behind")
    done = world.b2m("status", "--host", "ann", "--json")
    assert done.code == 0
    ipm, emoji = sorted(done.json, key=lambda line: str(line["db"]), reverse=True)
    commit = ipm["head"]["commit"]
    assert re.fullmatch("[0-9a-f]{32}", commit)
    assert ipm == {
        "type": "status",
        "db": "ipm",
        "host": "ann",
        "state": "up_to_date",
        "reason": None,
        "dirty": False,
        "live": {"file": "ipm-db-v2.db", "version": 2},
        "anchor": {"version": 2, "commit": commit},
        "head": {"version": 2, "commit": commit},
        "lease": None,
        "pause": None,
        "last_sync": ipm["last_sync"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", str(ipm["last_sync"]))
    assert (emoji["db"], emoji["state"], emoji["live"]["version"]) == ("emoji", "up_to_date", 1)


def test_status_for_people_marks_what_is_in_no_version(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "from-ben")
    done = world.b2m("status", "--db", "ipm", "--db", "emoji", "--host", "ben")
    assert done.code == 0
    lines = {db: line for db in ("ipm", "emoji") for line in done.out.splitlines() if line.startswith(db)}
    for word in ("ben", "outdated_db", "v1*", "v2", "+1 ~0 -0"):
        assert word in lines["ipm"]
    for word in ("ben", "up_to_date", "v1"):
        assert word in lines["emoji"]
    assert "*" not in lines["emoji"]


def test_status_of_a_file_that_was_never_published(world: World) -> None:
    status = world.status()
    assert (status["state"], status["dirty"]) == ("ready_to_upload", True)
    assert status["live"] == {"file": "ipm-db-v1.db", "version": None}
    assert status["anchor"] is status["head"] is None


def test_status_of_a_folder_without_a_file(copied: Copy) -> None:
    world = copied("team")
    world.live("ann").unlink()
    (world.folder("ann") / "db.toml").unlink()
    done = world.b2m("status", "--db", "ipm", "--host", "ann", "--json")
    assert (done.code, done.json[-1]["reason"]) == (8, "live_missing")
    assert done.json[-1]["live"]["file"] is None


def test_plan_says_what_a_sync_then_does(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "from-ben")
    done = world.b2m("plan", "--db", "ipm", "--host", "ben", "--json")
    assert done.code == 10
    (plan,) = [line for line in done.json if line["type"] == "plan"]
    assert plan["work"] is True
    planned = [step["name"] for step in plan["steps"] if step["skip"] is None]
    assert world.status("ben")["state"] == "outdated_db", "a plan changes nothing"
    synced = world.sync("ben")
    began = [line["name"] for line in synced.json if line["type"] == "task" and line["status"] == "started"]
    assert sorted(began) == sorted(planned)
    assert world.b2m("plan", "--db", "ipm", "--host", "ben").code == 0
    assert world.b2m("sync", "--check", "--db", "ipm", "--host", "ben").code == 0


def test_history_and_diff(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ann", "o'brien ? 🙂")
    world.edit("ann", "ipm", "UPDATE ipm_data SET name = 'changed' WHERE slug = 'from-ann'")
    world.edit("ann", "ipm", "DELETE FROM ipm_data WHERE slug = 'awkward-emoji'")
    done = world.b2m("diff", "--db", "ipm", "--host", "ann")
    assert done.code == 0
    first, counts, *changed = done.out.splitlines()
    assert (first, counts) == ("ipm@ann  live against v2", "  ipm_data  +1 ~1 -1")
    assert sorted(line.split()[0] for line in changed if line[:6].strip() in ("+", "~", "-")) == ["+", "-", "~"]
    (found,) = world.b2m("diff", "--db", "ipm", "--host", "ann", "--json").json
    assert (found["dirty"], found["tables"]) == (True, {"ipm_data": {"inserted": 1, "updated": 1, "deleted": 1}})
    kinds = {row["kind"]: row for row in found["rows"]}
    assert kinds["insert"]["new"][1] == "o'brien ? 🙂"
    assert (kinds["update"]["old"][3], kinds["update"]["new"][3]) == ("from-ann", "changed")
    assert kinds["delete"]["old"][1] == "awkward-emoji"

    assert world.b2m("sync", "--db", "ipm", "--host", "ann", "--message", "Über 'quotes'").code == 0
    done = world.b2m("history", "--db", "ipm", "--limit", "2")
    newest, older = done.out.splitlines()
    assert re.fullmatch(r"ipm v3  \S+  \S+ on ann  \+1 ~1 -1  \d+KB(  \S+)?  Über 'quotes'", newest), newest
    assert older.startswith("ipm v2  ")
    commits = world.b2m("history", "--db", "ipm", "--json", "--limit", "0").json
    assert [commit["number"] for commit in commits] == [3, 2, 1]
    assert commits[0]["parent_token"] == commits[1]["token"]
    assert "the same rows" in world.b2m("diff", "--db", "ipm", "--host", "ann").out


def test_the_recap_has_the_fields_that_are_promised(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "from-ben")
    done = world.sync("ben")
    recap = done.recap
    assert done.json[-1] == recap, "it is the last line"
    assert set(recap) == RECAP
    assert set(recap["tasks"]) == {"ok", "changed", "skipped", "failed", "undone"}
    assert recap["rows"] == {"inserted": 1, "updated": 0, "deleted": 0}
    assert (recap["before"], recap["after"], recap["exit_code"]) == ("outdated_db", "up_to_date", 0)
    assert (recap["from_version"], recap["to_version"], recap["holds"]) == (1, 3, 0)
    assert min(recap["bytes_up"], recap["bytes_down"], recap["requests"], recap["total_ms"]) > 0
    # A refusal has one too, after the error.
    world.live("ben").write_bytes(b"no database" * 100)
    refused = world.sync("ben")
    assert (refused.code, set(refused.recap)) == (8, RECAP)
    assert refused.json[-1] == refused.recap
    assert (refused.recap["before"], refused.recap["exit_code"]) == ("refused", 8)


def test_the_recap_for_people_is_one_line_in_fixed_order(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "from-ben")
    done = world.b2m("sync", "--db", "ipm", "--host", "ben")
    assert re.fullmatch(
        r"ipm@ben  outdated_db -> up_to_date  v1 -> v3  rows \+1 ~0 -0  tasks ok=\d+ changed=\d+ failed=0  "
        r"downtime 0\.0s  up \d+KB  total \d+\.\ds  run \d{8}T\d{6}Z-[0-9a-f]{4}\n",
        done.out,
    ), done.out


# -- upload and download -----------------------------------------------------------------------------------------


def test_upload_publishes_what_starts_from_the_head_and_refuses_what_does_not(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "from-ann")
    world.insert("ben", "from-ben")
    done = world.b2m("upload", "--db", "ipm", "--host", "ann", "--json", "--message", "by hand")
    assert (done.code, done.recap["to_version"], done.recap["after"]) == (0, 2, "up_to_date")
    assert world.b2m("history", "--db", "ipm", "--json").json[0]["message"] == "by hand"

    before = rows(world, world.live("ben"))
    refused = world.b2m("upload", "--db", "ipm", "--host", "ben", "--json")
    assert refused.code == 8
    assert error_of(refused)["reason"] == "not_on_head"
    assert error_of(refused)["text"] in [
        line["text"].removeprefix("ipm on ben refused: ") for line in refused.json if line["type"] == "message"
    ]
    assert world.head() == 2
    assert rows(world, world.live("ben")) == before

    again = world.b2m("upload", "--db", "ipm", "--host", "ann", "--json")
    assert (again.code, again.recap["tasks"]["changed"], world.head()) == (0, 0, 2)


def test_download_brings_the_head_or_any_version(copied: Copy) -> None:
    world = copied("behind")
    done = world.b2m("download", "--db", "ipm", "--host", "ben", "--json")
    assert (done.code, done.recap["to_version"], done.recap["after"]) == (0, 2, "up_to_date")
    assert_in_step(world, host="ben")
    done = world.b2m("download", "--db", "ipm", "--host", "ben", "--version", "v1", "--json")
    assert (done.code, done.recap["to_version"], done.recap["after"]) == (0, 1, "outdated_db")
    assert world.live("ben").name == "ipm-db-v1.db"
    assert rows(world, world.live("ben")) == rows(world, world.restored(number=1))
    assert world.b2m("download", "--db", "ipm", "--host", "ben", "--version", "1").code == 0, "it is there already"
    done = world.b2m("download", "--db", "ipm", "--host", "ben", "--version", "9")
    assert (done.code, done.err) == (1, "b2m: ipm has no version 9; the bucket has v1 to v2\n")
    assert world.sync("ben").recap["to_version"] == 2
    assert_in_step(world, host="ben")
    assert world.head() == 2, "downloading publishes nothing"


def test_download_never_overwrites_rows_that_are_in_no_version(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "from-ben")
    before = rows(world, world.live("ben"))
    done = world.b2m("download", "--db", "ipm", "--host", "ben", "--json")
    assert (done.code, error_of(done)["reason"]) == (8, "unsaved_rows")
    assert "has 1 rows that are in no version" in str(error_of(done)["text"])
    assert rows(world, world.live("ben")) == before

    done = world.b2m("download", "--db", "ipm", "--host", "ben", "--discard", "--json")
    assert (done.code, done.recap["to_version"], done.recap["after"]) == (0, 2, "up_to_date")
    assert_in_step(world, host="ben")
    (backup,) = (world.folder("ben") / ".b2m" / "ipm" / "backups").glob("*.db")
    assert rows(world, backup) == before
    assert f"the rows in no version are saved in {backup}" in [
        line["text"] for line in done.json if line["type"] == "message"
    ]


@pytest.mark.parametrize("host", ["prod", "prod-stop"])
def test_download_with_discard_under_a_busy_server_keeps_its_late_rows(copied: Copy, host: str) -> None:
    """What the server had is in the backup; what it writes while the command runs is in the new live file."""
    world = copied("team")
    world.edit("ann", "ipm", "INSERT INTO ipm_category VALUES (?, 'other')", slug_hash("other"))
    assert world.sync("ann").recap["to_version"] == 2
    with world.serving():
        with world.writing() as shadow:
            done = world.b2m("download", "--db", "ipm", "--host", host, "--json")
            assert error_of(done)["reason"] == "unsaved_rows"
            done = world.b2m("download", "--db", "ipm", "--host", host, "--discard", "--json")
            assert done.code == 0, done
            assert (done.recap["to_version"], done.recap["holds"]) == (2, 1)
            assert world.serves_within(5)
            so_far = len(world.acknowledged(shadow))
            while len(world.acknowledged(shadow)) < so_far + 5:
                time.sleep(0.01)
        (backup,) = (world.prod / ".b2m" / "ipm" / "backups").glob("*.db")
        acknowledged = set(world.acknowledged(shadow))
        dropped = world.slugs(backup)
        late = acknowledged - dropped
        assert acknowledged & dropped
        assert late
        assert {slug for slug in world.slugs(world.live()) if slug.startswith("w-")} >= late, "late rows survive"
        publish(world, host, holds=0)  # it bears the next number since it was put live with late rows
        assert_in_step(world, host=host)
        assert late <= world.slugs(world.restored())


def test_download_with_discard_is_undone_if_late_rows_need_what_would_be_dropped(copied: Copy) -> None:
    """The late entries are of a category that the server itself had inserted before: without it they cannot be."""
    world = copied("behind")
    with world.serving():
        with world.writing() as shadow:
            done = world.b2m("download", "--db", "ipm", "--host", "prod", "--discard", "--json")
            assert (done.code, error_of(done)["reason"]) == (8, "conflict"), done
            assert "its row in ipm_category is gone" in str(error_of(done)["text"])
            assert world.live().name == "ipm-db-v1.db"
            assert world.serves_within(5)
        assert_all_there(world, world.live(), shadow)
        publish(world)
        assert_in_step(world)
        assert_all_there(world, world.restored(), shadow, ["from-ann"])


# -- locks -------------------------------------------------------------------------------------------------------


def somebody_else(world: World, seen: Path) -> Lease:
    """Take the lease on ipm as a run on another machine."""
    return acquire(world.bucket, "ipm", owner="somebody@afar", host="far", work="another", reason="sync", seen=seen)


def test_locks_and_unlock(copied: Copy, tmp_path: Path) -> None:
    world = copied("team")
    assert world.b2m("locks").out == "emoji  free\nipm  free\n"
    assert world.b2m("unlock", "--db", "ipm").code == 0
    with somebody_else(world, tmp_path / "seen.json") as lease:
        assert world.b2m("locks", "--db", "ipm").out == (
            f"ipm  held by somebody@afar on far since {lease.since} for sync; "
            "if that run is dead: b2m unlock --force --db ipm\n"
        )
        (shown,) = world.b2m("locks", "--db", "ipm", "--json").json
        assert (shown["db"], shown["lease"]["owner"], shown["lease"]["host"]) == ("ipm", "somebody@afar", "far")
        world.insert("ann", "from-ann")
        assert world.b2m("plan", "--db", "ipm", "--host", "ann").code == 4
        assert world.sync("ann").code == 4

        done = world.b2m("unlock", "--db", "ipm")
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            f"b2m: ipm is held by somebody@afar since {lease.since}; to break that: b2m unlock --force --db ipm\n"
        )
        lease.ensure()
        done = world.b2m("unlock", "--db", "ipm", "--force", "--json")
        assert (done.code, done.json[-1]["broken"]["owner"]) == (0, "somebody@afar")
        with pytest.raises(LeaseLost):
            lease.ensure()
    assert world.b2m("locks", "--db", "ipm").out == "ipm  free\n"
    assert world.sync("ann").recap["to_version"] == 2


# -- files without an anchor -------------------------------------------------------------------------------------


def forget(world: World, host: str) -> None:
    """Lose what b2m remembers of a host, as when a file was copied there by hand."""
    subprocess.run(["rm", "-r", str(world.folder(host) / ".b2m")], check=True)


def test_a_file_that_equals_a_version_is_adopted(copied: Copy) -> None:
    world = copied("behind")
    forget(world, "ben")
    assert world.b2m("status", "--db", "ipm", "--host", "ben", "--json").json[-1]["reason"] == "no_base"
    done = world.b2m("adopt", "--db", "ipm", "--host", "ben")
    assert (done.code, done.out) == (0, f"ipm@ben  {world.live('ben')} starts from v1 now  rows +0 ~0 -0\n")
    assert (world.status("ben")["state"], world.status("ben")["anchor"]["version"]) == ("outdated_db", 1)
    assert world.sync("ben").recap["to_version"] == 2
    assert_in_step(world, host="ben")


def test_a_file_that_differs_from_every_version_is_shown_and_adopted_by_name_only(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "from-ben")
    forget(world, "ben")
    refused = world.sync("ben")
    assert (refused.code, error_of(refused)["reason"]) == (8, "no_base")
    done = world.b2m("adopt", "--db", "ipm", "--host", "ben")
    assert done.code == 8
    assert done.out == (
        f"ipm@ben  {world.live('ben')} is closest to v1, but differs: +1 ~0 -0. If it started from there: "
        "b2m adopt --db ipm --host ben --version 1\n"
    )
    assert world.status("ben")["anchor"] is None
    shown = world.b2m("adopt", "--db", "ipm", "--host", "ben", "--json").json[-1]
    assert shown == {"type": "adoption", "db": "ipm", "version": 1, "adopted": False}

    assert world.b2m("adopt", "--db", "ipm", "--host", "ben", "--version", "1").code == 0
    assert world.sync("ben").recap["to_version"] == 3
    assert {"from-ann", "from-ben"} <= world.slugs(world.restored())
    assert_in_step(world, host="ben")


def test_sync_heals_a_file_without_an_anchor_that_equals_a_version(copied: Copy) -> None:
    world = copied("behind")
    forget(world, "ben")
    done = world.sync("ben")
    assert done.code == 0, done
    assert (done.recap["before"], done.recap["to_version"], done.recap["after"]) == ("outdated_db", 2, "up_to_date")
    assert any("has the rows of v1" in line["text"] for line in done.json if line["type"] == "recovered")
    assert_in_step(world, host="ben")


# -- rollback ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["prod", "prod-stop"])
def test_rollback_keeps_what_the_running_server_wrote_since(copied: Copy, host: str) -> None:
    world = copied("behind")
    with world.serving():
        with world.writing() as shadow:
            publish(world, host)
            assert world.live().name == "ipm-db-v3.db"
            done = world.b2m("rollback", "--db", "ipm", "--host", host, "--json")
            assert done.code == 0, done
            assert (done.recap["from_version"], done.recap["to_version"], done.recap["holds"]) == (3, 1, 1)
            assert world.live().name == "ipm-db-v1.db"
            assert world.serves_within(5)
            assert "from-ann" not in world.slugs(world.live()), "it is the file from before the swap"
        assert_all_there(world, world.live(), shadow)
        assert world.status(host)["state"] == "outdated_db"
        assert world.b2m("rollback", "--db", "ipm", "--host", host, "--json").code == 8, "there is nothing before that"

        with world.writing() as more:
            publish(world, host)
        assert world.sync(host).code == 0
        assert_in_step(world, host=host)
        for path in (world.live(), world.restored()):
            assert_both_there(world, path, shadow, more)


def assert_both_there(world: World, path: Path, first: Path, second: Path) -> None:
    both = first.with_name("both.txt")
    both.write_text(first.read_text() + second.read_text())
    assert_all_there(world, path, both, ["from-ann"])


def test_rollback_without_an_earlier_file_is_refused(copied: Copy) -> None:
    world = copied("team")
    done = world.b2m("rollback", "--db", "ipm", "--host", "ann", "--json")
    assert (done.code, error_of(done)["reason"]) == (8, "nothing_kept")


# -- buckets -----------------------------------------------------------------------------------------------------


def test_bucket_init_sets_up_once(world: World) -> None:
    subprocess.run(["rm", "-r", str(world.root / "bucket")], check=True)
    refused = world.sync()
    assert (refused.code, error_of(refused)["reason"]) == (8, "bucket_lost")
    assert not (world.root / "bucket").exists()
    first = world.b2m("bucket.init")
    assert first.code == 0
    assert re.fullmatch(r"main  [0-9a-f]{32}\n", first.out)
    assert world.sync().recap["to_version"] == 1
    again = world.b2m("bucket", "init", "--bucket", "main")
    assert (again.code, again.out) == (0, first.out)
    assert world.status()["state"] == "up_to_date"
    unknown = world.b2m("bucket.init", "--bucket", "mian")
    assert (unknown.code, unknown.err) == (1, "b2m: unknown bucket mian; inventory.yaml knows: main\n")


# -- several databases, and projects elsewhere -------------------------------------------------------------------


def test_several_databases_fail_one_by_one_and_the_worst_decides(copied: Copy, tmp_path: Path) -> None:
    world = copied("team")
    world.insert("ann", "from-ann")
    world.edit("ann", "emoji", "UPDATE emoji SET name = 'ann' WHERE code = '1F600'")
    done = world.b2m("sync", "--db", "all", "--host", "ann", "--json")
    assert done.code == 0
    recaps = {line["db"]: line["to_version"] for line in done.json if line["type"] == "recap"}
    assert recaps == {"ipm": 2, "emoji": 2}

    world.insert("ann", "from-ann, too")
    world.live("ann", "emoji").unlink()
    done = world.b2m("sync", "--db", "emoji", "--db", "ipm", "--host", "ann")
    assert done.code == 8
    assert [line for line in done.out.splitlines() if line.endswith(("success", "failed"))] == [
        "ipm success",
        "emoji failed",
    ]
    assert world.head() == 3

    world.insert("ann", "from-ann, again")
    with somebody_else(world, tmp_path / "seen.json"):
        done = world.b2m("sync", "--db", "ipm", "--db", "emoji", "--host", "ann", "--json")
        assert done.code == 8, "worse than 4"
        assert sorted(line["exit_code"] for line in done.json if line["type"] == "error") == [4, 8]
        world.change("inventory.yaml", "    path: bucket\n", f"    path: bucket\n{BEHIND_A_SECRET}")
        world.change("inventory.yaml", "    key: emojidb\n    bucket: main\n", "    key: emojidb\n    bucket: far\n")
        done = world.b2m("sync", "--db", "ipm", "--db", "emoji", "--host", "ann", "--json")
        assert sorted(line["exit_code"] for line in done.json if line["type"] == "error") == [3, 4]
        assert done.code == 3, "trying again, as 4 says, would not help"
        assert world.b2m("sync", "--db", "ipm", "--host", "ann").code == 4


def test_a_project_elsewhere(copied: Copy, tmp_path: Path) -> None:
    world = copied("behind")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = ("sync", "--db", "ipm", "--host", "ben", "--project")
    for project in (str(world.root), f"../{world.root.name}"):
        done = subprocess.run(
            world.command(*words, project), cwd=elsewhere, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done
    assert list(elsewhere.iterdir()) == []
    assert_in_step(world, host="ben")
    below = world.root / "playbooks"
    done = subprocess.run(
        world.command("status", "--host", "ben", "--json"), cwd=below, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    assert sorted(line["db"] for line in Done(0, done.stdout, "").json) == ["emoji", "ipm"], "nearest project upwards"


# -- names of files ----------------------------------------------------------------------------------------------


@contextmanager
def stable(world: World, *, linked: str) -> Iterator[Path]:
    """Let the live file be ``ipm.db`` for ever, and yield it; ``linked``: a link to a file of this name elsewhere."""
    world.change("inventory.yaml", "ipm-db-v{version}.db", "ipm.db")
    world.change("playbooks/ipm.yaml", "naming: versioned", "naming: stable")
    (world.prod / "db.toml").write_text('[db]\nipmdb = "ipm.db"\nemojidb = "emoji-db-v1.db"\n')
    home, name = world.prod, "ipm.db"
    if linked:
        home, name = world.prod.parent / "store", linked
        home.mkdir()
        (world.prod / "ipm.db").symlink_to(f"../store/{name}")
    (world.prod / "ipm-db-v1.db").rename(home / name)
    yield home / name
    assert sorted(path.name for path in home.glob(f"{name}*")) in ([name], [name, f"{name}-shm", f"{name}-wal"])


@pytest.mark.parametrize("linked", ["", "ipm.db", "other.sqlite"], ids=["a file", "a link", "a link of another name"])
@pytest.mark.parametrize("host", ["prod", "prod-stop"])
def test_a_file_whose_name_never_changes(world: World, host: str, linked: str) -> None:
    with stable(world, linked=linked) as live:
        assert world.sync(host).recap["to_version"] == 1
        world.member("ann")
        world.insert("ann", "from-ann")
        assert world.sync("ann").recap["to_version"] == 2
        toml = (world.prod / "db.toml").read_bytes()
        with world.serving():
            with world.writing() as shadow:
                inode = live.stat().st_ino
                done = world.sync(host)
                assert done.code == 0, done
                assert (done.recap["before"], done.recap["to_version"], done.recap["holds"]) == ("outdated_db", 3, 1)
                assert live.stat().st_ino != inode
                done = world.sync(host)
                assert (done.code, done.recap["to_version"]) == (0, 4)
                assert done.recap["holds"] == 0, "a mere upload need not touch a name that stays"
            assert (world.prod / "ipm.db").is_symlink() == bool(linked)
            assert (world.prod / "db.toml").read_bytes() == toml
            assert world.sync(host).code == 0
            status = world.status(host)
            assert (status["state"], status["live"]["file"]) == ("up_to_date", linked or "ipm.db")
            assert_all_there(world, live, shadow, ["from-ann"])
            assert rows(world, live) == rows(world, world.restored())
            if host == "prod":
                with polling(world, "/ipm") as seen:
                    done = world.b2m("rollback", "--db", "ipm", "--host", host, "--json")
                    assert done.code == 0, done
                assert seen.failures == []
                assert (world.prod / "ipm.db").is_symlink() == bool(linked)
                assert_all_there(world, live, shadow)
                assert world.sync(host).recap["after"] == "up_to_date"
                assert_all_there(world, live, shadow, ["from-ann"])
                assert rows(world, live) == rows(world, world.restored())


def test_a_link_of_another_name_is_named_again_by_a_rollback_and_by_an_undo(copied: Copy) -> None:
    """What ``db.toml`` must name is the link in the folder: the server would make an empty file of the other name."""
    world = copied("behind")
    live, store = world.live(), world.prod.parent / "store"
    store.mkdir()
    live.rename(store / "other.sqlite")
    live.symlink_to("../store/other.sqlite")
    toml = (world.prod / "db.toml").read_bytes()
    with world.serving():
        script(world, "connect", before="[ $calls = 1 ] && { echo no such file >&2; exit 1; }")
        assert world.sync().code == 6
        assert (world.prod / "db.toml").read_bytes() == toml
        assert world.serves_within(5)
        world.insert("prod", "mine")
        assert world.sync().code == 0
        assert (world.prod / "db.toml").read_bytes() != toml
        done = world.b2m("rollback", "--db", "ipm", "--host", "prod")
        assert done.code == 0, done
        assert (world.prod / "db.toml").read_bytes() == toml
        assert world.serves_within(5)
    assert "mine" in world.slugs(store / "other.sqlite")


def test_a_file_of_one_name_on_another_disk_is_refused_before_the_server_is_asked_to_let_go(copied: Copy) -> None:
    world = copied("behind")
    store = world.prod.parent / "store"
    store.mkdir()
    keep_its_name(world)
    with small_disk(store, 64 << 20):
        shutil.move(world.prod / "ipm.db", store / "ipm.db")
        (world.prod / "ipm.db").symlink_to("../store/ipm.db")
        told = f"{store}/ipm.db: it is on another file system than {world.prod}, so no file from there"
        with world.serving():
            done = world.sync()
            assert done.code == 8, done
            assert told in done.out
            assert done.recap["holds"] == 0
            assert told in world.b2m("download", "--db", "ipm", "--host", "prod").err


def test_a_file_of_one_name_on_another_disk_is_published(copied: Copy) -> None:
    """Nothing takes its place for that."""
    world = copied("team")
    keep_its_name(world)
    store = world.prod.parent / "store"
    store.mkdir()
    with small_disk(store, 64 << 20):
        shutil.move(world.prod / "ipm.db", store / "ipm.db")
        (world.prod / "ipm.db").symlink_to("../store/ipm.db")
        world.insert("prod", "mine")
        done = world.sync()
        assert (done.code, done.recap["after"], done.recap["holds"]) == (0, "up_to_date", 0)
    assert "mine" in world.slugs(world.restored())


def test_a_trigger_that_the_newer_version_dropped_stands_in_no_way_of_a_rollback(copied: Copy) -> None:
    world = copied("team")
    trigger = "CREATE TRIGGER seen AFTER DELETE ON ipm_data BEGIN SELECT 1; END"
    world.edit("ann", "ipm", trigger)
    assert world.sync("ann").code == 0
    with world.serving():
        assert world.sync().code == 0
        world.edit("ann", "ipm", "DROP TRIGGER seen")
        assert world.sync("ann").code == 0
        before = world.live()
        assert world.sync().code == 0
        assert world.post("after-the-swap") == 201
        done = world.b2m("rollback", "--db", "ipm", "--host", "prod")
        assert done.code == 0, done
    assert world.live() == before
    assert "after-the-swap" in world.slugs(before)


def test_a_link_that_leads_elsewhere_by_now_is_not_named_by_a_rollback(copied: Copy) -> None:
    world = copied("behind")
    live, link = world.live(), world.prod / "current.db"
    link.symlink_to(live.name)
    world.change("prod/dbs/db.toml", live.name, link.name)
    with world.serving():
        assert world.sync().code == 0
        link.unlink()
        link.symlink_to(world.live().name)
        done = world.b2m("rollback", "--db", "ipm", "--host", "prod")
        assert done.code == 0, done
        assert world.serves_within(5)
    assert world.live() == live


def test_the_first_file_comes_to_where_a_link_leads_and_the_link_is_named(copied: Copy) -> None:
    world = copied("behind")
    keep_its_name(world)
    folder = world.folder("ben")
    shutil.rmtree(folder)
    (folder.parent / "store").mkdir(parents=True)
    folder.mkdir()
    (folder / "ipm.db").symlink_to("../store/other.sqlite")
    done = world.b2m("download", "--db", "ipm", "--host", "ben")
    assert done.code == 0, done
    assert (folder / "db.toml").read_text() == '[db]\nipmdb = "ipm.db"\n'
    assert "from-ann" in world.slugs(folder.parent / "store" / "other.sqlite")
    assert world.status("ben")["state"] == "up_to_date"


def test_the_rest_of_db_toml_stays_as_it_is(copied: Copy) -> None:
    world = copied("behind")
    text = (
        "# databases of the web server\ntitle = 'x'\n\n[db]  # names\n  ipmdb = 'ipm-db-v1.db'   # Installerpedia\n"
        '"emojidb" = "emoji-db-v1.db"\npath = "/frontend/db/alldbs/"\n# end\n\n[other]\nipmdb = "not this one"\n'
    )
    toml = world.folder("ben") / "db.toml"
    toml.write_text(text)
    toml.chmod(0o640)
    world.insert("ben", "from-ben")
    assert world.sync("ben").recap["to_version"] == 3
    assert toml.read_text() == text.replace("'ipm-db-v1.db'", "'ipm-db-v3.db'")
    assert toml.stat().st_mode & 0o777 == 0o640
    world.insert("ben", "from-ben, again")
    assert world.b2m("upload", "--db", "ipm", "--host", "ben").code == 0
    assert toml.read_text() == text.replace("'ipm-db-v1.db'", "'ipm-db-v4.db'")


# -- publishing fails after the swap -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["packs", "commits"])
@pytest.mark.parametrize("host", ["prod", "prod-stop"])
def test_publishing_that_fails_after_the_swap_is_made_good_by_the_next_sync(copied: Copy, host: str, part: str) -> None:
    """The server works with the new file; the version is published later, under the number that the file bears."""
    world = copied("behind")
    folder = world.root / "bucket" / "ipm" / part
    assert folder.is_dir()
    # The bucket breaks while the server is away: the command that lets it have the database again breaks it.
    verb = "connect" if host == "prod" else "start"
    breaks = f"[ -e broken ] || {{ mv bucket/ipm/{part} hidden && touch bucket/ipm/{part} broken; }}; "
    inventory = world.root / "inventory.yaml"
    text = inventory.read_text()
    assert f'            {verb}: "' in text
    inventory.write_text(text.replace(f'            {verb}: "', f'            {verb}: "{breaks}'))
    with world.serving():
        with world.writing() as shadow:
            done = world.sync(host)
            assert done.code in (6, 9), done
            assert (world.root / "broken").exists()
            assert world.live().name == "ipm-db-v3.db", "the swap stands"
            assert world.serves_within(5)

            folder.unlink()
            (world.root / "hidden").rename(folder)
            status = world.status(host)
            assert (status["state"], status["dirty"]) == ("ready_to_upload", True)
            assert (status["anchor"]["version"], status["head"]["version"]) == (2, 2)
            done = world.sync(host)
            assert done.code == 0, done
            assert (done.recap["from_version"], done.recap["to_version"]) == (2, 3)
            assert done.recap["holds"] == 0, "the file has its name already"
            assert world.live().name == "ipm-db-v3.db"
        assert world.sync(host).code == 0
        assert_in_step(world, host=host)
        assert_all_there(world, world.live(), shadow, ["from-ann"])
        assert_all_there(world, world.restored(), shadow, ["from-ann"])
