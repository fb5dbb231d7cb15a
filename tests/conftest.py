"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A project with a bucket and a production folder; its server is ended at the end if it runs."""
    made = World(tmp_path / "a project")
    yield made
    made.server("stop", check=False)
