"""Installing b2m on another host: done once for real from its package index, once from wheels that were shipped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from b2m import errors
from b2m.remote import bootstrap as module
from b2m.remote import check, wheels
from b2m.remote.bootstrap import Found, agent_command, bootstrap, look, obstacle, version_id
from b2m.remote.channel import PROTOCOL
from b2m.remote.ssh import Ssh
from tests.support import sshd
from tests.support.sshd import Prod

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def host() -> Iterator[Prod]:
    """A host of this file's own, on which nothing is installed yet."""
    if why := sshd.missing():
        pytest.skip(why)
    made = Prod()
    yield made
    made.close()


@pytest.fixture(scope="module")
def installed(host: Prod) -> Prod:
    """The same host after two real bootstraps at once, from the package index that the host's own pip knows.

    Both send everything; one builds, the other finds it built when its turn comes.
    """
    results: list[str] = []

    def one() -> None:
        with Ssh(host.address()) as ssh:
            try:
                results.append(bootstrap(ssh))
            except errors.B2mError as error:
                results.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [version_id()] * 2
    return host


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let this b2m have another id, so that a bootstrap is needed."""
    name = f"{version_id()[:-8]}{os.urandom(4).hex()}"
    monkeypatch.setattr(module, "version_id", lambda: name)
    return name


def versions(host: Prod) -> set[str]:
    return {path.name for path in (host.home / ".b2m" / "versions").iterdir()}


def current(host: Prod) -> str:
    return (host.home / ".b2m" / "current").resolve().name


def leftovers(host: Prod) -> list[str]:
    known = {"versions", "current", "bootstrap.lock"}
    return sorted(path.name for path in (host.home / ".b2m").iterdir() if path.name not in known)


def says_hello(host: Prod) -> bool:
    with Ssh(host.address()) as ssh:
        said = check.hello(ssh)
    return said is not None and said["protocol"] == PROTOCOL


def put_fake(host: Prod, name: str) -> Path:
    """Put a version there that has nothing in it."""
    path = host.home / ".b2m" / "versions" / name
    host.sh(f"mkdir -p '{path}/venv/bin'")
    return path


# -- before --------------------------------------------------------------------------------------------------------


def test_a_host_without_b2m_says_so_and_a_check_asks_for_a_bootstrap(host: Prod) -> None:
    before = host.sh("find . | sort").stdout
    with Ssh(host.address()) as ssh:
        ran = ssh.run(agent_command(), timeout=20)
        assert (ran.code, ran.out) == (127, b"b2m-agent-missing\n")
        report = check.check(ssh)
    assert report.exit_code == 10
    assert report.lines()[0] == "prod  needs: b2m bootstrap --host prod"
    (row,) = [row for row in report.rows if row.level == "missing"]
    assert row == check.Row("b2m", "missing", f"none is installed; here is {version_id()}")
    assert host.sh("find . | sort").stdout == before


def test_the_agent_command_is_understood_by_every_login_shell(host: Prod) -> None:
    shells = [
        path for path in ("/bin/sh", "/bin/bash", "/bin/zsh", "/bin/tcsh", "/usr/bin/fish") if Path(path).exists()
    ]
    for shell in shells:
        ran = subprocess.run([shell, "-c", agent_command()], env={"HOME": "/nonexistent"}, capture_output=True)
        assert (ran.returncode, ran.stdout) == (127, b"b2m-agent-missing\n"), shell


# -- for real ------------------------------------------------------------------------------------------------------


def test_after_a_bootstrap_the_agent_says_hello_and_a_check_is_content(installed: Prod) -> None:
    assert current(installed) == version_id()
    assert leftovers(installed) == []
    with Ssh(installed.address()) as ssh:
        report = check.check(ssh)
        found = {row.name: row for row in report.rows}
        assert report.exit_code == 0
        assert report.lines()[0] == "prod  ready"
        assert found["b2m"].text == f"{version_id()}; its agent starts and speaks protocol {PROTOCOL}"
        # All of it runs there, from its own libraries, and everything is compiled.
        program = "import b2m.api, b2m.sync, b2m.modules, b2m.remote.agent, apsw; "
        program += "print(b2m.api.__file__); print(apsw.__file__)"
        ran = ssh.run(f"~/.b2m/current/venv/bin/python -I -c '{program}'", timeout=60)
    assert [line.startswith(f"{installed.home}/.b2m/") for line in ran.text.splitlines()] == [True, True], ran
    lib = installed.home / ".b2m" / "versions" / version_id() / "lib" / "b2m"
    sources, compiled = list(lib.rglob("*.py")), list(lib.rglob("__pycache__/*.pyc"))
    assert len(sources) == len(compiled) > 50


def test_what_is_installed_there_is_what_runs_here(installed: Prod) -> None:
    lib = installed.home / ".b2m" / "versions" / version_id() / "lib" / "b2m"
    there = {path.relative_to(lib): path.read_bytes() for path in lib.rglob("*") if path.is_file()}
    here = {path.relative_to(module.PACKAGE): path.read_bytes() for path in module._files()}
    assert {path: data for path, data in there.items() if "__pycache__" not in path.parts} == here
    folder = installed.home / ".b2m"
    assert [path for path in (folder, folder / "versions", lib) if path.stat().st_mode & 0o077] == []


def test_a_second_bootstrap_changes_nothing(installed: Prod) -> None:
    before = installed.sh("find .b2m -printf '%p %i %T@\\n' | sort").stdout
    with Ssh(installed.address()) as ssh:
        heard: list[str] = []
        assert bootstrap(ssh, tell=heard.append) == version_id()
    assert heard == [f"b2m {version_id()} is there already"]
    assert installed.sh("find .b2m -printf '%p %i %T@\\n' | sort").stdout == before


def test_offline_the_wheels_are_shipped_and_no_index_or_pip_is_needed_there(
    installed: Prod, another: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever the host's pip would ask is not there.
    nothing = "[global]\\nretries = 0\\nindex-url = http://127.0.0.1:1/\\n"
    installed.sh(f"mkdir -p .config/pip; printf '{nothing}' > .config/pip/pip.conf")
    first = version_id()
    with Ssh(installed.address()) as ssh:
        with pytest.raises(errors.HostUnreachable) as raised:
            bootstrap(ssh)
        assert str(raised.value).startswith("host prod: b2m was not installed: could not install the packages: ERROR: ")
        assert str(raised.value).endswith("; if it has no package index: b2m bootstrap --host prod --offline")
        assert (current(installed), leftovers(installed)) == (first, [])
        assert says_hello(installed)
        assert bootstrap(ssh, offline=True) == another
    assert current(installed) == another
    assert leftovers(installed) == []
    assert says_hello(installed)
    assert {first, another} <= versions(installed)
    installed.sh("rm -r .config/pip")


def test_a_bootstrap_that_is_cut_off_leaves_the_old_version_working(installed: Prod, another: str) -> None:
    assert leftovers(installed) == []
    before = current(installed)

    def reboot_in_the_middle() -> None:
        while not list(installed.home.glob(".b2m/.new-*/venv/lib/python3*/site-packages/*")):
            time.sleep(0.01)
        installed.reboot()

    rebooting = threading.Thread(target=reboot_in_the_middle)

    def tell(text: str) -> None:
        if text.startswith("setting it up there"):
            rebooting.start()

    with Ssh(installed.address()) as ssh, pytest.raises(errors.HostUnreachable, match="the connection was lost during"):
        bootstrap(ssh, tell=tell)
    rebooting.join()
    assert current(installed) == before
    assert says_hello(installed)
    # What it left is swept by a later bootstrap, once it is surely nobody's any more.
    (left,) = leftovers(installed)
    with Ssh(installed.address()) as ssh:
        run_installer(ssh, before, "none")
        assert leftovers(installed) == [left]
        installed.sh(f"touch -d '2 days ago' .b2m/{left}")
        run_installer(ssh, before, "none")
        assert leftovers(installed) == []


def test_three_versions_are_kept_and_those_from_which_something_runs(installed: Prod) -> None:
    """Whatever is pruned here is a fake; the current one is real."""
    now = current(installed)
    old = [f"0.0.{number}-abcdef01" for number in range(4)]
    for age, name in enumerate(reversed(old), 1):
        path = put_fake(installed, name)
        installed.sh(
            f"cp /bin/sleep '{path}/venv/bin/python'; touch -d '{age} days' '{path}'".replace("days'", "days ago'")
        )
    used = f"{installed.home}/.b2m/versions/{old[0]}/venv/bin/python"
    sleeper = subprocess.Popen([used, "60"])
    try:
        with Ssh(installed.address()) as ssh:
            run_installer(ssh, now, "none")
    finally:
        sleeper.kill()
        sleeper.wait()
    others = {name for name in versions(installed) if name not in old and name != now}
    kept = versions(installed)
    assert {now, old[0]} <= kept
    assert len(kept) == 4
    assert len(others) + len(kept & set(old)) == 3


def run_installer(ssh: Ssh, name: str, token: str) -> str:
    """Run the installer there for a version that is there already."""
    ran = ssh.run(f"python3 -I - {name} {token} online", timeout=60, input=module._script("host_install.py"))
    assert ran.code == 0, ran
    return ran.text


# -- what stands in its way ----------------------------------------------------------------------------------------

GOOD = Found(
    python="/usr/bin/python3",
    version=(3, 12, 1),
    machine="x86_64",
    platform="linux",
    libc=("glibc", "2.36"),
    venv=True,
    ensurepip=True,
    sqlite="3.51.3",
    home="/home/deploy",
    writable=True,
    free=200_000_000,
    current=None,
    kills=False,
)


def test_a_good_host_has_no_obstacle() -> None:
    assert obstacle(GOOD) is None


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "it has no Python; install 3.11 or newer there (Debian: apt-get install python3 python3-venv)"),
        (replace(GOOD, version=(3, 9, 2)), "its Python is 3.9.2; install 3.11 or newer there, beside it is enough"),
        (
            replace(GOOD, venv=False),
            "its /usr/bin/python3 makes no virtual environments; install python3-venv there",
        ),
        (replace(GOOD, platform="darwin"), "it runs darwin; hosts run Linux"),
        (
            replace(GOOD, writable=False),
            "/home/deploy is not writable there; give this user a home folder, b2m lives in its .b2m",
        ),
        (replace(GOOD, free=99_000_000), "/home/deploy has 99MB free, b2m needs 150MB; make room there"),
    ],
)
def test_what_stands_in_the_way_is_told_in_one_line_and_nothing_is_sent(
    host: Prod, monkeypatch: pytest.MonkeyPatch, found: Found | None, says: str
) -> None:
    monkeypatch.setattr(module, "look", lambda ssh: found)
    monkeypatch.setattr(check, "look", lambda ssh: found)
    before = host.sh("find . | sort").stdout
    with Ssh(host.address()) as ssh:
        with pytest.raises(errors.HostUnreachable) as raised:
            bootstrap(ssh)
        report = check.check(ssh)
    assert str(raised.value) == f"host prod: {says}"
    assert host.sh("find . | sort").stdout == before
    assert report.exit_code == 5
    assert report.lines()[0] == "prod  b2m cannot work there"
    assert [row.text for row in report.rows if row.level == "bad"] == [says]


@pytest.mark.parametrize(
    ("pythons", "says"),
    [
        ({}, "it has no Python; install"),
        ({"python3": (3, 9, 2)}, "its Python is 3.9.2; install 3.11 or newer there"),
        ({"python3": (3, 9, 2), "python3.13": (3, 13, 0)}, None),
    ],
)
def test_the_right_python_is_found_among_those_of_a_host(
    host: Prod, tmp_path: Path, pythons: dict[str, tuple[int, int, int]], says: str | None
) -> None:
    """The host's PATH has nothing but these; each says to be of another version."""
    folder = host.home / "bin"
    host.sh(f"rm -rf '{folder}'; mkdir '{folder}'")
    for name, version in pythons.items():
        wrapper = folder / name
        wrapper.write_text(FAKE_PYTHON.format(version=version))
        wrapper.chmod(0o755)
    with host.configured(more=f'SetEnv "PATH={folder}"'), Ssh(host.address()) as ssh:
        why = obstacle(look(ssh))
    assert (why is None) == (says is None)
    assert (why or "").startswith(says or "")


