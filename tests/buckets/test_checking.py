"""bucket.check: what is tried, what is said, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets import checking, open_bucket
from b2m.buckets.marker import init_bucket
from tests.support import s3_server
from tests.support.proxy import Fault, Proxy, Request, proxied

NAMES = ["set up", "write", "read", "clock", "delete", "publish"]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxied(s3_server.server().host, s3_server.server().port) as found:
        yield found


@pytest.fixture
def config(proxy: Proxy) -> dict[str, Any]:
    return s3_server.server().config(s3_server.server().new_bucket(), "team", endpoint=proxy.endpoint)


def project(folder: Path, **buckets: Mapping[str, Any]) -> Path:
    """Write a project with these buckets and return its folder."""
    text = json.dumps({"buckets": buckets, "databases": {}, "groups": {}}, indent=1)
    (folder / "inventory.yaml").write_text(text)
    (folder / "playbooks").mkdir()
    return folder


def check(root: Path, *flags: str, **env: str) -> tuple[int, list[dict[str, Any]], str]:
    command = [sys.executable, "-m", "b2m", "bucket.check", "--project", str(root), "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **env})
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def levels(found: Mapping[str, Any]) -> dict[str, str]:
    return {point["name"]: point["level"] for point in found["points"]}


def bad(found: Mapping[str, Any]) -> dict[str, str]:
    return {point["name"]: point["text"] for point in found["points"] if point["level"] == "bad"}


def test_a_bucket_that_is_complete_is_ready(tmp_path: Path, config: dict[str, Any]) -> None:
    init_bucket(open_bucket(config))
    code, (found,), err = check(project(tmp_path, main=config))
    assert code == 0, err
    assert found["ready"]
    assert found["type"] == "bucket"
    assert (found["bucket"], found["url"]) == ("main", config["url"])
    assert found["publishing"] == "conditional writes"
    assert levels(found) == dict.fromkeys(["list", *NAMES], "ok")
    assert open_bucket(config).list("") == ["b2m.json"]


def test_people_get_a_line_for_each_thing_that_was_tried(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    init_bucket(open_bucket({"type": "folder", "path": str(tmp_path / "bucket")}))
    root = project(tmp_path, main={"type": "folder", "path": "bucket"})
    command = [sys.executable, "-m", "b2m", "bucket.check", "--project", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"main  {tmp_path}/bucket  ready"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["ok", "list"],
        ["ok", "set"],
        ["ok", "write"],
        ["ok", "read"],
        ["ok", "delete"],
        ["ok", "publish"],
    ]
    assert lines[-1] == "  ok    publish   creates by hard link"


def test_a_bucket_that_was_not_set_up_is_told_how(tmp_path: Path, config: dict[str, Any]) -> None:
    code, (found,), _ = check(project(tmp_path, main=config))
    assert code == 9
    assert bad(found) == {"set up": "it has no b2m.json; set it up with: b2m bucket.init --bucket main"}


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ("501", "the store answers 501 to conditional writes"),
        ("ignored", "the store ignores conditions on writes"),
        ("racy", "the store lets several creates at the same moment succeed"),
    ],
)
def test_a_store_without_conditional_writes_is_ready_by_flags(
    tmp_path: Path, proxy: Proxy, config: dict[str, Any], conditions: Any, why: str
) -> None:
    proxy.conditions = conditions
    init_bucket(open_bucket(config))
    code, (found,), _ = check(project(tmp_path, main=config))
    assert code == 0
    assert found["publishing"] == f"creates by flags, since {why}"
    assert levels(found)["publish"] == "ok"


@pytest.mark.parametrize(("method", "names"), [("PUT", {"write", "publish"}), ("DELETE", {"delete", "publish"})])
def test_a_right_that_the_key_lacks_is_named(
    tmp_path: Path, proxy: Proxy, config: dict[str, Any], method: str, names: set[str]
) -> None:
    def forbidden(request: Request) -> bool:
        return request.method == method

    init_bucket(open_bucket(config))
    proxy.faults = [Fault(403, times=99, code="AccessDenied", to=forbidden)]
    code, (found,), _ = check(project(tmp_path, main=config))
    assert code == 9
    assert set(bad(found)) == names
    for text in bad(found).values():
        assert "the key may not do that (403 AccessDenied); give it the rights of docs/buckets.md" in text


def test_a_key_that_may_not_list_is_told(tmp_path: Path, proxy: Proxy, config: dict[str, Any]) -> None:
    init_bucket(open_bucket(config))
    proxy.faults = [Fault(403, times=99, code="AccessDenied", to=lambda request: request.is_listing)]
    code, (found,), _ = check(project(tmp_path, main=config))
    assert code == 9
    assert set(bad(found)) == {"list"}


def test_a_wrong_key_and_a_missing_secret_are_told_and_never_shown(tmp_path: Path, config: dict[str, Any]) -> None:
    root = project(tmp_path, main=config)
    code, (found,), err = check(root, **{s3_server.KEY: "a-wrong-secret-key"})
    assert code == 9
    assert "the key does not fit its id (403 SignatureDoesNotMatch)" in bad(found)["list"]
    assert "a-wrong-secret-key" not in json.dumps(found) + err
    (tmp_path / "other").mkdir()
    missing = project(tmp_path / "other", main={**config, "key": "$B2M_NO_SUCH"})
    code, (found,), _ = check(missing)
    assert code == 9
    assert bad(found)["open"].startswith("secret B2M_NO_SUCH: it is not set; ")


def test_a_store_that_is_not_there_is_tried_once(tmp_path: Path, config: dict[str, Any]) -> None:
    code, (found,), _ = check(project(tmp_path, main={**config, "endpoint": "http://127.0.0.1:1"}))
    assert code == 9
    assert list(bad(found)) == ["list"]
    assert "http://127.0.0.1:1 cannot be reached (connection refused)" in bad(found)["list"]


def test_a_clock_that_is_off_is_told(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = open_bucket(config)
    init_bucket(bucket)
    monkeypatch.setattr(checking, "MAX_SKEW", -1.0)
    found = checking.Check("main", str(config["url"]), lambda: bucket).run()
    assert not found.ready
    (point,) = [point for point in found.points if point.level == "bad"]
    assert point.name == "clock"
    assert point.text.endswith("; set this machine's clock")


def test_of_several_buckets_each_is_told_and_one_bad_one_decides(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "here").mkdir()
    init_bucket(open_bucket({"type": "folder", "path": str(tmp_path / "here")}))
    root = project(tmp_path, good={"type": "folder", "path": "here"}, bad=config)
    code, found, _ = check(root)
    assert [(each["bucket"], each["ready"]) for each in found] == [("good", True), ("bad", False)]
    assert code == 9
    code, found, _ = check(root, "--bucket", "good")
    assert [each["bucket"] for each in found] == ["good"]
    assert code == 0
    code, _, _ = check(root, "--bucket", "nope")
    assert code == 1
