"""Worlds with a history, made once and copied for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.world import World

Copy = Callable[[str], World]


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """``team``: ipm and emoji are published as v1, ann and ben have them. ``behind``: and ann published ipm v2."""
    root = tmp_path_factory.mktemp("templates")
    team = World(root / "team")
    for db in ("ipm", "emoji"):
        assert team.sync("prod", db).code == 0
    team.member("ann", "ipm", "emoji")
    team.member("ben", "ipm", "emoji")
    behind = World.copy_of(team, root / "behind")
    behind.insert("ann", "from-ann")
    assert behind.sync("ann").code == 0
    assert behind.sync("ann").code == 0  # what the first run left over is gone now
    return {"team": team, "behind": behind}


@pytest.fixture
def copied(templates: dict[str, World], tmp_path: Path) -> Iterator[Copy]:
    """Return a function that gives a fresh copy of a template; its server is ended if it runs."""
    made: list[World] = []

    def copy(name: str) -> World:
        made.append(World.copy_of(templates[name], tmp_path / f"a {name}"))
        return made[-1]

    yield copy
    for world in made:
        world.server("stop", check=False)
