"""Every refusal that a person can meet: its exact line, exit code 8, ``on_refused`` told of it, and nothing changed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from b2m.versions.commit import Commit, commit_name, new_token
from tests.e2e.conftest import Copy
from tests.support.unchanged import picture
from tests.support.world import World

SYNC = ("sync", "--db", "ipm", "--host", "ann")


@dataclass(frozen=True)
class Row:
    """One refusal: how to come to it, and the line that it prints; ``command`` is what is then run."""

    reason: str
    line: str
    prepare: Callable[[World], object]
    command: tuple[str, ...] = SYNC
    template: str = "team"
    env: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.prepare.__name__


def rewrite(world: World, number: int, **fields: object) -> None:
    """Put another commit in the place of a version, as no b2m would."""
    name = commit_name("ipm", number)
    old = Commit.from_bytes(world.bucket.get(name), bucket="", name=name)
    world.bucket.put(name, old.model_copy(update=fields).to_bytes())


def bucket_folder_gone(world: World) -> None:
    (world.root / "bucket").rename(world.root / "elsewhere")


def bucket_folder_empty(world: World) -> None:
    bucket_folder_gone(world)
    (world.root / "bucket").mkdir()


def another_bucket(world: World) -> None:
    bucket_folder_gone(world)
    assert world.b2m("bucket.init").code == 0
    marker = world.root / "bucket" / "b2m.json"
    marker.write_text(re.sub('"id": "[0-9a-f]{8}', '"id": "feedbeef', marker.read_text()))


def bucket_without_versions(world: World) -> None:
    world.bucket.delete(commit_name("ipm", 1))


def bucket_restored_from_an_old_copy(world: World) -> None:
    world.bucket.delete(commit_name("ipm", 2))


def no_database(world: World) -> None:
    world.live("ann").write_bytes(b"This is a text, not a database.\n" * 200)


def live_gone(world: World) -> None:
    world.live("ann").unlink()


def nothing_anywhere(world: World) -> None:
    for name in world.bucket.list("emoji/commits"):
        world.bucket.delete(name)
    path = world.live("ben", "emoji")
    (world.folder("ben") / ".b2m" / "emoji" / "anchor.json").unlink()
    path.unlink()


def no_anchor(world: World) -> None:
    world.insert("ann", "unknown origin")
    (world.folder("ann") / ".b2m" / "ipm" / "anchor.json").unlink()


def history_cut(world: World) -> None:
    rewrite(world, 2, parent=None, parent_token=None)


def number_taken_twice(world: World) -> None:
    world.insert("ann", "new data under one number")
    rewrite(world, 1, token=new_token())


def clock_ahead(world: World) -> None:
    rewrite(world, 1, time=(datetime.now(UTC) + timedelta(hours=2)).isoformat(timespec="seconds"))


def host_that_only_receives(world: World) -> None:
    path = world.root / "inventory.yaml"
    start, end = path.read_text().split("      ann:\n")
    path.write_text(f"{start}      ann:\n{end.replace('ipm: {}', 'ipm: {direction: bucket_to_host}', 1)}")
    world.insert("ann", "not for the bucket")


def both_changed_a_row(world: World) -> None:
    code = world.query(world.live("ann", "emoji"), "SELECT min(code) FROM emoji")[0][0]
    for name in ("ben", "ann"):
        world.edit(name, "emoji", "UPDATE emoji SET name = ? WHERE code = ?", f"{name}'s name", code)
    assert world.sync("ben", "emoji").code == 0


def schema_changed_and_outdated(world: World) -> None:
    world.edit("ben", "ipm", "ALTER TABLE ipm_data ADD COLUMN note TEXT")


def a_table_was_emptied(world: World) -> None:
    world.edit("ann", "ipm", "DELETE FROM ipm_data")


def a_table_was_emptied_while_outdated(world: World) -> None:
    world.edit("ben", "ipm", "DELETE FROM ipm_data")


def the_tables_are_gone(world: World) -> None:
    for table in ("ipm_data", "ipm_category"):
        world.edit("ann", "ipm", f"DROP TABLE {table}")


def upload_of_an_outdated_file(world: World) -> None:
    world.insert("ben", "from-ben")


def row_without_its_category(world: World) -> None:
    world.edit("ann", "ipm", "UPDATE ipm_data SET category_hash = 7 WHERE slug = '1.0'")


def file_of_the_next_name(world: World) -> None:
    (world.folder("ben") / "ipm-db-v2.db").write_bytes(b"somebody's")


def wal_of_the_next_name(world: World) -> None:
    (world.folder("ben") / "ipm-db-v2.db-wal").write_bytes(b"somebody's")


def no_earlier_file(world: World) -> None:
    """Nothing was ever swapped on ann's machine."""


