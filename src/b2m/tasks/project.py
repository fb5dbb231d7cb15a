"""Tasks about the project itself: its tests and its demo."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from b2m import errors
from b2m.tasks.frame import FLAGS, help_of, reported, the_project


@task(**FLAGS, help={"full": "every test at its full count", "only": "a file or a name of tests, as pytest's -k"})
def test(c: Context, full: bool = False, only: str = "") -> None:
    """Run b2m's own tests."""
    with reported(c):
        root = Path(__file__).resolve().parents[3]
        if not (root / "tests").is_dir():
            raise errors.UsageError(what="the tests are in b2m's source folder; this is an installed package")
        try:
            import pytest
        except ImportError:
            raise errors.UsageError(what="pytest is missing: run ./b2m test, which installs it") from None
        if full:
            os.environ["B2M_TEST_FULL"] = "1"
        os.chdir(root)
        sys.stdout.flush()
        code = pytest.main(["-p", "no:cacheprovider", *(["-k", only] if only else [])])
        if code:
            raise Exit(None, 1)


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
