"""The main job against Backblaze B2's native API, both ways of publishing, with a server that writes throughout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets import open_bucket
from b2m.buckets.marker import init_bucket
from b2m.versions import log
from tests.support.b2_simulator import simulator
from tests.support.world import World

ENTRY = """\
    type: b2
    url: {url}
    realm: {realm}
    key_id: $B2M_TEST_KEY_ID
    key: $B2M_TEST_KEY
"""
LOCKS = """\
    locks:
      url: {url}
      key_id: $B2M_TEST_LOCK_KEY_ID
      key: $B2M_TEST_LOCK_KEY
"""


@pytest.fixture(params=[False, True], ids=["flags", "locks"])
def on_b2(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[World, list[str]]:
    """A world whose bucket is at B2, and the secrets that only its environment may hold."""
    config: Mapping[str, Any] = simulator().config(locks=request.param, prefix="team")
    secrets = {"B2M_TEST_KEY_ID": config["key_id"], "B2M_TEST_KEY": config["key"]}
    entry = ENTRY.format(**config)
    if request.param:
        locks = config["locks"]
        secrets |= {"B2M_TEST_LOCK_KEY_ID": locks["key_id"], "B2M_TEST_LOCK_KEY": locks["key"]}
        entry += LOCKS.format(**locks)
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    world.change("inventory.yaml", "    type: folder\n    path: bucket\n", entry)
    world.bucket = open_bucket(config)
    world.bucket_id = init_bucket(world.bucket).id
    return world, [config["key"], *([config["locks"]["key"]] if request.param else [])]


def test_published_merged_swapped_and_published_again(on_b2: tuple[World, list[str]]) -> None:
    world, secrets = on_b2
    said = []
    with world.serving():
        said.append(world.sync())
        assert (said[-1].code, said[-1].recap["to_version"]) == (0, 1), said[-1]
        world.member("ann")
        world.insert("ann", "from-ann")
        said.append(world.sync("ann"))
        assert (said[-1].code, world.head()) == (0, 2), said[-1]
        with world.writing(0.02) as shadow:
            said.append(world.sync())
        assert said[-1].code == 0, said[-1]
        assert said[-1].recap["before"] == "outdated_db"
        said.append(world.sync())
        assert said[-1].code == 0, said[-1]
        said.append(world.sync())
        assert said[-1].recap["before"] == "up_to_date"
        said.append(world.b2m("bucket.check"))
        assert said[-1].code == 0, said[-1]
    assert {"from-ann", *world.acknowledged(shadow)} <= world.slugs(world.restored())
    assert log.numbers(world.bucket, "ipm") == list(range(1, world.head() + 1))
    written = [path.read_bytes() for path in Path(world.root).rglob("*") if path.is_file()]
    written += [world.bucket.get(name) for name in world.bucket.list("ipm/runs")]
    written += [f"{done.out}{done.err}".encode() for done in said]
    assert not [text for text in written for secret in secrets if secret.encode() in text]
