"""`b2m contract` against a real server, and against one that breaks each clause; it always gets its database back."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.support.commands import ended, script, started, wait_for
from tests.support.unchanged import picture
from tests.support.world import Done, World


def contract(world: World, host: str = "prod") -> tuple[Done, dict[str, Any]]:
    """Check ipm's server; return the finished b2m and what it says of the contract."""
    done = world.b2m("contract", "--db", "ipm", "--host", host, "--json")
    (found,) = [line for line in done.json if line["type"] == "contract"]
    return done, found


def failed(found: dict[str, Any]) -> list[str]:
    return [check["name"] for check in found["checks"] if check["level"] == "failed"]


def probe(world: World, health: str) -> None:
    """Replace host prod's health probe."""
    inventory = (world.root / "inventory.yaml").read_text()
    begin, end = inventory.index("            health:\n"), inventory.index("            start_timeout")
    (world.root / "inventory.yaml").write_text(inventory[:begin] + health + inventory[end:])


@pytest.mark.parametrize(("host", "away", "back"), [("prod", "disconnect", "connect"), ("prod-stop", "stop", "start")])
def test_the_example_server_keeps_the_contract(host: str, away: str, back: str, world: World) -> None:
    before = picture(world.prod)
    with world.serving():
        done, found = contract(world, host)
        assert done.code == 0, done
        assert found["kept"]
        assert found["given_back"]
        assert [(each["name"], each["level"]) for each in found["checks"]] == [
            *(("health", "ok"), ("open", "ok"), (away, "ok"), ("closed", "ok"), (away, "ok"), ("health", "ok")),
            *((back, "ok"), (back, "ok"), ("health", "ok"), ("open", "ok")),
        ]
        assert 0 < found["away"] < 30
        assert world.serves_within(5)
        assert world.post("afterwards") == 201
    assert not (world.prod / ".b2m" / "ipm" / "journal.jsonl").exists()
    assert [name for name in picture(world.prod) if name.endswith(".db")] == [
        name for name in before if name.endswith(".db")
    ]


def test_it_is_told_line_by_line(world: World) -> None:
    with world.serving():
        done = world.b2m("contract", "ipm", "--host", "prod")
    lines = done.out.splitlines()
    assert lines[0] == "ipm@prod  web"
    assert lines[1].startswith("  ok      health      before: well  (")
    assert lines[-1].startswith("ipm@prod  web keeps the contract; ipm was away for ")


@pytest.mark.parametrize(
    ("verb", "before", "broken", "says"),
    [
        ("disconnect", '[ "$calls" -lt 2 ] || exit 1', ["disconnect"], "a second time: `sh disconnect.sh ipm` ended"),
        ("disconnect", "exit 0", ["closed"], "ipm-db-v1.db is still open in process "),
        ("disconnect", "echo no such database; exit 3", ["disconnect"], "exit code 3: no such database"),
        ("connect", '[ "$calls" -lt 2 ] || exit 1', ["connect"], "a second time: `sh connect.sh ipm` ended"),
        ("connect", '[ "$calls" -ne 1 ] || exit 1', ["connect"], "`sh connect.sh ipm` ended with exit code 1"),
    ],
)
def test_a_clause_that_is_broken_is_named(verb: str, before: str, broken: list[str], says: str, world: World) -> None:
    script(world, verb, before=before)
    with world.serving():
        done, found = contract(world)
        assert done.code == 6, done
        assert failed(found) == broken, found
        assert says in str([check["text"] for check in found["checks"] if check["level"] == "failed"])
        assert found["given_back"]
        (error,) = [line for line in done.json if line["type"] == "error"]
        assert error["text"] == f"ipm: web breaks the contract ({broken[0]}); see docs/server-contract.md"
        assert error["help"] == "docs/runbook.md#exit-code-6"
        assert world.serves_within(5)


def test_a_server_that_never_takes_it_back_is_the_worst_exit_code_and_the_next_run_mends_it(world: World) -> None:
    script(world, "connect", before="[ ! -e broken ] || exit 1")
    (world.root / "broken").touch()
    with world.serving():
        done, found = contract(world)
        assert done.code == 7, done
        assert not found["given_back"]
        (world.root / "broken").unlink()
        assert world.sync().code == 0
        assert world.serves_within(5)


def test_a_probe_that_is_always_content_proves_nothing_and_that_is_said(world: World) -> None:
    probe(world, '            health:\n              command: "true"\n')
    with world.serving():
        done, found = contract(world)
        assert done.code == 0, done
        (note,) = [check for check in found["checks"] if check["level"] == "note"]
        assert "it would not notice a database that does not come back" in note["text"]


def test_a_service_without_a_probe_breaks_it(world: World) -> None:
    probe(world, "")
    with world.serving():
        done, found = contract(world)
    assert (done.code, failed(found)) == (6, ["health"])


def test_from_a_server_that_is_not_well_nothing_is_taken(world: World) -> None:
    script(world, "disconnect")
    done, found = contract(world)
    assert done.code == 6, done
    assert [check["name"] for check in found["checks"]] == failed(found) == ["health"]
    assert not (world.root / "disconnect.calls").exists()


def test_a_host_without_a_service_has_nothing_to_check(world: World) -> None:
    (world.root / "ann" / "dbs").mkdir(parents=True)
    done = world.b2m("contract", "--db", "ipm", "--host", "ann")
    assert done.code == 1
    assert done.err == "b2m: no service opens ipm on ann; inventory.yaml gives it none\n"


def test_no_run_comes_in_between(world: World) -> None:
    script(world, "disconnect", after="touch away; while [ -e away ]; do sleep 0.05; done")
    with world.serving(), started(world, "contract", "--db", "ipm", "--host", "prod", "--json") as process:
        wait_for((world.root / "away").exists, "the server was told to disconnect")
        assert world.sync().code == 4
        script(world, "disconnect")  # the second call need not wait
        (world.root / "away").unlink()
        done = ended(process)
        assert done.code == 0, done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_the_server_gets_its_database_back(number: signal.Signals, world: World) -> None:
    script(world, "disconnect", after="touch away; sleep 0.5")
    with world.serving():
        with started(world, "contract", "--db", "ipm", "--host", "prod") as process:
            wait_for((world.root / "away").exists, "the server was told to disconnect")
            os.kill(process.pid, number)
            done = ended(process)
        assert done.code == (-number if number == signal.SIGKILL else 128 + number), done
        assert world.serves_within(0.5 if number != signal.SIGKILL else 20)
        assert world.sync().code == 0
