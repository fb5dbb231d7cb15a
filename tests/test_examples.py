"""The examples do what their pages say: the commands of the podcast's README are typed, in their order."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2m.modules import MODULES
from b2m.project.checks import check_project

PODCAST = Path(__file__).resolve().parents[1] / "examples" / "podcast"
PORT = "8477"


@pytest.fixture
def podcast(tmp_path: Path) -> Iterator[Path]:
    """A copy of the example whose server has a port of its own; all of it is removed as the README says."""
    root = tmp_path / "podcast"
    shutil.copytree(PODCAST, root, ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for path in root.rglob("*"):
        if path.is_file() and PORT in (text := path.read_text("utf-8")):
            path.write_text(text.replace(PORT, port), "utf-8")
    program = tmp_path / "bin" / "b2m"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m b2m "$@"\n')
    program.chmod(0o755)
    yield root
    (removal,) = re.findall(
        r"^Remove all that was made: `(.+)`$", (root / "README.md").read_text("utf-8"), re.MULTILINE
    )
    typed(root, removal)
    left = {path.name for path in root.iterdir()} - {"__pycache__"}
    assert left == {path.name for path in PODCAST.iterdir()} - {"__pycache__"}


def typed(root: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Type a command line into a shell, in the example's folder."""
    path = f"{root.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd=root, env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_commands_of_the_podcasts_page(podcast: Path) -> None:
    text = (podcast / "README.md").read_text("utf-8")
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    assert len(lines) > 12
    for line in lines:
        code = re.search(r"# exit code (\d+)", line)
        done = typed(podcast, line)
        assert done.returncode == (int(code[1]) if code else 0), (line, done)
    with sqlite3.connect(podcast / "site" / "dbs" / "podcast-db-v5.db") as db:
        assert db.execute("SELECT title FROM episodes WHERE id = 2").fetchone() == ("All the bees",)
        assert db.execute("SELECT body, stars FROM reviews WHERE id = 2").fetchone() == ("buzz", 5)
    assert (podcast / "site" / "purged").read_text() == "v5\n"


def test_the_page_is_short_and_the_project_passes_its_check() -> None:
    assert len((PODCAST / "README.md").read_text("utf-8").splitlines()) <= 40
    report = check_project(PODCAST, MODULES)
    assert (report.errors, report.warnings) == ((), ())
