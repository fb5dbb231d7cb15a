"""Runs on another host whose connection, agent or machine dies: the server is given back, and nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2m.journal import Journal
from tests.buckets.b2_backends import B2_BACKENDS
from tests.buckets.backends import Backend
from tests.buckets.s3_backends import S3_BACKENDS
from tests.support.commands import ended, started, sync_of, wait_for
from tests.support.far import FarWorld
from tests.support.proof import assert_all_there
from tests.support.settings import trials
from tests.support.sshd import Hole, Prod
from tests.support.world import Done

QUICK = {"B2M_FAULT_PING": "0.5", "B2M_FAULT_SILENCE": "4", "B2M_FAULT_LINGER": "3"}
NO_PATIENCE = {"B2M_FAULT_BOOT_PAUSE": "0.1"}  # at boot, with a server that is not up yet
BACK_WITHIN = 20.0  # seconds: silence, then the undoing, or for a run that hangs the guard
POINTS = (
    "before-task:1:download",
    "before-task:2:snapshot",
    "before-task:5:replay",
    "after-journal:hold",
    "before-task:7:replay",
    "switch:named",
    "switch:made",
    "after-journal:switched",
    "before-journal:released",
    "before-journal:publish",
    "commit-created",
)
SOME = POINTS if trials(0, 1) else ("before-task:1:download", "before-task:7:replay", "switch:made", "commit-created")


@contextmanager
def stalled_at(far: FarWorld, point: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Start a sync whose agent sleeps at a point, and wait until it does."""
    log = far.base / "points.log"
    log.unlink(missing_ok=True)
    faults = {"B2M_FAULT": f"stall:{point}", "B2M_FAULT_LOG": str(log), **QUICK, **env}
    with started(far, *sync_of(), env={**far.environment, **faults}) as process:
        wait_for(
            lambda: process.poll() is not None or (log.exists() and point in log.read_text().split()),
            f"the agent reached {point}",
        )
        assert process.poll() is None, ended(process)
        yield process


def cut_off(process: subprocess.Popen[str]) -> Done:
    """Wait for a client that lost its agent: one line, exit code 5."""
    done = ended(process)
    assert done.code == 5, done
    error = [line for line in done.json if line["type"] == "error"][-1]
    assert error["error"] == "HostUnreachable"
    assert error["text"].startswith("host prod: the connection was cut"), error
    assert "b2m doctor --host prod" in error["text"]
    return done


def assert_next_run_converges(far: FarWorld, shadow: Path) -> None:
    """The next run needs no help: every acknowledged row is in the newest version, and ann's too."""
    wait_for(lambda: far.host.processes("b2m.remote.agent") == [], "the agent ended")
    done = far.sync()
    assert done.code == 0, done
    done = far.sync()
    assert done.code == 0, done
    assert_all_there(far, far.restored(), shadow, ["from-ann"])
    assert_all_there(far, far.live(), shadow, ["from-ann"])


@pytest.mark.parametrize("point", SOME)
def test_the_connection_goes_silent(behind: FarWorld, point: str) -> None:
    """A middlebox takes everything and passes nothing on: both sides notice, the server is back, the client ends."""
    far = behind
    far.server("start")
    with far.writing() as shadow, Hole(far.host.port) as hole:
        config = far.root / "ssh_config"
        config.write_text(far.host.config.read_text().replace(f"Port {far.host.port}", f"Port {hole.port}"))
        with stalled_at(far, point, B2M_SSH_CONFIG=str(config)) as process:
            hole.swallow()
            began = time.monotonic()
            cut_off(process)
            assert time.monotonic() - began < 15
            assert far.serves_within(BACK_WITHIN)
    assert_next_run_converges(far, shadow)


@pytest.mark.parametrize("point", SOME[1:3])
def test_the_agent_is_killed(behind: FarWorld, point: str) -> None:
    far = behind
    far.server("start")
    with far.writing() as shadow, stalled_at(far, point) as process:
        for pid in far.host.processes("b2m.remote.agent"):
            os.kill(pid, signal.SIGKILL)
        cut_off(process)
        assert far.serves_within(BACK_WITHIN)
    assert_next_run_converges(far, shadow)


