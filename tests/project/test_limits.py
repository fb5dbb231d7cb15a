"""Tasks with ``timeout`` and ``retries``, commands of one's own, and variables of the command line, in real runs."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import Done, World

QUICK = {"B2M_FAULT_RETRY_PAUSE": "0.05"}
PUBLISH = "    - name: Publish what the server wrote\n      role: publish\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("made") / "a project")
    with world.serving():
        assert world.sync().code == 0
    world.member("ann")
    world.insert("ann", "from-ann")
    return world


@pytest.fixture
def ready(made: World, tmp_path: Path) -> World:
    """A member's file that is ready to upload, and no server."""
    return World.copy_of(made, tmp_path / "a project")


def shell(run: str, *more: str, before: str = PUBLISH) -> str:
    lines = ["    - name: Ours", f"      shell: {{run: {json.dumps(run)}, reason: a test}}", *more, ""]
    return "\n".join(lines) + before


def with_shell(world: World, run: str, *more: str) -> None:
    world.change("playbooks/ipm.yaml", PUBLISH, shell(run, *more))


def record(world: World, host: str = "ann") -> dict[str, Any]:
    # By time, not by name: two runs may begin in the same second.
    records = (world.folder(host) / ".b2m" / "ipm" / "runs").glob("*.json")
    newest = max(records, key=lambda path: path.stat().st_mtime_ns)
    found: dict[str, Any] = json.loads(newest.read_bytes())
    return found


def tasks(done: Done, status: str) -> list[dict[str, Any]]:
    return [line for line in done.json if line["type"] == "task" and line["status"] == status]


def error(done: Done) -> str:
    return str([line for line in done.json if line["type"] == "error"][-1]["text"])


def test_a_command_runs_in_the_project_with_quoted_values_and_its_output_is_recorded(ready: World) -> None:
    ready.change("playbooks/ipm.yaml", "policy:", "vars:\n  note: of the playbook\npolicy:")
    with_shell(ready, "pwd; echo {{ note }}; echo $B2M_FAULT_RETRY_PAUSE- >&2")
    done = ready.sync("ann", "ipm", "-e", "note=a'b; exit 1", env=QUICK)
    assert done.code == 0, done
    (said,) = [event for event in record(ready)["events"] if event["type"] == "shell"]
    # What only tests set is kept from commands, as from services.
    assert said["output"] == f"{ready.root}\na'b; exit 1\n-\n"
    assert (said["code"], said["reason"]) == (0, "a test")
    assert done.recap["to_version"] == 2


def test_a_command_that_fails_ends_the_run_with_its_last_lines(ready: World) -> None:
    with_shell(ready, "echo one; echo two >&2; exit 3")
    done = ready.sync("ann")
    assert done.code == 6
    assert error(done) == "ipm: `echo one; echo two >&2; exit 3` ended with exit code 3: one / two"
    assert ready.head() == 1


def test_a_task_that_takes_too_long_is_ended_with_all_that_it_started(ready: World) -> None:
    with_shell(ready, "(sleep 3; touch late) & sleep 30", "      timeout: 500ms")
    began = time.monotonic()
    done = ready.sync("ann")
    assert done.code == 6
    assert error(done) == "ipm: the task took longer than its timeout (0.5 s)"
    assert time.monotonic() - began < 10
    time.sleep(max(0.0, 4 - (time.monotonic() - began)))
    assert not (ready.root / "late").exists()


def test_a_task_that_works_at_the_third_try_is_one_that_works(ready: World) -> None:
    with_shell(ready, "echo x >> tries; test $(wc -l < tries) -ge 3", "      retries: 2")
    done = ready.sync("ann", env=QUICK)
    assert done.code == 0, done
    again = [line["detail"] for line in tasks(done, "retrying")]
    assert [text.rpartition("; ")[2] for text in again] == ["again in 0.05 s, 2 left", "again in 0.1 s, 1 left"]
    assert done.recap["tasks"]["failed"] == 0
    assert done.recap["to_version"] == 2


def test_each_try_has_the_whole_timeout_and_the_last_failure_counts(ready: World) -> None:
    with_shell(ready, "echo x >> tries; sleep 30", "      retries: 1", "      timeout: 300ms")
    done = ready.sync("ann", env=QUICK)
    assert done.code == 6
    assert (ready.root / "tries").read_text() == "x\nx\n"
    assert len(tasks(done, "retrying")) == 1
    assert done.recap["tasks"]["failed"] == 1


def test_a_refusal_is_not_tried_again(ready: World) -> None:
    ready.edit("ann", "ipm", "UPDATE ipm_data SET category_hash = 424242 WHERE slug = 'from-ann'")
    verify = '    verify: {file: ours, checks: "{{ checks }}"}\n'
    ready.change("roles/publish/role.yaml", verify, verify + "    retries: 3\n")
    done = ready.sync("ann", env=QUICK)
    assert done.code == 8, done
    assert tasks(done, "retrying") == []


