"""Stores that speak S3: a server in a container, and it behind proxies that make its conditional writes others'."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from b2m.buckets import marker, open_bucket
from tests.buckets.backends import Backend
from tests.support import s3_server
from tests.support.proxy import Conditions, Proxy, proxied


@cache
def _proxy(conditions: Conditions) -> Proxy:
    """Return the one proxy of its kind in this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(proxied(s3_server.server().host, s3_server.server().port, conditions))


def _make_s3(tmp: Path) -> Mapping[str, object]:
    return s3_server.server().config(s3_server.server().new_bucket(), "some/prefix")


def set_up(config: Mapping[str, object]) -> None:
    """Leave a bucket as ``bucket.init`` does where creates are conditional, without its probe.

    The probe lets creates race, each of which may wait for a second in SeaweedFS.
    """
    open_bucket(config).put(marker.NAME, b'{"format": 1, "id": "%s", "created": "2026-01-01"}' % (b"0" * 32))


def _make_501(tmp: Path) -> Mapping[str, object]:
    return s3_server.server().config(s3_server.server().new_bucket(), endpoint=_proxy("501").endpoint)


def _make_ignoring(tmp: Path) -> Mapping[str, object]:
    return s3_server.server().config(s3_server.server().new_bucket(), endpoint=_proxy("ignored").endpoint)


def _remove(config: Mapping[str, object]) -> None:
    s3_server.server().remove_bucket(str(config["url"]).removeprefix("s3://").partition("/")[0])


S3_BACKENDS = [
    Backend("s3", _make_s3, _remove, set_up, pace=s3_server.PRODUCT.pace, large=150, grown=64),
    Backend("s3-501", _make_501, _remove, create_requests=5, pace=8, large=150, grown=64),
    Backend("s3-ignores-conditions", _make_ignoring, _remove, create_requests=5, pace=8, large=150, grown=64),
]
