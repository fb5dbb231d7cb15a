from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets import Bucket, open_bucket
from b2m.versions.commit import Commit

MakeCommit = Callable[..., Commit]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bucket").mkdir()
    return {"type": "folder", "path": str(tmp_path / "bucket")}


@pytest.fixture
def bucket(config: dict[str, str]) -> Bucket:
    return open_bucket(config)


def make_commit(after: Commit | None = None, /, **fields: Any) -> Commit:
    """Return a commit that follows ``after``, or is the first."""
    given: dict[str, Any] = {
        "db": "ipm",
        "number": after.number + 1 if after else 1,
        "parent": after.number if after else None,
        "parent_token": after.token if after else None,
        "epoch": 3,
        "blake3": "ab" * 32,
        "size": 8192,
        "page_size": 4096,
        "page_count": 2,
        "rows": {"ipm_data": {"inserted": 34, "updated": 2}},
        "schema_hash": "cd" * 32,
        "author": "ann",
        "host": "ops.example.org",
        "time": "2026-09-21T18:00:04Z",
        "sqlite": "3.50.4",
        "run": "20260921T180004Z-9f3a",
        "b2m": "0.1.0",
    }
    return Commit(**{**given, **fields})
