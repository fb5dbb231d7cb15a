"""A fresh copy of the repository: the demo sets itself up, plays its story, and goes away without a trace."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import ROOT, Done

SYNC = ("sync", "--db", "ipm", "--host", "demo")


class Copy:
    """A copy of this repository, as a clone would have it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file() and not name.startswith("tests/"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)

    def b2m(self, *words: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "b2m", *words],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root / "src")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def content(self) -> dict[str, str]:
        """Return a hash of each file of the bucket and of the databases' folder, run records and locks excepted."""
        found = {}
        for folder in (self.root / ".demo" / "bucket", self.root / ".demo" / "prod" / "dbs"):
            for path in folder.rglob("*"):
                if path.is_file() and path.name not in ("lock", "verdict.json") and path.parent.name != "runs":
                    found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def processes(self) -> list[str]:
        """Return the command lines of the processes that work in this copy."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.root) in line:
                found.append(line)
        return found


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path / "a copy")
    yield made
    made.b2m("demo", "--reset")


def test_the_first_sync_makes_everything_and_the_second_changes_nothing(copy: Copy) -> None:
    first = copy.b2m(*SYNC)
    assert first.code == 0, first
    assert first.out.startswith("ipm@demo  ready_to_upload -> up_to_date  - -> v1  rows +0 ~0 -0  tasks ")
    before = copy.content()
    second = copy.b2m(*SYNC)
    assert second.code == 0, second
    assert second.out.startswith("ipm@demo  up_to_date -> up_to_date  v1 -> v1  rows +0 ~0 -0  tasks ok=0 changed=0 ")
    assert copy.content() == before
    assert "ipm/commits/00000001.json" in before


def test_the_story_is_told_twice_and_every_row_is_in_the_bucket(copy: Copy) -> None:
    for ipm, emoji in ((4, 4), (7, 7)):
        told = copy.b2m("demo")
        assert told.code == 0, told
        assert re.findall(r"^Scenario (\d): ", told.out, re.MULTILINE) == ["1", "2", "3", "4"]
        states = re.findall(r"^    \w+@\w+ +(\w+) -> (\w+) ", told.out, re.MULTILINE)
        assert [before for before, _ in states] == [
            "ready_to_upload", "outdated_db", "ready_to_upload", "ready_to_upload", "outdated_db",
        ]  # fmt: skip
        assert {after for _, after in states} == {"up_to_date"}
        noticed = re.search(r"(\d+) requests came in .* (\d+) failed$", told.out, re.MULTILINE)
        assert noticed
        assert int(noticed[1]) > 0
        assert int(noticed[2]) == 0
        proof = re.search(r"ipm v(\d+) has (\d+) of the (\d+) entries .*; it counted (\d+)$", told.out, re.MULTILINE)
        assert proof
        assert proof[1] == str(ipm)
        assert proof[2] == proof[3] == proof[4]
        assert int(proof[2]) > 6
        assert f"emoji v{emoji} has 3 of the 3 changes" in told.out
        assert told.out.rstrip().endswith("To remove the demo: b2m demo --reset")


def test_a_reset_leaves_nothing_and_no_process(copy: Copy) -> None:
    assert copy.b2m(*SYNC).code == 0
    assert copy.processes()
    assert copy.b2m("demo", "--reset").code == 0
    assert not (copy.root / ".demo").exists()
    assert copy.processes() == []
    assert copy.b2m("demo", "--reset").code == 0


def test_a_demo_that_cannot_be_synced_says_why_and_how_to_start_anew(copy: Copy) -> None:
    assert copy.b2m(*SYNC).code == 0
    shutil.rmtree(copy.root / ".demo" / "bucket")
    told = copy.b2m("demo")
    assert told.code == 8
    assert told.out == "ipm on demo cannot be brought up to date, see below; to start anew: b2m demo --reset\n"
    assert told.err.startswith("b2m: ipm: this host's v1 came from another bucket")
    assert copy.b2m("demo", "--reset").code == 0
    assert copy.b2m(*SYNC).code == 0


def test_the_hosts_that_stop_their_server_and_that_have_none_work_too(copy: Copy) -> None:
    assert copy.b2m("sync", "--db", "emoji", "--host", "demo-stop").code == 0
    member = copy.b2m("sync", "--db", "emoji", "--host", "ann")
    assert member.code == 0, member
    assert member.out.startswith("emoji@ann  outdated_db -> up_to_date  - -> v1 ")
    looked = copy.b2m("status", "--db", "emoji", "--host", "ben")
    assert looked.out.startswith("emoji@ben  outdated_db  live - -  bucket v1")
