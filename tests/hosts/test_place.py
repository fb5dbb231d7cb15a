"""Files of one database on one host: small ones are replaced whole, and a copied folder is told from its original."""

from __future__ import annotations

import errno
import resource
import shutil
from pathlib import Path

import pytest

from b2m.hosts.place import Place, write_atomic
from tests.support.processes import alone


def _write(path: Path, data: bytes, room: int) -> int | None:
    """Write a file on what is as a disk that takes so many bytes; return the error's number, None without one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        write_atomic(path, data)
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize("room", [0, 4095, 9999])
def test_a_disk_that_takes_only_a_part_leaves_the_old_content(tmp_path: Path, room: int) -> None:
    path = tmp_path / "anchor.json"
    path.write_bytes(b"old")
    assert alone(_write, path, b"new" * 4000, room) == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert alone(_write, path, b"new" * 4000, 12000) is None
    assert path.read_bytes() == b"new" * 4000


def place(folder: Path) -> Place:
    folder.mkdir(exist_ok=True)
    return Place("ipm", "prod", folder, "ipm-db-v{version}.db", "ipmdb", "versioned")


def test_a_state_folder_gets_its_id_once(tmp_path: Path) -> None:
    ours = place(tmp_path / "dbs")
    assert ours.known_work_id() is None
    made = ours.work_id()
    assert (ours.work_id(), ours.known_work_id()) == (made, made)
    assert len(made) == 32


def test_a_state_folder_that_was_moved_keeps_its_id(tmp_path: Path) -> None:
    made = place(tmp_path / "dbs").work_id()
    (tmp_path / "dbs").rename(tmp_path / "elsewhere")
    assert place(tmp_path / "elsewhere").known_work_id() == made


def test_a_copied_state_folder_gets_an_id_of_its_own(tmp_path: Path) -> None:
    made = place(tmp_path / "dbs").work_id()
    shutil.copytree(tmp_path / "dbs", tmp_path / "copy")
    copy = place(tmp_path / "copy")
    assert copy.known_work_id() is None
    assert copy.work_id() != made
    assert copy.known_work_id() == copy.work_id()
    assert place(tmp_path / "dbs").known_work_id() == made


def test_a_state_folder_on_another_machine_gets_an_id_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two disks may give one inode number; two machines have two names."""
    made = place(tmp_path / "dbs").work_id()
    read_text = Path.read_text

    def elsewhere(path: Path, *args: str, **options: str) -> str:
        return "f" * 32 if path.name == "machine-id" else read_text(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", elsewhere)
    assert place(tmp_path / "dbs").known_work_id() is None
    assert place(tmp_path / "dbs").work_id() != made
