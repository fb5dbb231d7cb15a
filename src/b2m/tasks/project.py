"""Tasks about the project itself: its tests and its demo."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from b2m import errors
from b2m.tasks.frame import FLAGS, help_of, reported, the_project

NO_TESTS = 5  # pytest's exit code when it found none


@task(
    **FLAGS,
    help={"full": "every test at its full count", "only": "a file or folder of tests, or their names as pytest's -k"},
)
def test(c: Context, full: bool = False, only: str = "") -> None:
    """Run b2m's own tests."""
    with reported(c):
        root = Path(__file__).resolve().parents[3]
        if not (root / "tests").is_dir():
            raise errors.UsageError(what="the tests are in b2m's source folder; this is an installed package")
        if importlib.util.find_spec("xdist") is None:
            raise errors.UsageError(what="pytest is missing: run ./b2m test, which installs it")
        environment = {**os.environ, **({"B2M_TEST_FULL": "1"} if full else {})}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *_selection(root / "tests", only)]
        # Many tests wait for a limit of time: one more than there are cores keeps these busy. What measures time runs
        # alone, after the rest: beside others it would measure them.
        passes = (["-n", str((os.cpu_count() or 1) + 1), "-m", "not alone"], ["-m", "alone"])
        codes = [subprocess.call([*command, *more], cwd=root, env=environment) for more in passes]
        if any(code not in (0, NO_TESTS) for code in codes) or codes == [NO_TESTS, NO_TESTS]:
            raise Exit(None, 1)


def _selection(tests: Path, only: str) -> list[str]:
    """Return what tells pytest which tests are wanted: a path among them, or what their names hold; all if empty."""
    path = Path(only).resolve()
    if only and path.exists() and path.is_relative_to(tests):
        return [str(path)]
    return ["-k", only] if only else []


@task(**FLAGS, help=help_of("project", reset="stop the demo's server and remove all it made"))
def demo(c: Context, reset: bool = False, project: str = "") -> None:
    """Play the scenarios of a working day on the demo host, and say what happened."""
    with reported(c):
        from b2m.demo import host, play

        found = the_project(project or None)
        if reset:
            host.reset(found)
        else:
            play.scenarios(found)


TASKS = (test, demo)
