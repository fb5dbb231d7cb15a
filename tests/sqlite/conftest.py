from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from b2m.sqlite.connect import set_tick
from tests.sqlite.outsider import build

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Build tmp_path/<name>.db from SQL, starting from a copy of another file if one is given."""

    def made(name: str, *statements: str, copy: Path | None = None) -> Path:
        path = tmp_path / f"{name}.db"
        if copy:
            shutil.copyfile(copy, path)
        return build(path, *statements)

    return made


@pytest.fixture(autouse=True)
def _no_tick_left() -> Iterator[None]:
    yield
    set_tick(None)
