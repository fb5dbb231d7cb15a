"""Whatever a person, a disk or another program may get wrong: one exact line, an exit code, and nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from b2m.versions import pack
from b2m.versions.commit import Commit, commit_name, seal
from b2m.versions.pack_format import HEADER, TRAILER_SIZE, footer_length, pack_name, seal_footer
from tests.e2e.conftest import Copy
from tests.support.rights import ORDINARY, make_unreadable
from tests.support.unchanged import picture
from tests.support.world import ROOT, World

ANN = ("--db", "ipm", "--host", "ann")
DRY = "b2m: --dry is not supported, it would make checks look successful; use: b2m plan"
UNKNOWN = "b2m: unknown database ipn, did you mean ipm? inventory.yaml knows: emoji, ipm"
DAMAGED = "b2m: bucket {root}/bucket: object {commit} is damaged: "
NEWER = "has format 2, this b2m reads up to 1: install a newer b2m"

HOSTS = "inventory.yaml knows: ann, ben, local, prod, prod-stop"
VERBS = ("sync", "upload", "plan", "ensure", "locks", "vars", "download", "rollback", "fetch-db-toml", "history")

LONG = "9" * 19
COMMAND_LINES: list[tuple[list[str], str]] = [
    (["sync", "--bad", "--worse"], "No idea what '--bad' is!"),
    (["status", "--host", "prodd"], "b2m: unknown host prodd, did you mean prod? " + HOSTS),
    (["status", "--db", "all", "--host", "prodd"], "b2m: unknown host prodd, did you mean prod? " + HOSTS),
    (["doctor", "--host", "production"], "b2m: production is a group; its hosts: prod, prod-stop"),
    *(
        ([verb, "--db", "all", "--host", "prodd"], "b2m: unknown host prodd, did you mean prod? " + HOSTS)
        for verb in VERBS
    ),
    (["runs", "--db", "all", "--host", "production"], "b2m: production is a group; its hosts: prod, prod-stop"),
    (["help", "snyc"], "No idea what 'snyc' is! Did you mean sync?"),
    (["--projct", ".", "status"], "No idea what '--projct' is!"),
    (["sync", "--dbb", "ipm"], "No idea what '--dbb' is! Did you mean --db?"),
    (["sync", "ipn", "--host", "ann"], UNKNOWN),
    (["sync", *ANN, "ann"], "b2m: unknown database ann; inventory.yaml knows: emoji, ipm"),
    (["snyc", *ANN], "No idea what 'snyc' is! Did you mean sync?"),
    (["bucket.initt"], "No idea what 'bucket.initt' is! Did you mean bucket.init?"),
    (["sync"], "b2m: name a database: --db emoji or --db ipm, or --db all"),
    (["sync", "--db"], "b2m: name a database: --db emoji or --db ipm, or --db all"),
    (["sync", "--db", "ipn"], UNKNOWN),
    (
        ["sync", *ANN, "--db", "emojii"],
        "b2m: unknown database emojii, did you mean emoji? inventory.yaml knows: emoji, ipm",
    ),
    (
        ["sync", "--db", "ipm", "--host", "prodd"],
        "b2m: unknown host prodd, did you mean prod? inventory.yaml knows: ann, ben, local, prod, prod-stop",
    ),
    (["sync", *ANN, "--wait", "soon"], "b2m: 'soon' is no duration: write 30s, 10m or 2h"),
    (["sync", *ANN, "--wait", "5"], "b2m: '5' is no duration: write 30s, 10m or 2h"),
    (["sync", *ANN, "--wait", "-5s"], "b2m: '-5s' is no duration: write 30s, 10m or 2h"),
    (["download", *ANN, "--version", "newest"], "b2m: 'newest' is no version: write a number, as in v12 or 12"),
    (["download", *ANN, "--version", "-1"], "b2m: '-1' is no version: write a number, as in v12 or 12"),
    (["download", *ANN, "--version", "²"], "b2m: '²' is no version: write a number, as in v12 or 12"),
    (["download", *ANN, "--version", LONG], f"b2m: '{LONG}' is no version: write a number, as in v12 or 12"),
    (["runs", *ANN, "--limit", LONG], f"b2m: --limit '{LONG}' is no number"),
    (["vars", *ANN, "-e", f"checks={'9' * 5000}"], "b2m: -e checks: the number is too long"),
    (["bucket"], "No idea what 'bucket' is! Did you mean bucket.init or bucket.check or bucket.import?"),
    (["sync", "-db", "ipm"], "No idea what '-b' is! Did you mean --db?"),
    (["download", *ANN, "--version", "9"], "b2m: ipm has no version 9; the bucket has v1 to v1"),
    (["adopt", *ANN, "--version", "v9"], "b2m: ipm has no version 9; the bucket has v1 to v1"),
    (["history", *ANN, "--limit", "all"], "b2m: --limit 'all' is no number"),
    (["diff", *ANN, "--rows", "-1"], "b2m: --rows '-1' is no number"),
    (["bucket.init", "--bucket", "mian"], "b2m: unknown bucket mian; inventory.yaml knows: main"),
    (["sync", *ANN, "--project", "nowhere"], "b2m: there is no folder nowhere"),
    (
        ["sync", *ANN, "--project", "bucket"],
        "b2m: bucket has no inventory.yaml: name a project's folder, or write one",
    ),
    (["--dry", "sync", *ANN], DRY),
    (["sync", *ANN, "--dry"], DRY),
    (["status", "--dry"], DRY),
    (["--dry", "bucket.init"], DRY),
]


@pytest.mark.parametrize(("words", "line"), COMMAND_LINES, ids=lambda value: " ".join(value)[:60])
def test_a_command_line_that_cannot_be_right_does_nothing(words: list[str], line: str, team: World) -> None:
    before = picture(team.root)
    done = team.b2m(*words)
    assert (done.code, done.err, done.out) == (1, line + "\n", "")
    assert picture(team.root) == before


@pytest.fixture(scope="module")
def team(templates: dict[str, World], tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return one world for all tests that leave it as it is; its ann has something to publish."""
    world = World.copy_of(templates["team"], tmp_path_factory.mktemp("bad") / "team")
    world.insert("ann", "something to publish")
    shutil.copy(ROOT / "tasks.py", world.root / "tasks.py")
    return world


