"""The launcher ``b2m`` in a scratch checkout: when it sets up ``.venv``, who waits for whom, and with which tools."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[1] / "b2m"
TOOLS = ("sh", "cat", "cp", "dirname", "ln", "mkdir", "mv", "readlink", "rm", "rmdir", "sleep")

# What pip needs to install the scratch checkout without the network and without setuptools.
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "b2m"
version = "0"
"""
BACKEND = """\
from pathlib import Path
from zipfile import ZipFile

def build_editable(folder, config_settings=None, metadata_directory=None):
    info = "b2m-0.dist-info"
    with ZipFile(Path(folder) / "b2m-0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("b2m.pth", str(Path("src").resolve()))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: b2m\\nVersion: 0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "b2m-0-py3-none-any.whl"
"""
MAIN = """\
import sys, time
print("b2m runs", flush=True)
if sys.argv[1:] == ["serve"]:
    time.sleep(60)
"""

# Stands for uv: its .venv has no pip either, and it fails when two of it are at work at once.
UV = """\
#!/bin/sh
set -eu
mkdir "$SCRATCH/uv at work" || { echo 'two uv at once' >&2; exit 1; }
trap 'rmdir "$SCRATCH/uv at work"' EXIT
echo "$1" >>"$SCRATCH/uv.log"
case $1 in
    venv) for venv; do :; done; "$B2M_PYTHON" -m venv --without-pip "$venv" ;;
    *)
        while [ -e "$SCRATCH/hold" ]; do sleep 0.1; done
        for site in "$SCRATCH/a checkout/.venv/lib"/python*/site-packages; do
            echo "$SCRATCH/a checkout/src" >"$site/b2m.pth"
        done ;;
esac
"""
# Lets a race that takes a moment take a second.
SLOW_RM = """\
#!/bin/sh
sleep 1
exec {rm} "$@"
"""


class Checkout:
    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.root = scratch / "a checkout"
        self.bin = scratch / "bin"
        self.running: list[subprocess.Popen[str]] = []
        (self.root / "src" / "b2m").mkdir(parents=True)
        (self.root / "src" / "b2m" / "__main__.py").write_text(MAIN)
        (self.root / "requirements.lock").write_text("# nothing\n")
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        (self.root / "backend.py").write_text(BACKEND)
        shutil.copy2(LAUNCHER, self.root / "b2m")
        self.bin.mkdir()
        for tool in (*TOOLS, "cmp"):
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        self.tool("uv", UV)

    def tool(self, name: str, script: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def start(self, *words: str, before: str = ":") -> subprocess.Popen[str]:
        """Start the launcher with ``words``, in a process that first does ``before`` as a shell."""
        env = {"PATH": str(self.bin), "HOME": str(self.scratch), "SCRATCH": str(self.scratch)}
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'{before}; exec ./b2m "$@"', "sh", *words],
            cwd=self.root,
            env=env | {"B2M_PYTHON": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def run(self, before: str = ":") -> str:
        return self.ended(self.start(before=before))

    def ended(self, process: subprocess.Popen[str]) -> str:
        """Return what ``process`` said on stderr; it must have run b2m."""
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "b2m runs\n"), err
        return err

    def installs(self) -> list[str]:
        log = self.scratch / "uv.log"
        return log.read_text().split() if log.exists() else []

    def leave_lock(self, pid: int) -> None:
        (self.root / ".venv.lock").mkdir()
        (self.root / ".venv.lock" / "pid").write_text(f"{pid}\n")

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path)
    yield made
    made.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_sets_up_once(checkout: Checkout) -> None:
    assert "setting up" in checkout.run()
    assert checkout.run() == ""
    (checkout.root / "requirements.lock").write_text("# still nothing\n")
    assert "setting up" in checkout.run()
    assert checkout.installs() == ["venv", "pip", "pip", "pip", "pip"]


def test_a_lock_with_the_pid_of_a_process_that_is_not_b2m_is_free(checkout: Checkout) -> None:
    checkout.leave_lock(os.getpid())
    assert "waiting" not in checkout.run()


def test_a_lock_with_its_own_pid_is_free(checkout: Checkout) -> None:
    assert "waiting" not in checkout.run(before="mkdir .venv.lock && echo $$ >.venv.lock/pid")


def test_two_that_find_a_lock_of_a_dead_process_set_up_once(checkout: Checkout) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    checkout.leave_lock(dead.pid)
    checkout.tool("rm", SLOW_RM.format(rm=shutil.which("rm")))
    (checkout.scratch / "hold").touch()
    first = checkout.start()
    time.sleep(0.5)  # if it removes what it found, it does so when the second one has made a lock of its own
    (checkout.bin / "rm").unlink()
    (checkout.bin / "rm").symlink_to(shutil.which("rm") or "")
    second = checkout.start()
    time.sleep(1)
    (checkout.scratch / "hold").unlink()
    said = [checkout.ended(first), checkout.ended(second)]
    assert "".join(said).count("setting up") == 1
    assert checkout.installs() == ["venv", "pip", "pip"]


def test_who_waits_says_for_whom(checkout: Checkout) -> None:
    (checkout.scratch / "hold").touch()
    first = checkout.start()
    wait_until(lambda: "pip" in checkout.installs())
    second = checkout.start()
    assert second.stderr is not None
    select.select([second.stderr], [], [], 5)
    (checkout.scratch / "hold").unlink()
    assert "setting up" in checkout.ended(first)
    assert checkout.ended(second) == f"b2m: waiting for process {first.pid}, which sets up {checkout.root}/.venv\n"
    assert checkout.installs() == ["venv", "pip", "pip"]


def test_a_killed_set_up_is_begun_anew(checkout: Checkout) -> None:
    (checkout.scratch / "hold").touch()
    first = checkout.start()
    wait_until(lambda: "pip" in checkout.installs())
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (checkout.scratch / "hold").unlink()
    (checkout.scratch / "uv at work").rmdir()
    assert "waiting" not in checkout.run()


def test_a_b2m_that_runs_does_not_keep_the_lock(checkout: Checkout) -> None:
    serving = checkout.start("serve")
    assert serving.stdout is not None
    assert serving.stdout.readline() == "b2m runs\n"
    (checkout.root / "requirements.lock").write_text("# still nothing\n")
    assert "waiting" not in checkout.run()
    assert serving.poll() is None


def test_a_venv_of_uv_is_updated_without_uv(checkout: Checkout) -> None:
    checkout.run()
    (checkout.bin / "uv").unlink()
    (checkout.root / "requirements.lock").write_text("# still nothing\n")
    assert "setting up" in checkout.run()
    assert checkout.run() == ""


def test_without_cmp_it_sets_up_once_too(checkout: Checkout) -> None:
    (checkout.bin / "cmp").unlink()
    assert "setting up" in checkout.run()
    assert checkout.run() == ""


@pytest.mark.parametrize("missing", ["requirements.lock", "b2m-root"])
def test_without_the_note_of_what_is_installed_it_sets_up_again(checkout: Checkout, missing: str) -> None:
    checkout.run()
    (checkout.root / ".venv" / missing).unlink()
    assert "setting up" in checkout.run()