FAKE_PYTHON = """\
#!/usr/bin/python3
import sys
code = sys.stdin.read() if sys.argv[-1] == "-" else sys.argv[-1]
sys.version_info = {version}
exec(code)
"""


def test_a_home_that_cannot_be_written_is_found_out(host: Prod) -> None:
    host.sh("chmod 500 .; test ! -e .b2m || chmod 500 .b2m")
    try:
        with Ssh(host.address()) as ssh:
            found = look(ssh)
    finally:
        host.sh("chmod 700 .; test ! -e .b2m || chmod 700 .b2m")
    assert found is not None
    assert (found.writable, found.home) == (False, str(host.home))


def test_a_login_that_talks_does_not_confuse_the_look(host: Prod) -> None:
    talk = 'ForceCommand echo Welcome; eval "$SSH_ORIGINAL_COMMAND"'
    with host.configured(more=talk), Ssh(host.address()) as ssh:
        assert ssh.run("true", timeout=20).text == "Welcome"
        found = look(ssh)
    assert found is not None
    assert found.home == str(host.home)


def test_a_full_disk_is_told_before_anything_is_sent(host: Prod) -> None:
    """A small file system of its own is the host's ~/.b2m."""
    base = host.home / ".b2m"
    kept = host.home / ".b2m-kept"
    host.sh("test ! -e .b2m || mv .b2m .b2m-kept; mkdir .b2m")
    options = f"size=20m,uid={host.uid}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", base], capture_output=True).returncode != 0:
        host.sh("rmdir .b2m; test ! -e .b2m-kept || mv .b2m-kept .b2m")
        pytest.skip("a small file system cannot be mounted here")
    try:
        with Ssh(host.address()) as ssh, pytest.raises(errors.HostUnreachable) as raised:
            bootstrap(ssh)
        assert str(raised.value) == f"host prod: {host.home} has 21MB free, b2m needs 150MB; make room there"
        assert list(base.iterdir()) == []
    finally:
        subprocess.run(["umount", base], check=True)
        host.sh("rmdir .b2m")
        if kept.exists():
            host.sh("mv .b2m-kept .b2m")