def unsaved_rows(world: World) -> None:
    world.insert("ann", "in no version")


def rotten_anchor(world: World) -> None:
    world.insert("ann", "one more")
    damage(next((world.folder("ann") / ".b2m" / "ipm").glob("anchor-*.db")))


def lost_anchor(world: World) -> None:
    world.insert("ann", "one more")
    next((world.folder("ann") / ".b2m" / "ipm").glob("anchor-*.db")).unlink()


def damage(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def a_run_was_cut_off(world: World) -> None:
    world.insert("ann", "one more")
    died = world.sync("ann", env={"B2M_FAULT": "before-task:1:snapshot"})
    assert died.code == -signal.SIGKILL


LOST = "nothing was changed. Mount or name the right bucket; an empty one is set up with: b2m bucket.init"
TOO_MANY = (
    "ipm: {rows} of {rows} rows of ipm_data are gone, more than policy.max_deletes allows ({limit}); look with: "
    "b2m diff --db ipm --host {host}"
)

ROWS = [
    Row(
        "bucket_lost",
        ("ipm: the bucket {root}/bucket cannot be reached: there is no such folder; ") + LOST,
        bucket_folder_gone,
    ),
    Row(
        "bucket_lost",
        "ipm: the bucket {root}/bucket has no b2m.json: it is not set up, or not mounted; " + LOST,
        bucket_folder_empty,
    ),
    Row("bucket_lost", "ipm: this host's v1 came from another bucket ({bucket}…); " + LOST, another_bucket),
    Row("bucket_lost", "ipm: this host has v1, but the bucket has no version; " + LOST, bucket_without_versions),
    Row(
        "bucket_lost",
        "ipm: this host has v2, but the bucket has nothing newer than v1; " + LOST,
        bucket_restored_from_an_old_copy,
        template="behind",
    ),
    Row("unreadable", "ipm: {ann}/ipm-db-v1.db: is not an SQLite database; nothing was changed", no_database),
    Row(
        "live_missing",
        (
            "ipm: {ann}/ipm-db-v1.db is gone, but this host had v1 of it: put the file back, or fetch "
            "a version with: b2m download --db ipm --host ann"
        ),
        live_gone,
    ),
    Row(
        "nothing_here",
        (
            "emoji: there is no file {ben}/emoji-db-v1.db and no version in the bucket: put the "
            "database there, by that name, then run: b2m sync --db emoji --host ben"
        ),
        nothing_anywhere,
        ("sync", "--db", "emoji", "--host", "ben"),
    ),
    Row(
        "no_base",
        (
            "ipm: {ann}/ipm-db-v1.db and v1 in the bucket exist, but nothing tells which version the "
            "file started from; find out with: b2m adopt --db ipm --host ann"
        ),
        no_anchor,
    ),
    Row(
        "diverged",
        ("ipm: this host started from v1, which is not in the history of v2; see both with: b2m history --db ipm"),
        history_cut,
        ("sync", "--db", "ipm", "--host", "ben"),
        "behind",
    ),
    Row(
        "changed_under_number",
        ("ipm: v1 in the bucket is another than the v1 that this host knows; compare with: b2m history --db ipm"),
        number_taken_twice,
    ),
    Row("clock_skew", "ipm: the clocks differ by {seconds} s: set this machine's clock", clock_ahead),
    Row(
        "read_only_host",
        (
            "ipm: {ann}/ipm-db-v1.db has 1 changed rows, but ann only receives this database; save "
            "them elsewhere, then: b2m download --db ipm --host ann --discard"
        ),
        host_that_only_receives,
    ),
    Row(
        "conflict",
        (
            "emoji: 1 rows were changed on both sides, first emoji[code='{code}']: ours name=\"ann's "
            'name", theirs name="ben\'s name"; set another rule for the table in policy.merge, or settle the rows by '
            "hand and run again"
        ),
        both_changed_a_row,
        ("sync", "--db", "emoji", "--host", "ann"),
    ),
    Row(
        "cannot_replay",
        ("ipm: the schema changed (table ipm_data changed); b2m cannot replay that yet, so nothing was changed"),
        schema_changed_and_outdated,
        ("sync", "--db", "ipm", "--host", "ben"),
        "behind",
    ),
    Row("mass_deletion", TOO_MANY, a_table_was_emptied),
    Row("mass_deletion", TOO_MANY, a_table_was_emptied, ("upload", "--db", "ipm", "--host", "ann")),
    Row(
        "mass_deletion",
        TOO_MANY,
        a_table_was_emptied_while_outdated,
        ("sync", "--db", "ipm", "--host", "ben"),
        "behind",
    ),
    Row("mass_deletion", TOO_MANY, the_tables_are_gone),
    Row(
        "not_on_head",
        ("ipm: the file to upload does not start from v2, the newest version; run again: b2m sync --db ipm --host ben"),
        upload_of_an_outdated_file,
        ("upload", "--db", "ipm", "--host", "ben"),
        "behind",
    ),
    Row(
        "failed_verification",
        ("ipm: ours (ours.db) failed verification: row {hash} of ipm_data has no parent in ipm_category"),
        row_without_its_category,
    ),
    Row(
        "in_the_way",
        "ipm: {ben}/ipm-db-v2.db exists, and b2m did not put it there: move it away and run again",
        file_of_the_next_name,
        ("sync", "--db", "ipm", "--host", "ben"),
        "behind",
    ),
    Row(
        "in_the_way",
        "ipm: {ben}/ipm-db-v2.db-wal exists, and b2m did not put it there: move it away and run again",
        wal_of_the_next_name,
        ("sync", "--db", "ipm", "--host", "ben"),
        "behind",
    ),
    Row(
        "nothing_kept",
        "ipm: ann keeps no earlier file to roll back to",
        no_earlier_file,
        ("rollback", "--db", "ipm", "--host", "ann"),
    ),
    Row(
        "unsaved_rows",
        (
            "ipm: {ann}/ipm-db-v1.db has 1 rows that are in no version; publish them with: b2m sync "
            "--db ipm --host ann, or drop them with: b2m download --db ipm --host ann --discard"
        ),
        unsaved_rows,
        ("download", "--db", "ipm", "--host", "ann"),
    ),
    Row(
        "anchor_damaged",
        (
            "ipm: the anchor {anchor} is not what it was when it was written; fetch it anew with: "
            "b2m adopt --db ipm --host ann"
        ),
        rotten_anchor,
    ),
    Row(
        "anchor_damaged",
        "ipm: the anchor {anchor} is gone; fetch it anew with: b2m adopt --db ipm --host ann",
        lost_anchor,
    ),
    Row(
        "unfinished",
        ("ipm: run {run} on ann was cut off; the next sync finishes or undoes it: b2m sync --db ipm --host ann"),
        a_run_was_cut_off,
        ("status", "--db", "ipm", "--host", "ann"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.reason}-{row}-{row.command[0]}")
def test_a_refusal_says_its_line_tells_the_playbook_and_changes_nothing(row: Row, copied: Copy) -> None:
    world = copied(row.template)
    known = values(world)
    row.prepare(world)
    before = picture(world.root)
    done = world.b2m(*row.command, env=row.env)
    assert done.code == 8, done
    said = done.err.splitlines()[-1].removeprefix("b2m: ")
    assert "Traceback" not in done.err
    seconds = re.search(r"differ by (\d+) s", said)
    line = row.line.format(**known, host=row.command[4], seconds=seconds and seconds[1], run=journal_run(world))
    assert said == line
    assert picture(world.root) == before
    if row.command[0] in ("sync", "upload"):
        record = newest_record(world, row.command[2], row.command[4])
        assert record["exit_code"] == 8
        assert record["error"] == line
        told = f"{row.command[2]} on {row.command[4]} refused: {line}"
        assert told in [event["text"] for event in record["events"] if event["type"] == "message"]
        if row.command[0] == "sync":
            state = [event for event in record["events"] if event["type"] == "state"][-1]
            assert state["reason"] in (row.reason, None)


def values(world: World) -> dict[str, object]:
    """Return what the lines of refusals name, as it is in a world."""
    ann, ben = world.folder("ann"), world.folder("ben")
    rows = world.query(world.live("ben"), "SELECT count(*) FROM ipm_data")[0][0]
    return {
        "root": world.root,
        "ann": ann,
        "ben": ben,
        "bucket": world.bucket_id[:8],
        "code": world.query(world.live("ann", "emoji"), "SELECT min(code) FROM emoji")[0][0],
        "hash": world.query(world.live("ann"), "SELECT slug_hash FROM ipm_data WHERE slug = '1.0'")[0][0],
        "rows": rows,
        "limit": int(rows * 0.1),
        "anchor": next((ann / ".b2m" / "ipm").glob("anchor-*.db")),
    }


def journal_run(world: World) -> str:
    """Return the run that ann's journal is of."""
    path = world.folder("ann") / ".b2m" / "ipm" / "journal.jsonl"
    return str(json.loads(path.read_text().splitlines()[0])["run"]) if path.exists() else "none"


def newest_record(world: World, db: str, host: str) -> dict[str, Any]:
    """Return the record of the last run of a database on a host."""
    newest = max((world.folder(host) / ".b2m" / db / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    record: dict[str, Any] = json.loads(newest.read_bytes())
    return record
