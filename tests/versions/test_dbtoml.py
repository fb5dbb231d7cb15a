"""db.toml belongs to people and servers too: b2m changes one entry of it and not another byte."""

from __future__ import annotations

import os
import stat
import tomllib
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2m.errors import InvalidProject, TaskFailed
from b2m.versions import dbtoml
from tests.support.processes import alone, together
from tests.support.settings import trials


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.toml"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[db]\nipmdb = "v6.db"\n'),
        ("[db]\n", '[db]\nipmdb = "v6.db"\n'),
        ("[db]", '[db]\nipmdb = "v6.db"\n'),
        ('[db]\nipmdb = "v5.db"\n', '[db]\nipmdb = "v6.db"\n'),
        ('[db]\nipmdb = "v5.db"', '[db]\nipmdb = "v6.db"'),
        ('[db]\r\nipmdb = "v5.db"\r\n', '[db]\r\nipmdb = "v6.db"\r\n'),
        ('[db]\r\npath = "x"\r\n', '[db]\r\npath = "x"\r\nipmdb = "v6.db"\r\n'),
        ("[db]\n  ipmdb='v5.db'   # live\n", "[db]\n  ipmdb='v6.db'   # live\n"),
        (
            '# top\n\n[ db ] # ours\n"ipmdb" = "v5.db" # "quoted"\n',
            '# top\n\n[ db ] # ours\n"ipmdb" = "v6.db" # "quoted"\n',
        ),
        ('[db]\nxipmdb = "a"\nipmdb2 = "b"\n', '[db]\nxipmdb = "a"\nipmdb2 = "b"\nipmdb = "v6.db"\n'),
        ('[db]\n#ipmdb = "v1.db"\nipmdb = "v5.db"\n', '[db]\n#ipmdb = "v1.db"\nipmdb = "v6.db"\n'),
        (
            '[db]\nemojidb = "e.db"\n\n# the server\n[server]\nipmdb = "v5.db"\n',
            '[db]\nemojidb = "e.db"\nipmdb = "v6.db"\n\n# the server\n[server]\nipmdb = "v5.db"\n',
        ),
        ("port = 80", 'port = 80\n\n[db]\nipmdb = "v6.db"\n'),
        ("[server]\nport = 80\n", '[server]\nport = 80\n\n[db]\nipmdb = "v6.db"\n'),
        ('[db]\npath = "a\u2028ipmdb = "\n', '[db]\npath = "a\u2028ipmdb = "\nipmdb = "v6.db"\n'),
    ],
)
def test_one_entry_changes_and_every_other_byte_stays(path: Path, before: str, after: str) -> None:
    path.write_bytes(before.encode())
    dbtoml.set_entry(path, "ipmdb", "v6.db")
    assert path.read_bytes().decode() == after
    assert dbtoml.read(path)["ipmdb"] == "v6.db"


def test_a_file_that_is_not_there_is_made(path: Path) -> None:
    assert dbtoml.read(path) == {}
    dbtoml.set_entry(path, "ipmdb", "ipm-db-v1.db")
    assert path.read_text() == '[db]\nipmdb = "ipm-db-v1.db"\n'


