"""The demo host: made on first use, its server started, everything removed by a reset."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from b2m import errors
from b2m.buckets import open_bucket
from b2m.buckets.marker import init_bucket
from b2m.demo.build import create_demo
from b2m.journal import Journal
from b2m.project import Project, Target

SERVER = Path("examples") / "server" / "server.py"


def ensure(target: Target) -> None:
    """Make the demo's databases and bucket unless they are there, and start its server unless it runs.

    A member's folder is made empty: the first sync fills it. A server that some run holds stopped, or whose hold a
    guard or the next run has yet to settle, is not started.
    """
    root = target.folder.parents[1]
    bucket = Path(target.bucket["path"])
    production = create_demo(root)
    target.folder.mkdir(parents=True, exist_ok=True)
    if not (bucket / "b2m.json").exists() and not bucket.exists():
        init_bucket(open_bucket(target.bucket))
    if not _running(root / "prod" / "state") and not _held(production):
        server(target.root, root, "start")


def server(project: Path, root: Path, *words: str) -> None:
    """Run a command of the demo's server; TaskFailed with its last line if it does not work."""
    folders = ("--folder", str(root / "prod" / "dbs"), "--state", str(root / "prod" / "state"))
    command = [sys.executable, str(project / SERVER), *folders, *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise errors.TaskFailed(what=f"the demo's server: {said[-1] if said else 'no word of why'}")


def reset(project: Project) -> None:
    """Stop the demo's server and remove all that the demo made."""
    root = demo_root(project)
    if (root / "prod" / "state").is_dir():
        server(project.root, root, "stop")
    shutil.rmtree(root, ignore_errors=True)


def demo_root(project: Project) -> Path:
    """Return the demo's folder; UsageError for a project without a demo host."""
    for name, host in project.hosts.items():
        if host.file.demo:
            return project.target(project.databases[0], name).folder.parents[1]
    raise errors.UsageError(what="this project has no demo host: inventory.yaml gives none `demo: true`")


def port(root: Path) -> int | None:
    """Return the port of the demo's running server, None if it does not run."""
    try:
        data = json.loads((root / "prod" / "state" / "server.json").read_bytes())
        return int(data["port"])
    except (OSError, ValueError, KeyError):
        return None


def _running(state: Path) -> bool:
    found = port(state.parents[1])
    if found is None:
        return False
    try:
        socket.create_connection(("127.0.0.1", found), timeout=1).close()
    except OSError:
        return False
    return True


def _held(folder: Path) -> bool:
    for lock in folder.glob(".b2m/*/lock"):
        if Journal(lock.with_name("journal.jsonl")).pending().hold is not None:
            return True
        handle = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False