def test_a_signal_ends_the_command_and_undoes_the_run(ready: World) -> None:
    with_shell(ready, "echo $$ > pid; trap '' TERM; while :; do sleep 0.1; done")
    process = ready.start_b2m("sync", "--db", "ipm", "--host", "ann", "--json")
    pid = ready.root / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    shell_of_it, until = Path(f"/proc/{pid.read_text().strip()}"), time.monotonic() + 5
    while shell_of_it.exists() and time.monotonic() < until:
        time.sleep(0.02)  # killed, and waiting for init to take note
    assert not shell_of_it.exists()
    ready.change("playbooks/ipm.yaml", shell("echo $$ > pid; trap '' TERM; while :; do sleep 0.1; done"), PUBLISH)
    assert ready.sync("ann").recap["to_version"] == 2


def test_in_a_hold_a_command_counts_against_the_downtime(ready: World) -> None:
    assert ready.sync("ann").code == 0
    ready.change("playbooks/ipm.yaml", "max_downtime: 5s", "max_downtime: 1s")
    late = "        - name: Take the late rows\n"
    slow = '        - name: Ours\n          shell: {run: "sleep 30", reason: a test}\n          timeout: 20s\n'
    ready.change("playbooks/ipm.yaml", late, slow + late)
    with ready.serving():
        began = time.monotonic()
        done = ready.sync()
        assert done.code == 6, done
        assert "longer than max_downtime (1 s)" in error(done)
        assert time.monotonic() - began < 15
        assert ready.serves_within(5)


def test_a_command_may_tell_somebody_after_a_failure(ready: World) -> None:
    with_shell(ready, "exit 1")
    ready.change(
        "playbooks/ipm.yaml",
        "on_failed:\n",
        'on_failed:\n  - shell: {run: "echo {{ failure }} > told", reason: our pager has no module}\n',
    )
    assert ready.sync("ann").code == 6
    assert (ready.root / "told").read_text() == "ipm: `exit 1` ended with exit code 1\n"


def test_an_argument_that_does_not_fit_ends_the_run_before_the_role_began(ready: World) -> None:
    ready.change("playbooks/ipm.yaml", PUBLISH, PUBLISH + '      vars: {checks: "{{ live.version }}"}\n')
    done = ready.sync("ann")
    assert done.code == 3
    assert error(done).endswith("checks of role publish: expected a list, not the number 1")
    assert tasks(done, "started") == []


# -- variables -----------------------------------------------------------------------------------------------------


def test_a_name_that_no_playbook_has_is_refused_by_every_command_that_takes_variables(world: World) -> None:
    for command in ("sync", "plan", "upload"):
        done = world.b2m(command, "--db", "ipm", "--host", "ann", "--set", "chekcs=1")
        assert (done.code, done.err) == (1, "b2m: -e chekcs: no playbook has a variable chekcs, did you mean checks?\n")


def test_every_variable_is_shown_with_its_level_and_its_place(world: World) -> None:
    world.change("inventory.yaml", "  production:\n", "  production:\n    vars:\n      team: ops\n")
    world.change("inventory.yaml", "      prod:\n", "      prod:\n        vars:\n          team: night\n")
    who = 'vars:\n  who: "{{ team | default(db.key) }}@{{ host.name }}"\n  now: "{{ state }}"\npolicy:'
    world.change("playbooks/ipm.yaml", "policy:", who)
    done = world.b2m("vars", "--db", "ipm", "--host", "prod", "-e", "team=day", "--json")
    assert done.code == 0, done
    found = {line["name"]: line for line in done.json if line["role"] is None}
    assert (found["team"]["value"], found["team"]["level"]) == ("day", "-e")
    assert [hidden["level"] for hidden in found["team"]["hides"]] == ["host prod", "group production"]
    assert found["team"]["hides"][0]["at"].startswith("inventory.yaml:")
    assert (found["who"]["value"], found["who"]["level"]) == ("day@prod", "playbook")
    assert (found["now"]["value"], found["now"]["later"]) == (None, True)
    assert (found["db.name"]["value"], found["db.name"]["level"]) == ("ipm", "inventory")
    assert (found["db.service"]["value"], found["policy.rename"]["level"]) == ("web", "playbook")
    assert found["policy.lease_ttl"]["level"] == "built-in"
    text = world.b2m("vars", "--db", "ipm", "--host", "prod").out.splitlines()
    line = (world.root / "inventory.yaml").read_text().splitlines().index("          team: night") + 1
    assert any(one.startswith(f'  team = "night"  [host prod]  inventory.yaml:{line}:17; hides group') for one in text)
    assert '    checks = ["integrity", "foreign_keys"]  [default of role publish]  roles/publish/role.yaml:7:14' in text
