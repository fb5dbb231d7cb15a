"""The demo's databases: made once, complete or not at all, always the same, with values that break careless code."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import apsw
import pytest

from b2m.demo import create_demo
from b2m.demo.entries import slug_hash
from tests.support.settings import trials

BUILD = [
    sys.executable,
    "-c",
    "import sys, pathlib; from b2m.demo import create_demo; create_demo(pathlib.Path(sys.argv[1]))",
]


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    conn = apsw.Connection(str(path))
    try:
        return list(conn.execute(sql))
    finally:
        conn.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_demo(tmp_path_factory.mktemp("demo"))


@pytest.mark.parametrize("name", ["ipm-db-v1.db", "emoji-db-v1.db"])
def test_a_database_is_whole_in_wal_mode_and_has_no_sidecar(folder: Path, name: str) -> None:
    assert query(folder / name, "PRAGMA integrity_check") == [("ok",)]
    assert query(folder / name, "PRAGMA foreign_key_check") == []
    assert query(folder / name, "PRAGMA journal_mode") == [("wal",)]
    assert sorted(path.name for path in folder.iterdir()) == ["db.toml", "emoji-db-v1.db", "ipm-db-v1.db"]
    assert tomllib.loads((folder / "db.toml").read_text()) == {
        "db": {"ipmdb": "ipm-db-v1.db", "emojidb": "emoji-db-v1.db"}
    }


def test_it_has_real_text_and_awkward_values(folder: Path) -> None:
    ipm = folder / "ipm-db-v1.db"
    assert query(ipm, "SELECT count(*) > 100, min(slug_hash) < 0, max(slug_hash) > 0 FROM ipm_data") == [(1, 1, 1)]
    texts = {text for (text,) in query(ipm, "SELECT summary FROM ipm_data WHERE slug LIKE 'awkward-%'")}
    for character in "'?\"\n\r\\\x00\u2028👩%{":
        assert any(character in text for text in texts), character
    assert "" in texts
    assert query(ipm, "SELECT count(*) > 0 FROM ipm_data WHERE license IS NULL AND version IS NULL") == [(1,)]
    [(key, readme)] = query(ipm, "SELECT slug_hash, readme FROM ipm_data WHERE slug = 'pip-pytest'")
    assert key == slug_hash("pip-pytest")
    assert len(readme) > 500
    assert query(folder / "emoji-db-v1.db", "SELECT char, name FROM emoji WHERE code = '1F600'") == [
        ("😀", "GRINNING FACE")
    ]


def test_the_key_is_the_first_8_bytes_of_sha256_as_a_signed_number() -> None:
    # The test vectors of FIPS 180-2: the empty text, and abc.
    assert slug_hash("") == int.from_bytes(bytes.fromhex("e3b0c44298fc1c14"), "big") - (1 << 64)
    assert slug_hash("abc") == int.from_bytes(bytes.fromhex("ba7816bf8f01cfea"), "big") - (1 << 64)


@pytest.mark.alone
def test_two_builds_are_the_same_bytes_and_quick(tmp_path: Path) -> None:
    began = time.perf_counter()
    one = create_demo(tmp_path / "one")
    assert time.perf_counter() - began < 1
    two = create_demo(tmp_path / "two")
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_an_existing_demo_is_left_as_it_is(tmp_path: Path) -> None:
    folder = create_demo(tmp_path)
    (folder / "ipm-db-v1.db").unlink()
    create_demo(tmp_path)
    assert not (folder / "ipm-db-v1.db").exists()


def test_two_first_uses_at_once_both_find_one_demo(tmp_path: Path) -> None:
    builders = [subprocess.Popen([*BUILD, str(tmp_path)]) for _ in range(4)]
    assert [builder.wait(timeout=60) for builder in builders] == [0, 0, 0, 0]
    assert [path.name for path in (tmp_path / "prod").iterdir()] == ["dbs"]
    assert query(tmp_path / "prod" / "dbs" / "ipm-db-v1.db", "PRAGMA integrity_check") == [("ok",)]


def test_an_interrupted_first_use_leaves_all_or_nothing(tmp_path: Path) -> None:
    random_ = random.Random(5)
    for trial in range(trials(ci=8, full=100)):
        root = tmp_path / str(trial)
        builder = subprocess.Popen([*BUILD, str(root)])
        time.sleep(0.05 + random_.random() * 0.4)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        folder = root / "prod" / "dbs"
        if folder.exists():
            assert len(list(folder.iterdir())) == 3
        create_demo(root)
        assert query(folder / "ipm-db-v1.db", "PRAGMA integrity_check") == [("ok",)]
