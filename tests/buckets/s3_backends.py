"""Stores that speak S3: MinIO, and MinIO behind proxies that make its conditional writes those of other stores."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.buckets.backends import Backend
from tests.support import minio
from tests.support.proxy import Conditions, Proxy, proxied


@cache
def _proxy(conditions: Conditions) -> Proxy:
    """Return the one proxy of its kind in this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(proxied(minio.server().host, minio.server().port, conditions))


def _make_minio(tmp: Path) -> Mapping[str, object]:
    return minio.server().config(minio.server().new_bucket(), "some/prefix")


def _make_501(tmp: Path) -> Mapping[str, object]:
    return minio.server().config(minio.server().new_bucket(), endpoint=_proxy("501").endpoint)


def _make_ignoring(tmp: Path) -> Mapping[str, object]:
    return minio.server().config(minio.server().new_bucket(), endpoint=_proxy("ignored").endpoint)


def _remove(config: Mapping[str, object]) -> None:
    minio.server().remove_bucket(str(config["url"]).removeprefix("s3://").partition("/")[0])


S3_BACKENDS = [
    Backend("minio", _make_minio, _remove, pace=2, large=150, grown=64),
    Backend("minio-501", _make_501, _remove, create_requests=5, pace=8, large=150, grown=64),
    Backend("minio-ignores-conditions", _make_ignoring, _remove, create_requests=5, pace=8, large=150, grown=64),
]
