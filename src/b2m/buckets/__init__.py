"""Buckets: where versions live. A backend's library is imported only when a bucket of its type is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from b2m import secrets
from b2m.buckets.protocol import Bucket, Capabilities, Counters, Create
from b2m.errors import InvalidProject

__all__ = ["Bucket", "Capabilities", "Counters", "create_elsewhere", "open_bucket", "open_marked"]


_relay: Callable[[str], Create] | None = None


def create_elsewhere(relay: Callable[[str], Create]) -> None:
    """Let another process make the creates of stores in this one's place; ``relay`` is asked by the bucket's name."""
    global _relay
    _relay = relay


def open_bucket(config: Mapping[str, Any]) -> Bucket:
    """Return the bucket that a project's entry describes, without touching it yet.

    A folder: ``{"type": "folder", "path": "/srv/bucket"}``; the path is absolute. Stores have the keys of their entry
    in inventory.yaml. InvalidProject for a wrong entry, SecretMissing.
    """
    if _relay is None or config.get("type") == "folder":
        return _open(config)
    from b2m.buckets.relay import RelayedBucket

    # What may change locks stays with whoever makes the creates.
    near = _open({key: value for key, value in config.items() if key != "locks"})
    return RelayedBucket(near, _relay(near.name))


def open_marked(config: Mapping[str, Any]) -> Bucket:
    """Return the bucket as ``open_bucket`` does, once it has shown its marker; what ``read_marker`` raises."""
    from b2m.buckets.marker import read_marker

    bucket = open_bucket(config)
    read_marker(bucket)
    return bucket


def _open(config: Mapping[str, Any]) -> Bucket:
    kind = config.get("type")
    if kind == "s3":
        from b2m.buckets.s3 import S3Bucket

        return S3Bucket(**_options(config))
    if kind == "b2":
        from b2m.buckets.b2 import open_b2

        return open_b2(**_options(config))
    if kind != "folder":
        raise InvalidProject([f"buckets: type {kind!r} is not known; known: folder, s3, b2"])
    if unknown := sorted(set(config) - {"type", "path"}):
        raise InvalidProject([f"buckets: a folder bucket has no key {unknown[0]!r}"])
    path = config.get("path")
    if not isinstance(path, str | Path) or not Path(path).is_absolute():
        raise InvalidProject([f"buckets: the path of a folder bucket must be absolute, not {path!r}"])
    from b2m.buckets.folder import FolderBucket

    return FolderBucket(Path(path))


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in secrets.resolved(config).items() if key != "type"}
