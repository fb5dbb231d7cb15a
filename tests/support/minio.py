"""MinIO in a container, one for each pytest process: pulled on a user's machine, built by .ci/services on CI's."""

from __future__ import annotations

import atexit
import hashlib
import hmac
import http.client
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote

import pytest

IMAGE = "minio/minio:RELEASE.2025-09-07T16-13-09Z"  # .ci/services builds the same release
KEY_ID, KEY = "B2M_TEST_S3_KEY_ID", "B2M_TEST_S3_KEY"  # the variables that hold the root key
REGION = "us-east-1"
_LABEL = "b2m-tests"


@dataclass(frozen=True)
class Minio:
    """A running server; ``endpoint`` is an address of this machine."""

    host: str
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def new_bucket(self) -> str:
        name = f"b2m-{secrets.token_hex(6)}"
        self.request("PUT", f"/{name}", expect=200)
        return name

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it."""
        self.request("DELETE", f"/{name}", {"x-minio-force-delete": "true"}, expect=204)

    def config(self, bucket: str, prefix: str = "", endpoint: str | None = None) -> dict[str, object]:
        """Return the entry of inventory.yaml for a bucket here, or for the one behind another ``endpoint``."""
        url = f"s3://{bucket}/{prefix}".rstrip("/")
        return {
            "type": "s3",
            "url": url,
            "endpoint": endpoint or self.endpoint,
            "region": REGION,
            "path_style": True,
            "key_id": f"${KEY_ID}",
            "key": f"${KEY}",
        }

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, expect: int
    ) -> bytes:
        """Make a signed request that obstore does not offer, such as for a bucket itself."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            signed_headers = signed(method, f"{self.host}:{self.port}", path, dict(headers or {}), body)
            connection.request(method, quote(path), body, signed_headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status == expect, f"{method} {path}: {answer.status} {text.decode(errors='replace')}"
        return text


def server() -> Minio:
    """Return MinIO, started once in this process; skips the test where that cannot be."""
    found = _started()
    if isinstance(found, str):
        pytest.skip(f"MinIO needs Docker, and the image {IMAGE}: {found}")
    return found


@cache
def _started() -> Minio | str:
    """Start MinIO; return why it cannot be where Docker, or the image, is not to be had."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # one image less to pull; see _remove_left_over
    import docker  # type: ignore[import-untyped]
    from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]
    from testcontainers.core.container import DockerContainer

    try:
        client = docker.from_env()
        _remove_left_over(client)
        try:
            client.images.get(IMAGE)
        except ImageNotFound:
            client.images.pull(IMAGE)
    except DockerException as error:
        return " ".join(str(error).split())[:200]
    os.environ[KEY_ID], os.environ[KEY] = "b2m-tests", secrets.token_hex(16)
    container = (
        DockerContainer(IMAGE)
        .with_command("server /data")
        .with_env("MINIO_ROOT_USER", os.environ[KEY_ID])
        .with_env("MINIO_ROOT_PASSWORD", os.environ[KEY])
        .with_exposed_ports(9000)
        .with_tmpfs_mount("/data", "size=4g")
        .with_kwargs(labels={_LABEL: str(os.getpid())})
    )
    container.start()
    atexit.register(container.stop)
    found = Minio(container.get_container_host_ip().replace("localhost", "127.0.0.1"), container.get_exposed_port(9000))
    _wait_until_ready(found)
    return found


def _remove_left_over(client: Any) -> None:
    """Remove the containers of test processes that were killed."""
    for container in client.containers.list(all=True, filters={"label": _LABEL}):
        pid = container.labels[_LABEL]
        if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            container.remove(force=True)


def _wait_until_ready(found: Minio) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection(found.host, found.port, timeout=2)
            connection.request("GET", "/minio/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        assert time.monotonic() < deadline, "MinIO did not get ready within 60 s"
        time.sleep(0.1)


def signed(method: str, host: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    """Return headers with a signature (AWS Signature Version 4, without a query)."""
    now = datetime.now(UTC)
    day, digest = now.strftime("%Y%m%d"), hashlib.sha256(body).hexdigest()
    headers = {**headers, "host": host, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"), "x-amz-content-sha256": digest}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join([method, quote(path), "", lines, names, digest])
    scope = f"{day}/{REGION}/s3/aws4_request"
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(request.encode()).hexdigest()]
    )
    key: Any = ("AWS4" + os.environ[KEY]).encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 Credential={os.environ[KEY_ID]}/{scope}, SignedHeaders={names}, "
    return {**headers, "authorization": f"{authorization}Signature={signature}"}