# -- checks, wheels, locks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        *((old, False) for old in ("3.7.0", "3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.2")),
        *((good, True) for good in ("3.6.23", "3.44.6", "3.44.7", "3.50.7", "3.51.3", "3.52.0", "4.0.0")),
    ],
)
def test_releases_of_sqlite_with_the_wal_reset_bug_are_known(version: str, safe: bool) -> None:
    assert check.wal_is_safe(version) is safe


def test_a_host_that_kills_what_a_login_leaves_is_told_about_it(host: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "look", lambda ssh: replace(GOOD, kills=True, sqlite="3.40.1"))
    with Ssh(host.address()) as ssh:
        report = check.check(ssh)
    notes = {row.name: row.text for row in report.rows if row.level == "note"}
    assert notes == {
        "sqlite": "3.40.1 has the WAL-reset bug; the server there should use 3.51.3, 3.50.7 or 3.44.6",
        "systemd": "KillUserProcesses=yes would kill the guard of a run that was cut off; "
        "run there: loginctl enable-linger",
    }


def test_the_tags_of_wheels_that_run_on_a_c_library() -> None:
    assert wheels.platforms("aarch64", ("glibc", "2.18")) == [
        *(f"manylinux_2_{minor}_aarch64" for minor in range(18, 4, -1)),
        *(f"manylinux{name}_aarch64" for name in (2014, 2010, 1)),
    ]
    assert wheels.platforms("x86_64", ("", "")) == []


