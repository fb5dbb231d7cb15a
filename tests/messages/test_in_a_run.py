"""What a playbook says reaches people, whatever becomes of the run; a run never fails, waits or changes by it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.commands import ended, started, sync_of
from tests.support.listener import Listener, listening
from tests.support.world import World

SECRET = "to-Ken_5ecret"
ROLES = ("report_refusal", "report_failure", "report_success", "report_stale_lease")


@pytest.fixture
def discord() -> Iterator[Listener]:
    with listening() as server:
        yield server


def told(world: World) -> None:
    """Let the world's playbook send what it says to ops, and the inventory say who that is."""
    world.change("inventory.yaml", "databases:\n  ipm:\n", "messages:\n  ops: $DISCORD_OPS\ndatabases:\n  ipm:\n")
    for role in ROLES:
        world.change("playbooks/ipm.yaml", f"role: {role}", f"role: {role}\n{_indent(role)}vars: {{to: ops}}")


def _indent(role: str) -> str:
    return "      " if role == "report_stale_lease" else "    "


def env(server: Listener) -> Mapping[str, str]:
    return {"DISCORD_OPS": server.webhook, "no_proxy": "127.0.0.1"}


def said(server: Listener) -> list[str]:
    return [request.json["content"] for request in server.requests]


def test_a_success_is_told_in_the_line_of_the_recap_and_a_run_without_work_is_not(
    world: World, discord: Listener
) -> None:
    told(world)
    with world.serving():
        done = world.b2m("sync", "--db", "ipm", "--host", "prod", env=env(discord))
        assert done.code == 0, done
        assert said(discord) == [done.out.strip()]
        assert "ready_to_upload -> up_to_date  - -> v1" in said(discord)[0]
        assert world.b2m("sync", "--db", "ipm", "--host", "prod", env=env(discord)).code == 0
    assert len(discord.requests) == 1


def test_what_is_told_of_a_success_is_not_counted_as_work(world: World, discord: Listener) -> None:
    told(world)
    done = world.sync("prod-stop", env=env(discord))
    ended = [line for line in done.json if line["type"] == "task" and line["status"] != "started"]
    assert [line["module"] for line in ended].count("message") == 1
    assert sum(done.recap["tasks"].values()) == len(ended) - 1
    assert done.json[-1] == done.recap


def test_a_refusal_is_told(world: World, discord: Listener) -> None:
    told(world)
    done = world.b2m("sync", "--db", "ipm", "--host", "ann", env=env(discord))
    assert done.code == 8
    error = done.err.splitlines()[-1].removeprefix("b2m: ")
    assert said(discord) == [f"ipm on ann refused: {error}"]


def test_a_failure_is_told_after_it_was_undone(world: World, discord: Listener) -> None:
    told(world)
    world.change(
        "playbooks/ipm.yaml",
        "      role: publish\n\n",
        "      role: publish\n    - shell: {run: exit 3, reason: test}\n\n",
    )
    done = world.b2m("sync", "--db", "ipm", "--host", "prod-stop", env=env(discord))
    assert done.code == 6
    assert said(discord) == [f"ipm on prod-stop failed: {done.err.splitlines()[-1].removeprefix('b2m: ')}"]


def test_a_databases_own_address_gets_it_too(world: World, discord: Listener) -> None:
    told(world)
    world.change("inventory.yaml", "    key: ipmdb\n", "    key: ipmdb\n    messages: [$DISCORD_IPM]\n")
    with listening() as own:
        done = world.b2m("sync", "--db", "ipm", "--host", "ann", env={**env(discord), "DISCORD_IPM": own.webhook})
    assert done.code == 8
    assert said(own) == said(discord) == [f"ipm on ann refused: {done.err.splitlines()[-1].removeprefix('b2m: ')}"]


@pytest.mark.parametrize("value", ["", "http://127.0.0.1:1/api/webhooks/1/to-Ken_5ecret"])
def test_what_cannot_be_delivered_is_a_warning_and_changes_neither_the_outcome_nor_the_exit_code(
    world: World, value: str
) -> None:
    told(world)
    done = world.sync("prod-stop", env={"DISCORD_OPS": value, "no_proxy": "127.0.0.1", "B2M_FAULT_PATIENCE": "2"})
    assert done.code == 0
    assert done.json[-1]["type"] == "recap"
    (warning,) = [line for line in done.json if line["type"] == "warning"]
    assert warning["about"] == "delivery"
    why = "connection refused" if value else "secret DISCORD_OPS: it is not set"
    assert warning["text"].startswith(f"message to ops ($DISCORD_OPS) was not delivered: {why}")
    assert world.head() == 1