@pytest.mark.parametrize(
    ("words", "dry", "line"),
    [
        (["--dry", "sync", *ANN], None, DRY),
        (["sync", *ANN, "--dry"], None, DRY),
        (["sync", *ANN], "1", DRY),
        (["upload", *ANN], "1", DRY),
        (["sync", "--bad", "--worse"], None, "No idea what '--bad' is!"),
        (["sync", "--db", "ipn"], None, UNKNOWN),
    ],
)
def test_invoke_itself_does_nothing_either(words: list[str], dry: str | None, line: str, team: World) -> None:
    before = picture(team.root)
    environment = {**os.environ, **({"INVOKE_RUN_DRY": dry} if dry else {})}
    command = [sys.executable, "-c", "from invoke.main import program; program.run()", *words]
    done = subprocess.run(command, cwd=team.root, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (1, line + "\n", "")
    assert picture(team.root) == before


def test_dry_by_the_environment_is_refused(team: World) -> None:
    before = picture(team.root)
    done = team.b2m("sync", *ANN, env={"INVOKE_RUN_DRY": "1"})
    assert (done.code, done.err) == (1, DRY + "\n")
    assert picture(team.root) == before


def test_outside_of_a_project_the_line_says_where_it_looked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "b2m", "status"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    line = f"b2m: no inventory.yaml in {tmp_path} or above it: go into a project, or name one with --project DIR\n"
    assert (done.returncode, done.stderr, done.stdout) == (1, line, "")


def test_a_project_is_found_from_a_folder_below_it(team: World) -> None:
    command = [sys.executable, "-m", "b2m", "status", *ANN]
    done = subprocess.run(command, cwd=team.folder("ann"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ipm@ann  ready_to_upload  live ipm-db-v1.db v1*  bucket v1")


# -- files that are not what they should be ------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What is made wrong, and what then comes of a command."""

    spoil: Callable[[World], object]
    code: int
    line: str
    commands: tuple[str, ...] = ("sync", "status", "diff")
    host: str = "ann"
    template: str = "team"

    def __str__(self) -> str:
        return self.spoil.__name__


def live(world: World) -> Path:
    return world.live("ann")


def state(world: World) -> Path:
    return world.folder("ann") / ".b2m" / "ipm"


def no_database(world: World) -> None:
    live(world).write_bytes(b"This is a text, not a database.\n" * 200)


def empty_file(world: World) -> None:
    live(world).write_bytes(b"")


def truncated(world: World) -> None:
    os.truncate(live(world), live(world).stat().st_size // 2)


def cut_in_its_header(world: World) -> None:
    os.truncate(live(world), 50)


def records_of_another(world: World) -> None:
    (state(world) / "runs").chmod(0)


def playbooks_of_another(world: World) -> None:
    (world.root / "playbooks").chmod(0)


def roles_of_another(world: World) -> None:
    (world.root / "roles").chmod(0)


def directory(world: World) -> None:
    path = live(world)
    path.unlink()
    path.mkdir()


def unreadable(world: World) -> None:
    make_unreadable(live(world))


def gone(world: World) -> None:
    live(world).unlink()


def folder_gone(world: World) -> None:
    world.folder("ann").rename(world.root / "ann" / "elsewhere")


def flip(path: Path, at: int | None = None) -> None:
    """Change one bit of a file, in its middle unless it is said where."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def flipped_commit(world: World) -> None:
    path = world.root / "bucket" / commit_name("ipm", 1)
    mark = b'"blake3": "'
    flip(path, path.read_bytes().index(mark) + len(mark))


def commit_of_a_newer_b2m(world: World) -> None:
    path = world.root / "bucket" / commit_name("ipm", 1)
    fields = json.loads(path.read_bytes())
    del fields["checksum"]
    path.write_bytes(seal({**fields, "format": 2}))


def packed(world: World) -> Path:
    name = commit_name("ipm", 2)
    commit = Commit.from_bytes(world.bucket.get(name), bucket="", name=name)
    return world.root / "bucket" / pack_name("ipm", 2, commit.blake3)


def flipped_pack(world: World) -> None:
    flip(packed(world), len(HEADER))  # in the first frame's magic number: elsewhere zstd may notice it, or not


def pack_cut_short(world: World) -> None:
    os.truncate(packed(world), packed(world).stat().st_size - 100)


def pack_of_a_newer_b2m(world: World) -> None:
    path = packed(world)
    data = path.read_bytes()
    length = footer_length(data[-TRAILER_SIZE:])
    body = json.loads(data[-TRAILER_SIZE - length : -TRAILER_SIZE])
    path.write_bytes(data[: -TRAILER_SIZE - length] + seal_footer(json.dumps({**body, "format": 2}).encode()))


def pack_gone(world: World) -> None:
    packed(world).unlink()


def marker_of_a_newer_b2m(world: World) -> None:
    path = world.root / "bucket" / "b2m.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))


def marker_that_is_no_json(world: World) -> None:
    (world.root / "bucket" / "b2m.json").write_text("hello")


def anchor_of_a_newer_b2m(world: World) -> None:
    path = state(world) / "anchor.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))


def anchor_that_is_no_json(world: World) -> None:
    (state(world) / "anchor.json").write_text("{")


def anchor_without_a_field(world: World) -> None:
    path = state(world) / "anchor.json"
    fields = json.loads(path.read_bytes())
    del fields["token"]
    path.write_text(json.dumps(fields))


def toml(world: World, text: str) -> None:
    (world.folder("ann") / "db.toml").write_text(text)


def toml_that_is_malformed(world: World) -> None:
    toml(world, '[db\nipmdb = "x"\n')


def toml_with_a_number(world: World) -> None:
    toml(world, "[db]\nipmdb = 3\n")


def toml_that_is_not_utf8(world: World) -> None:
    (world.folder("ann") / "db.toml").write_bytes(b"\xff\xfe")


def lease_that_is_no_lease(world: World) -> None:
    folder = world.root / "bucket" / "ipm" / "lease"
    (folder / "00000099.json").write_text("{}")


LIVE = "b2m: ipm: {ann}/ipm-db-v1.db: "
GONE = "b2m: ipm: {ann}/ipm-db-v1.db is gone, but this host had v1 of it: put the file back, or fetch a version with: "
ANCHOR = (
    "b2m: ipm: the anchor {ann}/.b2m/ipm/anchor.json is not readable; fetch it anew with: b2m adopt --db ipm --host ann"
)
NO_FOLDER = (
    "b2m: ipm: {ann}: the folder does not exist; make it, mount it, or name the right host with --host; "
    "nothing was changed"
)
PACK = "b2m: bucket {root}/bucket: object {pack} is damaged: "
LEASE = "it is no claim of a lease; if nobody works on the database, run: b2m unlock --force"
ALL = ("sync", "status", "plan", "diff", "upload", "download")
BEN = ("sync", "download")

FILES = [
    Row(no_database, 8, LIVE + "is not an SQLite database; nothing was changed", ALL),
    Row(empty_file, 8, LIVE + "is empty, no database; nothing was changed", ALL),
    Row(truncated, 8, LIVE + "is damaged or cut short (database disk image is malformed); nothing was changed", ALL),
    Row(cut_in_its_header, 8, LIVE + "is damaged or cut short (database disk image is malformed); nothing was changed"),
    Row(directory, 8, LIVE + "is a directory; nothing was changed", ALL),
    Row(unreadable, 8, LIVE + "permission denied; nothing was changed", ALL),
    Row(records_of_another, 8, "b2m: ipm: {ann}/.b2m/ipm/runs: cannot be read by this user; nothing was changed",
        ("runs",)),
    Row(playbooks_of_another, 3, "b2m: playbooks: cannot be read: permission denied", ("status", "sync", "vars")),
    Row(roles_of_another, 3, "b2m: roles: cannot be read: permission denied", ("status", "sync", "vars")),
    Row(gone, 8, GONE + "b2m download --db ipm --host ann", ("sync", "status", "plan", "diff", "upload")),
    Row(folder_gone, 8, NO_FOLDER, ("sync", "status", "plan")),
    Row(flipped_commit, 9, DAMAGED + "its checksum does not fit", ("sync", "status", "history", "download", "adopt")),
    Row(commit_of_a_newer_b2m, 8, "b2m: {commit} in bucket {root}/bucket " + NEWER, ("sync", "status", "history")),
    Row(flipped_pack, 9, PACK + "frame 1 of 1: it cannot be decompressed", BEN, "ben", "behind"),
    Row(pack_cut_short, 9, PACK + "its end is cut off or overwritten", BEN, "ben", "behind"),
    Row(pack_of_a_newer_b2m, 8, "b2m: {pack} in bucket {root}/bucket " + NEWER, BEN, "ben", "behind"),
    Row(pack_gone, 9, "b2m: bucket {root}/bucket: there is no object {pack}", BEN, "ben", "behind"),
    Row(marker_of_a_newer_b2m, 8, "b2m: bucket {root}/bucket " + NEWER, ("sync", "status", "history", "locks")),
    Row(marker_that_is_no_json, 9, "b2m: bucket {root}/bucket: object b2m.json is damaged: it is not JSON",
        ("sync", "status", "history")),
    Row(anchor_of_a_newer_b2m, 8, "b2m: anchor.json " + NEWER),
    Row(anchor_that_is_no_json, 8, ANCHOR),
    Row(anchor_without_a_field, 8, ANCHOR),
    Row(toml_that_is_malformed, 3, "b2m: {ann}/db.toml:1:4: Expected ']' at the end of a table declaration"),
    Row(toml_with_a_number, 3, "b2m: {ann}/db.toml:2: ipmdb must be a string, the name of a file"),
    Row(toml_that_is_not_utf8, 3, "b2m: {ann}/db.toml: is not UTF-8 (byte 0)"),
    Row(lease_that_is_no_lease, 9, "b2m: bucket {root}/bucket: object ipm/lease/00000099.json is damaged: " + LEASE,
        ("sync", "status", "locks")),
]  # fmt: skip


@pytest.mark.parametrize("row", FILES, ids=str)
def test_a_file_that_is_not_what_it_should_be_is_named_in_one_line(row: Row, copied: Copy) -> None:
    world = copied(row.template)
    known = {"root": world.root, "ann": world.folder("ann"), "commit": commit_name("ipm", 1)}
    if row.template == "behind":
        known["pack"] = packed(world).relative_to(world.root / "bucket").as_posix()
    row.spoil(world)
    before = picture(world.root)
    for command in row.commands:
        done = world.b2m(command, "--db", "ipm", "--host", row.host, under=ORDINARY)
        assert (command, done.code) == (command, row.code), done
        assert "Traceback" not in done.err
        said = [line for line in done.err.splitlines() if line.startswith("b2m: ")]
        assert said == [row.line.format(**known)]
        assert picture(world.root) == before, command


def test_a_lease_that_nobody_can_read_can_be_broken(copied: Copy) -> None:
    world = copied("team")
    lease_that_is_no_lease(world)
    assert world.b2m("unlock", "--db", "ipm", "--force").code == 0
    assert world.sync("ann").code == 0


def test_an_unreadable_remembered_verdict_is_found_out_again(copied: Copy) -> None:
    world = copied("team")
    (state(world) / "verdict.json").write_text('{"a": 1}')
    assert world.status("ann")["state"] == "up_to_date"


def test_a_damaged_pack_of_an_older_version_does_not_matter(copied: Copy) -> None:
    world = copied("behind")
    name = commit_name("ipm", 1)
    commit = Commit.from_bytes(world.bucket.get(name), bucket="", name=name)
    flip(world.root / "bucket" / pack_name("ipm", 1, commit.blake3))
    assert world.sync("ben").code == 0
    assert pack.hash_file(world.restored()) is not None
