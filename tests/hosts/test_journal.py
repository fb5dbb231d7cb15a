"""The journal: what was announced and not settled, whatever a crash or a full disk did to the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from b2m.errors import UnknownFormat
from b2m.journal import RESERVE, Journal, pending


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def test_no_journal_announces_nothing(journal: Journal) -> None:
    assert journal.entries() == []
    assert not journal.pending().anything


def test_a_run_that_announced_nothing_is_unfinished_all_the_same(journal: Journal) -> None:
    journal.begin("r1", {"db": "ipm"})
    found = journal.pending()
    assert found.anything
    assert (found.run, found.publish, found.hold, found.switch) == ("r1", None, None, None)


@pytest.mark.parametrize(
    ("act", "settled"),
    [
        ("publish", "published"),
        ("publish", "unpublished"),
        ("hold", "released"),
        ("switch", "switched"),
        ("switch", "unswitched"),
    ],
)
def test_an_act_is_open_until_it_is_settled(journal: Journal, act: str, settled: str) -> None:
    journal.begin("r1", {"db": "ipm"})
    journal.append(act, what=1)
    open_acts = {name: getattr(journal.pending(), name) for name in ("publish", "hold", "switch")}
    assert open_acts.pop(act) == {"kind": act, "what": 1}
    assert set(open_acts.values()) == {None}
    journal.append(settled)
    assert getattr(journal.pending(), act) is None
    journal.append(act, what=2)
    assert getattr(journal.pending(), act) == {"kind": act, "what": 2}


def test_settling_one_act_leaves_the_others_open(journal: Journal) -> None:
    journal.begin("r1", {"db": "ipm"})
    journal.append("hold", service="web")
    journal.append("switch", new="b")
    journal.append("unswitched")
    assert journal.pending().hold == {"kind": "hold", "service": "web"}
    assert journal.pending().switch is None


@pytest.mark.parametrize("keep", range(1, 40, 3))
def test_a_torn_line_announces_nothing_and_swallows_nothing(journal: Journal, keep: int) -> None:
    journal.begin("r1", {"db": "ipm"})
    whole = journal.path.stat().st_size
    journal.append("switch", new="/a/b.db")
    with journal.path.open("r+b") as file:
        file.truncate(min(whole + keep, journal.path.stat().st_size - 2))
    assert journal.pending().switch is None
    journal.append("hold", service="web")
    assert journal.pending().switch is None
    assert journal.pending().hold == {"kind": "hold", "service": "web"}
    assert journal.pending().run == "r1"


def test_another_format_is_refused(journal: Journal) -> None:
    with pytest.raises(UnknownFormat):
        pending([{"kind": "run", "format": 2, "run": "r1"}])


def test_end_forgets_all_of_it(journal: Journal, tmp_path: Path) -> None:
    journal.begin("r1", {"db": "ipm"})
    journal.append("hold")
    journal.end()
    assert list(tmp_path.iterdir()) == []
    journal.end()


class Disk:
    """``os.write`` on a disk with so many bytes free; removing the reserve frees what it held."""

    def __init__(self, free: int, reserve: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.reserve, self.held = free, reserve, reserve.exists()
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, handle: int, data: bytes) -> int:
        if self.held and not self.reserve.exists():
            self.held, self.free = False, self.free + RESERVE
        if self.free == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(handle, data[: self.free])
        self.free -= written
        return written


@pytest.mark.parametrize("free", [0, 1, 20])
def test_what_was_begun_is_noted_to_its_end_on_a_full_disk(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    journal.begin("r1", {"db": "ipm"})
    journal.append("switch", new="/a/b.db")
    Disk(free, journal.path.with_name("journal.jsonl.reserve"), monkeypatch)
    journal.append("switched")
    journal.append("released")
    assert journal.pending().switch is None
    assert [entry["kind"] for entry in journal.entries()] == ["run", "switch", "switched", "released"]


def test_without_a_reserve_a_full_disk_is_an_error(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.begin("r1", {"db": "ipm"})
    assert journal.use_reserve()
    assert not journal.use_reserve()
    Disk(0, journal.path.with_name("journal.jsonl.reserve"), monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        journal.append("hold")


def test_other_errors_do_not_cost_the_reserve(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.begin("r1", {"db": "ipm"})

    def broken(handle: int, data: bytes) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="Input/output"):
        journal.append("hold")
    assert journal.use_reserve()
