from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from b2m.buckets import Bucket, open_bucket
from tests.buckets.backends import BACKENDS, Backend

Config = Mapping[str, object]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    found = request.param
    assert isinstance(found, Backend)
    return found


@pytest.fixture
def config(backend: Backend, tmp_path: Path) -> Config:
    return backend.make(tmp_path)


@pytest.fixture
def bucket(config: Config) -> Bucket:
    return open_bucket(config)
