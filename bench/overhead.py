"""Measures what a task costs on another host, beside the tools that people know: ansible-playbook and pyinfra.

    python bench/overhead.py [--tasks 50] [--rounds 5]

Each tool does one and then ``--tasks`` tasks that change nothing, on the same user of the same sshd of this machine;
the difference is what tasks cost, the rest is starting and connecting. It needs root (for that user), an sshd and a
package index: the two others are installed into a folder that is removed again. Exit code 1 if a task of b2m's costs
5 ms or more, or a sync with nothing to do takes 2 s or more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["B2M_TEST_FORKS"] = "0"  # commands start as a user's do

from tests.support.far import FarWorld
from tests.support.sshd import Prod

TASK_BUDGET_MS = 5.0
SYNC_BUDGET_S = 2.0
OTHERS = ("ansible-core", "pyinfra")
Run = Callable[[int], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    host = Prod()
    folder = Path(tempfile.mkdtemp(prefix="b2m-bench-"))
    try:
        host.bootstrap_with_tests_own()
        others = _others(folder)
        runs = {
            "b2m": _b2m(host, folder),
            "ansible-playbook": _ansible(host, folder, others),
            "pyinfra": _pyinfra(host, folder, others),
        }
        measured: dict[str, tuple[float, float]] = {}
        for name, run in runs.items():
            one = _median(run, 1, args.rounds)
            many = _median(run, args.tasks, args.rounds)
            measured[name] = one, 1000 * (many - one) / (args.tasks - 1)
        print(f"| tool | one task, with start and connection | each further task of {args.tasks} |")
        print("|---|---|---|")
        for name, (one, each) in measured.items():
            print(f"| {name} | {one:.2f} s | {each:.1f} ms |")
    finally:
        host.close()
        shutil.rmtree(folder, ignore_errors=True)
    one, each = measured["b2m"]
    return int(each >= TASK_BUDGET_MS or one >= SYNC_BUDGET_S)


def _median(run: Run, tasks: int, rounds: int) -> float:
    """Return the median time in seconds, after one run that warms up."""
    times = []
    for _ in range(rounds + 1):
        began = time.monotonic()
        run(tasks)
        times.append(time.monotonic() - began)
    return statistics.median(times[1:])


def _do(command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _others(folder: Path) -> Path:
    """Install the other tools; return the folder of their commands."""
    subprocess.run([sys.executable, "-m", "venv", folder / "others"], check=True)
    pip = [str(folder / "others" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *OTHERS], check=True)
    return folder / "others" / "bin"


def _b2m(host: Prod, folder: Path) -> Run:
    """Messages in ``up_to_date``: tasks that go through everything that a task goes through, and change nothing."""
    bucket = host.folder / "bucket"
    world = FarWorld(folder / "b2m", host, {"type": "folder", "path": str(bucket)})
    if world.sync().code:
        raise SystemExit("the first sync failed")
    playbook = world.root / "playbooks" / "ipm.yaml"
    text = playbook.read_text()
    marker = "  up_to_date:\n"

    def run(tasks: int) -> None:
        task = "    - name: Say something\n      message: {text: still there}\n"
        playbook.write_text(text.replace(marker, marker + task * tasks))
        done = world.b2m("sync", "--db", "ipm", "--host", "prod")
        if done.code or done.err.count("still there") < tasks:
            raise SystemExit(f"b2m failed: {done}")

    return run


def _ansible(host: Prod, folder: Path, commands: Path) -> Run:
    (folder / "hosts.ini").write_text(
        f"prod ansible_host=127.0.0.1 ansible_port={host.port} ansible_user={host.user} "
        f"ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args='-F {host.config}'\n"
    )

    def run(tasks: int) -> None:
        task = "    - name: Say something\n      ansible.builtin.command: 'true'\n      changed_when: false\n"
        play = f"- hosts: prod\n  gather_facts: false\n  tasks:\n{task * tasks}"
        (folder / "play.yaml").write_text(play)
        environment = {"ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_PIPELINING": "true", "LC_ALL": "C.UTF-8"}
        _do([str(commands / "ansible-playbook"), "-i", "hosts.ini", "play.yaml"], folder, environment)

    return run


def _pyinfra(host: Prod, folder: Path, commands: Path) -> Run:
    (folder / "inventory.py").write_text(f'prod = [("prod", {{"ssh_config_file": {str(host.config)!r}}})]\n')

    def run(tasks: int) -> None:
        lines = [f"server.shell(name='Say something {at}', commands=['true'])" for at in range(tasks)]
        (folder / "deploy.py").write_text("\n".join(["from pyinfra.operations import server", *lines]) + "\n")
        _do([str(commands / "pyinfra"), "-y", "inventory.py", "deploy.py"], folder, {})

    return run


if __name__ == "__main__":
    sys.exit(main())
