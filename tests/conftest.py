"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support import sshd
from tests.support.world import World


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failed one where everything that tests need is said to be there."""
    report = yield
    if report.skipped and os.environ.get("B2M_TEST_SERVICES") == "require":
        report.outcome = "failed"
        report.longrepr = f"B2M_TEST_SERVICES=require, but it was skipped: {_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, a line for each reason."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    for reason, number in reasons.items():
        terminalreporter.write_line(f"skipped {number}: {reason}")


def _reason(report: pytest.TestReport) -> str:
    text = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A project with a bucket and a production folder; its server is ended at the end if it runs."""
    made = World(tmp_path / "a project")
    yield made
    made.server("stop", check=False)


@pytest.fixture(scope="session")
def prod_host() -> Iterator[sshd.Prod]:
    """Another host: an sshd on this machine, and a user of its own. Skipped where that cannot be had."""
    if why := sshd.missing():
        pytest.skip(why)
    made = sshd.Prod()
    yield made
    made.close()


@pytest.fixture
def bootstrapped(prod_host: sshd.Prod) -> sshd.Prod:
    """The same host with the tests' own b2m as its agent, whatever the test before has installed or removed there."""
    prod_host.bootstrap_with_tests_own()
    return prod_host
