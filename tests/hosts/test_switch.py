"""A switch that is cut off after any of its steps: the disk alone tells which side it is on, to be completed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from b2m import faults
from b2m.hosts import switch as switches
from b2m.hosts.anchor import Anchor
from b2m.hosts.place import Place
from b2m.hosts.switch import How, Switch
from b2m.versions import dbtoml
from b2m.versions.pack import hash_file


class CutOff(Exception):
    """The process died here."""


@dataclass
class Case:
    place: Place
    switch: Switch
    old: Path
    candidate: Path


def database(path: Path, text: str) -> Path:
    conn = apsw.Connection(str(path))
    conn.execute("CREATE TABLE t(x); INSERT INTO t VALUES(?)", (text,))
    conn.close()
    return path


def content(path: Path) -> str:
    conn = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        ((text,),) = conn.execute("SELECT x FROM t")
        return str(text)
    finally:
        conn.close()


def case(root: Path, how: How) -> Case:
    """Live is ``old``; a candidate and a downloaded head, the anchor to be, lie in a work folder."""
    name = "ipm.db" if how == "stable" else "ipm-db-v{version}.db"
    place = Place("ipm", "prod", root, name, "ipmdb", "stable" if how == "stable" else "versioned")
    work = place.work("run-1")
    work.mkdir(parents=True)
    (place.state / "kept").mkdir()
    old = database(root / place.file_name(1), "old")
    place.toml.write_text(f'# ours\n[db]\nipmdb = "{old.name}"\nemojidb = "emoji-db-v4.db"\n')
    candidate = old if how == "rename" else database(work / "candidate.db", "new")
    head = database(work / "head.db", "head")
    blake3, size = hash_file(head)
    kept = place.state / "kept" / "run-1.ipm.db"
    return Case(
        place,
        Switch(
            how=how,
            old=str(old),
            new=str(root / place.file_name(2)),
            staged=str(candidate),
            inode=candidate.stat().st_ino,
            journal_mode="wal",
            kept=str(kept) if how == "stable" else None,
            anchor=None if how == "rename" else Anchor(2, "token", blake3, size, "bucket").to_json(),
            anchor_file=None if how == "rename" else str(head),
            record=None if how == "rename" else {"how": how, "path": "kept"},
        ),
        old,
        candidate,
    )


def cut_off_at(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(name: str) -> None:
        if name == point:
            raise CutOff(name)

    monkeypatch.setattr(faults, "point", stop)


def do(made: Case) -> None:
    switches.make(made.place, made.switch)
    faults.point("between")
    switches.finish(made.place, made.switch)


# (how, cut off at, whether the switch took place)
STEPS: list[tuple[How, str, bool]] = [
    ("versioned", "switch:named", False),
    ("versioned", "between", True),
    ("versioned", "switch:finished-files", True),
    ("stable", "switch:linked", False),
    ("stable", "between", True),
    ("stable", "switch:finished-files", True),
    ("rename", "switch:named", False),
    ("rename", "between", True),
    ("rename", "switch:finished-files", True),
]


@pytest.mark.parametrize(("how", "point", "took_place"), STEPS)
def test_cut_off_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How, point: str, took_place: bool
) -> None:
    made = case(tmp_path, how)
    cut_off_at(point, monkeypatch)
    with pytest.raises(CutOff):
        do(made)
    monkeypatch.undo()
    assert switches.made(made.place, made.switch) is took_place
    for _ in range(2):  # whoever settles it may be cut off too
        (switches.finish if took_place else switches.revert)(made.place, made.switch)
    (assert_new if took_place else assert_old)(made)


@pytest.mark.parametrize("how", ["versioned", "stable", "rename"])
def test_announced_and_not_begun(tmp_path: Path, how: How) -> None:
    made = case(tmp_path, how)
    assert not switches.made(made.place, made.switch)
    switches.revert(made.place, made.switch)
    switches.revert(made.place, made.switch)
    assert_old(made)


@pytest.mark.parametrize("how", ["versioned", "stable"])
def test_made_and_taken_back_at_once(tmp_path: Path, how: How) -> None:
    """A stray connection was seen under the lock: the old file is live again, the candidate is back in its place."""
    made = case(tmp_path, how)
    switches.make(made.place, made.switch)
    switches.unmake(made.place, made.switch)
    assert not switches.made(made.place, made.switch)
    switches.revert(made.place, made.switch)
    assert_old(made)


def test_a_file_live_again_that_had_no_anchor_gets_none(tmp_path: Path) -> None:
    """Its successor's anchor would make every row that it lacks a deletion."""
    made = case(tmp_path, "versioned")
    do(made)
    aside = made.place.state / "failed" / "run-1.db"
    back = Switch(
        how="versioned",
        old=made.switch.new,
        new=str(made.old),
        staged=str(made.old),
        inode=made.old.stat().st_ino,
        journal_mode="wal",
        kept=str(aside),
    )
    switches.make(made.place, back)
    switches.finish(made.place, back)
    assert dbtoml.read(made.place.toml)["ipmdb"] == made.old.name
    assert content(aside) == "new"
    assert not (made.place.state / "anchor.json").exists()
    assert not (made.place.state / "kept.json").exists()


def assert_old(made: Case) -> None:
    assert dbtoml.read(made.place.toml) == {"ipmdb": made.old.name, "emojidb": "emoji-db-v4.db"}
    assert made.place.live() == made.old
    assert content(made.old) == "old"
    assert made.old.stat().st_nlink == 1
    assert made.old.read_bytes()[18:20] == b"\x02\x02", "it has its journal mode back"
    assert content(made.candidate) == ("old" if made.switch.how == "rename" else "new")
    assert sorted(path.name for path in made.place.folder.glob("*.db")) == [made.old.name]
    assert not (made.place.state / "anchor.json").exists()
    assert not (made.place.state / "kept.json").exists()


def assert_new(made: Case) -> None:
    how, new = made.switch.how, Path(made.switch.new)
    assert dbtoml.read(made.place.toml) == {"ipmdb": new.name, "emojidb": "emoji-db-v4.db"}
    assert "# ours" in made.place.toml.read_text()
    assert made.place.live() == new
    assert content(new) == ("old" if how == "rename" else "new")
    assert os.stat(new).st_ino == made.switch.inode  # noqa: PTH116
    assert new.stat().st_nlink == 1
    if how == "rename":
        assert not made.old.exists()
        return
    kept = made.old if how == "versioned" else Path(str(made.switch.kept))
    assert content(kept) == "old"
    assert json.loads((made.place.state / "kept.json").read_bytes()) == made.switch.record
    anchor = json.loads((made.place.state / "anchor.json").read_bytes())
    assert anchor["number"] == 2
    assert content(made.place.state / Anchor.from_json(anchor).file_name) == "head"