def test_the_hosts_pins_are_those_of_the_package() -> None:
    here, there = pins(ROOT / "requirements.lock"), pins(module.LOCK)
    assert len(there) > 10
    assert {name: here.get(name) for name in there} == there
    asked = (ROOT / "src/b2m/remote/host.in").read_text().splitlines()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(asked) <= set(declared)
    assert {re.split("[<>=]", line)[0] for line in asked} <= set(there)
    assert set(pins(module.PIP)) == {"pip"}


def pins(lock: Path) -> dict[str, tuple[str, ...]]:
    """Each package of a lock file with its version and hashes."""
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    return {entry.partition("==")[0]: tuple(entry.partition("==")[2].split()) for entry in entries}


# -- the command ---------------------------------------------------------------------------------------------------

INVENTORY = """\
buckets:
  main:
    type: s3
    url: s3://databases
    key_id: $B2M_TEST_KEY_ID
    key: $B2M_TEST_KEY
databases:
  ipm:
    file: ipm-db-v{version}.db
    key: ipmdb
    bucket: main
groups:
  all:
    hosts:
      prod:
        connection: ssh
        folder: dbs
        databases:
          ipm: {}
      here:
        folder: dbs
        databases:
          ipm: {}
"""


def b2m(host: Prod, project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (project / "inventory.yaml").write_text(INVENTORY)
    command = [sys.executable, "-m", "b2m", "bootstrap", *words]
    environment = {**os.environ, **host.environment}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)