def test_a_name_that_an_expression_gives_and_nobody_has_is_a_warning(world: World) -> None:
    world.change("playbooks/ipm.yaml", "role: report_refusal", 'role: report_refusal\n    vars: {to: "{{ db.name }}"}')
    done = world.b2m("sync", "--db", "ipm", "--host", "ann")
    assert done.code == 8
    text = "warning  message to ipm: inventory.yaml has no such name under messages, only nothing"
    assert text in done.err.splitlines()


def test_the_ping_follows_a_success_on_the_scheduled_host_only(world: World, discord: Listener) -> None:
    world.change(
        "playbooks/ipm.yaml", "scenarios:", "schedule: {at: '18:00', host: prod-stop, ping: $PING}\n\nscenarios:"
    )
    ping = {"PING": f"{discord.url}/uuid", "no_proxy": "127.0.0.1"}
    assert world.sync("ann", env=ping).code == 8
    assert world.b2m("status", "--db", "ipm", "--host", "prod-stop", env=ping).code == 0
    assert discord.requests == []
    assert world.sync("prod-stop", env=ping).code == 0
    assert world.sync("prod-stop", env=ping).code == 0  # nothing to do is a success too
    world.member("ann")
    assert [(request.method, request.path) for request in discord.requests] == [("GET", "/uuid")] * 2
    (world.root / "bucket").rename(world.root / "unmounted")
    assert world.sync("prod-stop", env=ping).code == 8
    assert len(discord.requests) == 2


def test_no_address_is_left_anywhere(world: World, discord: Listener) -> None:
    """Not in what is printed, on the host's disk, in the bucket, or in a process list while the run goes on."""
    told(world)
    world.change("playbooks/ipm.yaml", "scenarios:", "schedule: {at: '18:00', host: prod, ping: $PING}\n\nscenarios:")
    world.change(
        "playbooks/ipm.yaml",
        "    - name: Publish what the server wrote",
        "    - shell: {run: ps axww > seen.txt, reason: test}\n    - name: Publish what the server wrote",
    )
    with world.serving():
        secret = {**env(discord), "PING": f"http://127.0.0.1:1/{SECRET}", "B2M_FAULT_PATIENCE": "1"}
        with started(world, *sync_of(), env=secret) as process:
            done = ended(process)
    assert done.code == 0
    assert len(said(discord)) == 1
    assert "b2m sync --db ipm" in (world.root / "seen.txt").read_text()
    assert SECRET not in done.out + done.err
    files = [path for path in world.root.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    record = max((world.prod / ".b2m").rglob("runs/*.json"))
    events = json.loads(record.read_text())["events"]
    assert [event["to"] for event in events if event["type"] == "message"] == ["ops"]


def test_an_address_that_a_command_prints_before_it_was_used_stands_nowhere(world: World) -> None:
    """Neither in the error nor in the record, though nothing was sent and so nothing was read."""
    world.change("inventory.yaml", "databases:\n  ipm:\n", "messages:\n  ops: $DISCORD_OPS\ndatabases:\n  ipm:\n")
    world.change("playbooks/ipm.yaml", "scenarios:", "schedule: {at: '18:00', host: prod, ping: $PING}\n\nscenarios:")
    world.change(
        "playbooks/ipm.yaml",
        "    - name: Publish what the server wrote",
        "    - shell: {run: 'echo $DISCORD_OPS; echo $PING; exit 3', reason: test}\n"
        "    - name: Publish what the server wrote",
    )
    env = {"DISCORD_OPS": f"http://127.0.0.1:1/{SECRET}", "PING": f"http://127.0.0.1:1/{SECRET}/ping"}
    done = world.b2m("sync", "--db", "ipm", "--host", "prod-stop", env=env)
    assert done.code == 6, done
    assert done.err.endswith("ended with exit code 3: (secret DISCORD_OPS) / (secret PING)\n")
    assert SECRET not in done.out + done.err
    files = [path for path in world.root.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_success_tasks_may_be_anything_that_changes_nothing(world: World, tmp_path: Path) -> None:
    text = (world.root / "playbooks/ipm.yaml").read_text()
    begin = text.index("on_success:")
    (world.root / "playbooks/ipm.yaml").write_text(
        text[:begin] + 'on_success:\n  - shell:\n      run: "echo {{ recap.before }} {{ recap.after }} '
        '{{ recap.to_version }} {{ recap.rows.inserted }} {{ recap.changed }} > told.txt"\n      reason: test\n'
        "  - shell: {run: exit 1, reason: test}\n"
    )
    done = world.sync("prod-stop")
    assert done.code == 0
    assert (world.root / "told.txt").read_text() == "ready_to_upload up_to_date 1 0 True\n"
    assert any(line["type"] == "warning" and "while telling about it" in line["text"] for line in done.json)
    assert done.recap["tasks"]["failed"] == 0