def test_an_entry_that_is_right_already_is_not_written(path: Path) -> None:
    path.write_text('[db]\nipmdb = "v6.db"\n')
    before = path.stat()
    dbtoml.set_entry(path, "ipmdb", "v6.db")
    assert path.stat() == before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[db]\nipmdb = v5.db\n", "{path}:2:9: Invalid value"),
        (b"[db\n", "{path}:1:4: Expected ']' at the end of a table declaration"),
        (b"[db]\nipmdb = ", "{path}:2:1: Invalid value"),
        (b'[db]\nipmdb = "a"\nipmdb = "b"\n', "{path}:3:12: Cannot overwrite a value"),
        (b'[db]\npath = "x"\nipmdb = 5\n', "{path}:3: ipmdb must be a string, the name of a file"),
        (b"db = 5\n", "{path}: db must be a table, [db]"),
        (b'[db]\nipmdb = "\xff"\n', "{path}: is not UTF-8 (byte 14)"),
    ],
)
def test_what_cannot_be_read_is_named_by_line_and_stays_as_it_is(path: Path, content: bytes, problem: str) -> None:
    path.write_bytes(content)
    for attempt in (lambda: dbtoml.read(path), lambda: dbtoml.set_entry(path, "emojidb", "e.db")):
        with pytest.raises(InvalidProject) as caught:
            attempt()
        assert caught.value.problems == [problem.format(path=path)]
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ['db = {ipmdb = "v5.db"}\n', 'db.ipmdb = "v5.db"\n', '[db]\nipmdb = """v5.db"""\n'])
def test_a_form_that_cannot_be_edited_by_lines_is_refused_and_stays(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(InvalidProject, match=r"write its entries as lines under \[db\], so that b2m can set ipmdb"):
        dbtoml.set_entry(path, "ipmdb", "v6.db")
    assert path.read_text() == content


@settings(max_examples=trials(ci=200, full=5000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        max_size=4,
    )
)
def test_whatever_is_rendered_reads_back(entries: dict[str, str]) -> None:
    assert tomllib.loads(dbtoml.render(entries))["db"] == entries


@settings(max_examples=trials(ci=100, full=3000), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    quote=st.sampled_from("\"'"),
    comment=st.sampled_from(["", ' # it\'s "live" = now']),
)
def test_any_name_can_be_set_and_its_neighbours_stay(path: Path, name: str, quote: str, comment: str) -> None:
    path.write_text(f"[db]\na = 'x'\nipmdb = {quote}old{quote}{comment}\nz = \"y\"\n")
    dbtoml.set_entry(path, "ipmdb", name)
    assert dbtoml.read(path) == {"a": "x", "ipmdb": name, "z": "y"}
    assert comment in path.read_text()


def test_rendering_is_the_same_for_the_same_entries() -> None:
    assert dbtoml.render({"ipmdb": "i.db", "emojidb": "e.db"}) == '[db]\nemojidb = "e.db"\nipmdb = "i.db"\n'


def test_mode_and_owner_stay(path: Path) -> None:
    path.write_text("[db]\n")
    path.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(path, 1234, 5678)
    before = path.stat()
    dbtoml.set_entry(path, "ipmdb", "v6.db")
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o664


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    real = tmp_path / "etc" / "real.toml"
    real.write_text("[db]\n")
    path.symlink_to("etc/real.toml")
    dbtoml.set_entry(path, "ipmdb", "v6.db")
    assert path.is_symlink()
    assert dbtoml.read(real) == {"ipmdb": "v6.db"}


def _set_many(index: int, barrier: Barrier, path: Path, times: int) -> None:
    barrier.wait(60)
    for number in range(times):
        dbtoml.set_entry(path, f"db{index}", f"v{number}.db")
        assert len(dbtoml.read(path)) >= 1


def test_eight_processes_never_lose_each_other_s_entry(path: Path) -> None:
    path.write_text("# kept\n[db]\n")
    times = trials(ci=25, full=200)
    together(_set_many, 8, path, times)
    assert dbtoml.read(path) == {f"db{index}": f"v{times - 1}.db" for index in range(8)}
    assert path.read_text().startswith("# kept\n[db]\n")
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".b2m", "db.toml"]


def _set_while_locked(path: Path) -> str:
    dbtoml._PATIENCE = 0.2
    try:
        dbtoml.set_entry(path, "ipmdb", "v6.db")
    except TaskFailed as error:
        return str(error)
    return "no error"


def test_a_lock_that_is_never_given_back_does_not_hang(path: Path) -> None:
    with dbtoml._locked(path.parent):
        answer = alone(_set_while_locked, path)
    assert answer == f"{path}: another run of b2m keeps it locked; end that one, then run again"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "db.toml"
    with pytest.raises(TaskFailed, match=r"cannot write .*db\.toml: No such file or directory"):
        dbtoml.set_entry(path, "ipmdb", "v6.db")