def test_the_command_checks_and_installs(installed: Prod, tmp_path: Path) -> None:
    with Ssh(installed.address()) as ssh:
        run_installer(ssh, version_id(), "none")
    ran = b2m(installed, tmp_path, "--host", "prod", "--check")
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (0, "prod  ready")
    ran = b2m(installed, tmp_path, "--host", "prod", "--check", "--json")
    said = json.loads(ran.stdout)
    assert (said["type"], said["host"], said["exit_code"]) == ("bootstrap_check", "prod", 0)
    ran = b2m(installed, tmp_path, "--host", "prod")
    assert (ran.returncode, ran.stdout) == (0, f"prod  b2m {version_id()} is ready\n")
    assert ran.stderr == f"b2m: prod: b2m {version_id()} is there already\n"
    os.rename(installed.home / ".b2m" / "current", installed.home / ".b2m" / "hidden")
    try:
        ran = b2m(installed, tmp_path, "--host", "prod", "--check")
    finally:
        os.rename(installed.home / ".b2m" / "hidden", installed.home / ".b2m" / "current")
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (10, "prod  needs: b2m bootstrap --host prod")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 1, "b2m: name a host; with connection: ssh: prod\n"),
        (("--host", "nowhere"), 1, "b2m: there is no host nowhere; with connection: ssh: prod\n"),
        (("--host", "here"), 1, "b2m: here is not reached by SSH; with connection: ssh: prod\n"),
    ],
)
def test_a_wrong_host_is_named(host: Prod, tmp_path: Path, words: tuple[str, ...], code: int, says: str) -> None:
    ran = b2m(host, tmp_path, *words)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", says)


def test_a_host_that_is_away_is_exit_code_5(host: Prod, tmp_path: Path) -> None:
    host.stop()
    try:
        ran = b2m(host, tmp_path, "--host", "prod", "--check")
    finally:
        host.start()
    assert (ran.returncode, ran.stdout) == (5, "")
    assert ran.stderr.startswith(f"b2m: host prod: nothing listens at 127.0.0.1 port {host.port} (connection refused)")
