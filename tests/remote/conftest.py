"""A world over SSH, with rows on the server and a newer version in the bucket: the case in which everything is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.far import FarWorld
from tests.support.sshd import Prod


@pytest.fixture
def far(bootstrapped: Prod, tmp_path: Path) -> Iterator[FarWorld]:
    """Its bucket is a folder that both machines have."""
    bucket = bootstrapped.folder / f"bucket of {tmp_path.name}"
    made = FarWorld(tmp_path / f"ops {tmp_path.name}", bootstrapped, {"type": "folder", "path": str(bucket)})
    yield made
    made.server("stop", check=False)


@pytest.fixture
def behind(far: FarWorld) -> FarWorld:
    """v1 is published from the host, v2 by ann; the server is to be started by the test."""
    assert far.sync().code == 0
    far.member("ann")
    far.insert("ann", "from-ann")
    assert far.sync("ann").code == 0
    return far
