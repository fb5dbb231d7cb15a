"""A store that speaks S3, in a container, one for each pytest process.

It is MinIO, pulled where that can be. With B2M_TEST_S3=seaweedfs it is SeaweedFS, which .ci/services builds on CI's
machine, where no image can be pulled.
"""

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

KEY_ID, KEY = "B2M_TEST_S3_KEY_ID", "B2M_TEST_S3_KEY"  # the variables that hold the root key
REGION = "us-east-1"
_LABEL = "b2m-tests"


@dataclass(frozen=True)
class Product:
    """A server's image, and how it is run: it keeps everything in /data and takes one key, the root's."""

    name: str
    image: str
    command: str
    port: int
    ready: str  # what answers 200 when it serves
    key_id: str  # the variable that gives it the root key's id
    key: str
    force_delete: Mapping[str, str]  # the headers that let a bucket be removed with all that is in it
    pace: int  # how many times longer than in a folder it takes to decide who of several creates a name


PRODUCTS = {
    "minio": Product(
        name="MinIO",
        image="minio/minio:RELEASE.2025-09-07T16-13-09Z",
        command="server /data",
        port=9000,
        ready="/minio/health/ready",
        key_id="MINIO_ROOT_USER",
        key="MINIO_ROOT_PASSWORD",
        force_delete={"x-minio-force-delete": "true"},
        pace=2,
    ),
    "seaweedfs": Product(
        name="SeaweedFS",
        image="b2m-tests/seaweedfs:v0.0.0-20261109003541-7506e5f91cd6",  # .ci/services builds it
        command="mini -dir=/data -ip=127.0.0.1 -webdav=false -admin.ui=false -master.telemetry=false "
        "-s3.autoCreateBucket=false -s3.allowDeleteBucketNotEmpty -volume.max=10000",
        port=8333,
        ready="/healthz",
        key_id="AWS_ACCESS_KEY_ID",
        key="AWS_SECRET_ACCESS_KEY",
        force_delete={},
        pace=10,
    ),
}
PRODUCT = PRODUCTS[os.environ.get("B2M_TEST_S3", "minio")]


@dataclass(frozen=True)
class S3Server:
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
        self.request("DELETE", f"/{name}", PRODUCT.force_delete, expect=204)

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


def server() -> S3Server:
    """Return the server, started once in this process; skips the test where that cannot be."""
    found = _started()
    if isinstance(found, str):
        pytest.skip(f"{PRODUCT.name} needs Docker, and the image {PRODUCT.image}: {found}")
    return found


@cache
def _started() -> S3Server | str:
    """Start the server; return why it cannot be where Docker, or the image, is not to be had."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # one image less to pull; see _remove_left_over
    import docker  # type: ignore[import-untyped]
    from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]
    from testcontainers.core.container import DockerContainer

    try:
        client = docker.from_env()
        _remove_left_over(client)
        try:
            client.images.get(PRODUCT.image)
        except ImageNotFound:
            client.images.pull(PRODUCT.image)
    except DockerException as error:
        return " ".join(str(error).split())[:200]
    os.environ[KEY_ID], os.environ[KEY] = "b2m-tests", secrets.token_hex(16)
    container = (
        DockerContainer(PRODUCT.image)
        .with_command(PRODUCT.command)
        .with_env(PRODUCT.key_id, os.environ[KEY_ID])
        .with_env(PRODUCT.key, os.environ[KEY])
        .with_exposed_ports(PRODUCT.port)
        .with_tmpfs_mount("/data", "size=4g")
        .with_kwargs(labels={_LABEL: str(os.getpid())})
    )
    container.start()
    atexit.register(container.stop)
    address = container.get_container_host_ip().replace("localhost", "127.0.0.1")
    found = S3Server(address, container.get_exposed_port(PRODUCT.port))
    _wait_until_ready(found)
    return found


def _remove_left_over(client: Any) -> None:
    """Remove the containers of test processes that were killed."""
    for container in client.containers.list(all=True, filters={"label": _LABEL}):
        pid = container.labels[_LABEL]
        if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            container.remove(force=True)


def _wait_until_ready(found: S3Server) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection(found.host, found.port, timeout=2)
            connection.request("GET", PRODUCT.ready)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        assert time.monotonic() < deadline, f"{PRODUCT.name} did not get ready within 60 s"
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
