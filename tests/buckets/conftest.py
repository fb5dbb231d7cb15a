from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from b2m.buckets import Bucket, open_bucket
from tests.buckets.b2_backends import B2_BACKENDS
from tests.buckets.backends import BACKENDS, Backend
from tests.buckets.s3_backends import S3_BACKENDS

Config = Mapping[str, object]


@pytest.fixture(params=[*BACKENDS, *S3_BACKENDS, *B2_BACKENDS], ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    found = request.param
    assert isinstance(found, Backend)
    return found


@pytest.fixture
def config(backend: Backend, tmp_path: Path) -> Config:
    """What opens a bucket that was set up."""
    made = backend.make(tmp_path)
    backend.set_up(made)
    return made


@pytest.fixture
def bucket(config: Config) -> Bucket:
    return open_bucket(config)
