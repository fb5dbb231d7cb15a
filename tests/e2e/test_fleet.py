"""``--host all``: the hosts that publish first, then those that only receive, one after the other."""

from __future__ import annotations

from tests.e2e.conftest import Copy
from tests.support.world import World


def with_readers(world: World) -> World:
    """Let ann and ben only receive ipm."""
    world.change("inventory.yaml", "  team:\n", "  readers:\n")
    for name in ("ann", "ben"):
        world.change(
            "inventory.yaml",
            f"        folder: {name}/dbs\n        databases:\n          ipm: {{}}\n",
            f"        folder: {name}/dbs\n        databases:\n          ipm:\n            direction: bucket_to_host\n",
        )
    for db in ("ipm", "emoji"):
        world.change(f"playbooks/{db}.yaml", "hosts: [production, team]", "hosts: [readers, prod]")
    return world


def test_readers_get_what_the_server_has_just_published(copied: Copy) -> None:
    world = with_readers(copied("team"))
    with world.serving():
        assert world.post("from-the-api") == 201
        done = world.b2m("sync", "--db", "ipm", "--host", "all")
    assert done.code == 0, done
    table = [line.split() for line in done.out.splitlines()[-4:]]
    assert table[0] == ["HOST", "DATABASE", "STATE", "VERSION", "DOWNTIME"]
    assert [row[:4] for row in table[1:]] == [[name, "ipm", "up_to_date", "v2"] for name in ("prod", "ann", "ben")]
    for name in ("prod", "ann", "ben"):
        assert "from-the-api" in world.slugs(world.live(name))


def test_the_first_failure_leaves_the_rest_alone(copied: Copy) -> None:
    world = with_readers(copied("team"))
    world.insert("ann", "a-row-that-a-reader-must-not-have")
    with world.serving():
        assert world.post("from-the-api") == 201
        done = world.b2m("sync", "--db", "ipm", "--host", "all")
    assert done.code == 8, done
    assert "read_only_host" not in done.out
    rows = [line.split() for line in done.out.splitlines() if line.startswith(("prod ", "ann ", "ben "))]
    assert [(row[0], " ".join(row[2:-2])) for row in rows] == [
        ("prod", "up_to_date"),
        ("ann", "failed"),
        ("ben", "left alone"),
    ]
    assert world.live("ben").name == "ipm-db-v1.db"


def test_a_database_that_no_host_has_is_told(copied: Copy) -> None:
    done = copied("team").b2m("sync", "--db", "nothing", "--host", "all")
    assert done.code == 1
    assert "unknown database nothing" in done.err