def test_the_hosts_sshd_drops_the_session(behind: FarWorld) -> None:
    far = behind
    far.server("start")
    with far.writing() as shadow, stalled_at(far, "before-task:7:replay") as process:
        far.host.kill_sessions()
        cut_off(process)
        assert far.serves_within(BACK_WITHIN)
    assert_next_run_converges(far, shadow)


def test_the_client_is_killed(behind: FarWorld) -> None:
    """The agent sees the end of its input, and undoes what it holds."""
    far = behind
    far.server("start")
    with far.writing() as shadow, stalled_at(far, "before-task:7:replay") as process:
        process.kill()
        assert far.serves_within(BACK_WITHIN)
    assert_next_run_converges(far, shadow)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_here_undoes_there(behind: FarWorld, number: signal.Signals, code: int) -> None:
    far = behind
    far.server("start")
    with far.writing() as shadow:
        with stalled_at(far, "before-task:7:replay") as process:
            process.send_signal(number)
            done = ended(process)
        assert done.code == code, done
        assert f"b2m: interrupted by signal {number.value}; what was done is undone" in done.err
        assert "undone" in [line["type"] for line in done.json], "what was undone there is told here"
        assert far.server("health", "--db", "ipm", check=False).returncode == 0
        assert far.live().name == "ipm-db-v1.db"
    assert_next_run_converges(far, shadow)


@pytest.mark.parametrize("point", ["before-task:7:replay", "switch:made", "after-journal:switched"])
def test_the_host_is_rebooted_in_a_hold(behind: FarWorld, point: str) -> None:
    """All its processes are killed, guard and server too. What comes up again finds a valid file; nothing is lost."""
    far = behind
    far.server("start")
    with far.writing() as shadow, stalled_at(far, point) as process:
        far.host.reboot()
        cut_off(process)
    assert far.query(far.live(), "PRAGMA integrity_check") == [("ok",)], "what a service manager starts finds this"
    recovered = far.host.sh(
        f"~/.b2m/current/venv/bin/python -I -m b2m.hosts.recovery '{far.prod}'", check=False, **NO_PATIENCE
    )
    # The server is down: settling says so, and leaves the rest to the next run; the files are settled.
    assert recovered.returncode in (0, 7), recovered
    far.server("start")
    assert far.server("health", "--db", "ipm", check=False).returncode == 0
    assert_next_run_converges(far, shadow)


@pytest.mark.parametrize("point", ["before-journal:publish", "commit-created"])
@pytest.mark.parametrize("store", [S3_BACKENDS[1], *B2_BACKENDS], ids=lambda store: store.name)
def test_a_publication_that_is_cut_off_is_settled(
    bootstrapped: Prod, tmp_path: Path, store: Backend, point: str
) -> None:
    """The host cannot ask a lock bucket; the next run finds out what was decided, and merges no row of ours twice."""
    far = FarWorld(tmp_path / f"ops {tmp_path.name}", bootstrapped, store.make(tmp_path))
    try:
        assert far.sync().code == 0
        far.member("ann")
        far.insert("ann", "from-ann")
        assert far.sync("ann").code == 0
        far.server("start")
        with far.writing() as shadow, stalled_at(far, point) as process:
            for pid in far.host.processes("b2m.remote.agent"):
                os.kill(pid, signal.SIGKILL)
            cut_off(process)
        assert_next_run_converges(far, shadow)
    finally:
        far.server("stop", check=False)


def refused_line(far: FarWorld) -> str:
    """Sync where that cannot be: exit code 5, and one line that says why."""
    done = far.b2m("sync", "--db", "ipm", "--host", "prod")
    assert done.code == 5, done
    (line,) = done.err.splitlines()
    assert line.startswith("b2m: host prod: ")
    return line


def test_a_host_that_is_down(far: FarWorld) -> None:
    far.host.stop()
    try:
        assert "nothing listens" in refused_line(far)
    finally:
        far.host.start()


def test_a_host_that_shows_another_key(far: FarWorld) -> None:
    with far.host.another_host_key():
        line = refused_line(far)
    assert line.count("SHA256:") == 2
    assert "ssh-keygen" in line


def test_a_host_without_b2m(far: FarWorld) -> None:
    current = far.host.home / ".b2m" / "current"
    current.rename(current.with_name("away"))
    try:
        assert refused_line(far) == "b2m: host prod: b2m is not installed there; install it with: " + (
            "b2m bootstrap --host prod"
        )
    finally:
        current.with_name("away").rename(current)


def test_a_run_is_one_connection_and_one_process(far: FarWorld) -> None:
    far.server("start")
    before = far.host.log.read_text().count("Accepted publickey")
    done = far.b2m("sync", "--db", "ipm", "--db", "emoji", "--host", "prod", "--json")
    assert done.code == 0, done
    assert [line["db"] for line in done.json if line["type"] == "recap"] == ["ipm", "emoji"]
    assert far.host.log.read_text().count("Accepted publickey") == before + 1
    wait_for(lambda: far.host.processes("b2m.remote.agent") == [], "the agent ended")


@pytest.mark.alone
def test_a_sync_with_nothing_to_do_takes_less_than_two_seconds(far: FarWorld) -> None:
    far.server("start")
    assert far.sync().code == 0
    times = []
    for _ in range(3):
        began = time.monotonic()
        assert far.sync().recap["before"] == "up_to_date"
        times.append(time.monotonic() - began)
    assert min(times) < 2.0, times


def test_every_task_that_looks_works_over_ssh(far: FarWorld) -> None:
    far.server("start")
    assert far.sync().code == 0
    assert far.post("from-the-api") == 201
    status = far.status()
    assert (status["state"], status["dirty"], status["host"]) == ("ready_to_upload", True, "prod")
    assert far.b2m("plan", "--db", "ipm", "--host", "prod").code == 10
    assert far.b2m("plan", "--db", "ipm", "--host", "prod", "--rehearse").code == 10
    assert "from-the-api" in far.b2m("diff", "--db", "ipm", "--host", "prod").out
    assert far.b2m("doctor", "--db", "ipm", "--host", "prod").code == 0
    assert far.b2m("contract", "--db", "ipm", "--host", "prod").code == 0
    (first,) = list(far.b2m("runs", "--db", "ipm", "--host", "prod", "--json").json)
    assert (first["host"], first["exit_code"]) == ("prod", 0)
    done = far.b2m("upload", "--db", "ipm", "--host", "prod", "--message", "by hand", "--json")
    assert done.recap["to_version"] == 2
    history = far.b2m("history", "--db", "ipm").out
    assert "by hand" in history
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert f"{user}@" in history, "the version's author is who started the run, not the login there"


def test_a_host_settles_at_boot_what_died_with_it(behind: FarWorld) -> None:
    """``schedule`` installs the line; what it says is run as cron would run it."""
    far = behind
    playbook = far.root / "playbooks" / "ipm.yaml"
    text = re.sub(r"^schedule:\n(?: .*\n)+", "", playbook.read_text(), flags=re.MULTILINE)
    playbook.write_text(text + 'schedule:\n  at: "18:00"\n  tz: UTC\n  host: prod\n')
    installed = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False).stdout
    far.server("start")
    try:
        done = far.b2m("schedule", "--db", "ipm", "--write", "--cron")
        assert done.code == 0, done
        assert "settles at boot" in done.out
        again = far.b2m("schedule", "--db", "ipm", "--write", "--cron")
        assert again.code == 0, again
    finally:
        subprocess.run(["crontab", "-"], input=installed, text=True, check=True)
    (line,) = [line for line in far.host.sh("crontab -l").stdout.splitlines() if str(far.prod) in line]
    assert line.startswith("@reboot ")
    with stalled_at(far, "switch:made") as process:
        far.host.reboot()
        cut_off(process)
    far.host.sh(line.removeprefix("@reboot "), check=False, **NO_PATIENCE)
    assert (far.prod / ".b2m" / "ipm" / "journal.jsonl").exists(), "what only the bucket can tell is left to a run"
    assert Journal(far.prod / ".b2m" / "ipm" / "journal.jsonl").pending().switch is None
    assert far.query(far.live(), "PRAGMA integrity_check") == [("ok",)]
    far.server("start")
    done = far.sync()
    assert done.code == 0, done
    done = far.b2m("schedule", "--db", "ipm", "--remove")
    assert str(far.prod) not in far.host.sh("crontab -l", check=False).stdout
