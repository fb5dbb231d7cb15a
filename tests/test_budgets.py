"""What b2m may cost: time to start, modules loaded, and the one direction in which its layers may know each other."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.settings import slowness
from tests.support.world import World

pytestmark = pytest.mark.alone

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "b2m"
HEAVY = ("apprise", "fabric", "paramiko", "b2sdk", "obstore", "boto3", "botocore")


def fastest(command: list[str], cwd: Path | None = None) -> float:
    """Return the shortest time of five runs in seconds: what the machine's other work adds is not b2m's.

    On a machine that is busy all the time it is the processor time, which waiting does not add to.
    """
    times: list[float] = []
    for _ in range(5):
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=cwd, capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        busy = os.getloadavg()[0] > (os.cpu_count() or 1)
        times.append(worked if busy else time.monotonic() - began)
    return min(times)


def test_listing_the_tasks_takes_less_than_half_a_second() -> None:
    assert fastest([sys.executable, "-m", "b2m", "--list"]) < 0.5 * slowness()


def test_a_sync_with_nothing_to_do_takes_less_than_a_second(world: World) -> None:
    with world.serving():
        assert world.sync().code == 0
        assert world.sync().recap["before"] == "up_to_date"
        assert fastest(world.command("sync", "--db", "ipm", "--host", "prod"), world.root) < 1.0 * slowness()


def test_the_api_is_imported_in_less_than_a_third_of_a_second() -> None:
    assert fastest([sys.executable, "-c", "import b2m.api"]) < 0.3 * slowness()


@pytest.mark.parametrize("statement", ["import b2m.api", "import b2m.tasks", "import b2m.sync, b2m.commands"])
def test_no_store_or_ssh_library_is_loaded_unasked(statement: str) -> None:
    program = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(HEAVY)
    if statement == "import b2m.api":
        assert "invoke" not in loaded


def test_what_a_playbook_may_say_is_known_without_what_does_it() -> None:
    program = "import b2m.modules, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert [name for name in loaded if name.startswith(("apsw", "b2m.sqlite", "b2m.versions", "b2m.buckets"))] == []


def test_nothing_is_left_to_load_in_a_hold() -> None:
    """What modules load when they work is there when a run begins: no disk is needed for it while a server waits."""
    late = {
        name
        for file in (PACKAGE / "modules").glob("*.py")
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        if (PACKAGE.parent / f"{name.replace('.', '/')}.py").exists()
    }
    assert "b2m.hosts.swapping" in late
    program = "import b2m.sync, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert late - set(loaded) == set()


# -- layers --------------------------------------------------------------------------------------------------------

# What a layer may know, beside itself. Words that all layers share (errors, wording, faults, events) are no layer.
SHARED = frozenset({"errors", "secrets", "wording", "faults", "failures", "events", "object_names", "terminal"})
BOTTOM = frozenset[str]()
VERSIONS = BOTTOM | {"buckets"}
HOSTS = VERSIONS | {"versions", "sqlite", "journal", "facts"}
PROJECT = BOTTOM
PLAN = HOSTS | {"hosts", "modules", "project", "state", "run"}
ENGINE = PLAN | {"plan", "report", "engine", "opening", "signals"}
LOOKING = {"records", "overview", "rehearsal", "printing", "ensuring", "doctor", "contract", "importing"}
API = ENGINE | {"messages", "schedule", "sync", "commands", "adoption", "ending", "looking", "demo", "api"} | LOOKING

MAY_KNOW = {
    "errors": BOTTOM,
    "wording": HOSTS,
    "faults": BOTTOM,
    "failures": BOTTOM,
    "events": BOTTOM,
    "object_names": BOTTOM,
    "secrets": BOTTOM,
    "messages": BOTTOM,
    "sqlite": BOTTOM,
    "buckets": BOTTOM,
    "journal": BOTTOM,
    "signals": BOTTOM,
    "project": PROJECT,
    "versions": VERSIONS,
    "hosts": HOSTS,
    "facts": VERSIONS | {"hosts", "versions"},
    "state": HOSTS | {"hosts"},
    "run": HOSTS | {"hosts", "project", "signals"},
    "modules": HOSTS | {"hosts", "run", "project"},
    "plan": PLAN,
    "terminal": BOTTOM,
    "records": HOSTS | {"hosts"},
    "report": HOSTS | {"plan", "state"},
    "engine": PLAN | {"modules"},
    "opening": ENGINE,
    "ending": ENGINE | {"records"},
    "adoption": ENGINE | {"ending"},
    "looking": ENGINE,
    "sync": ENGINE | {"adoption", "ending"},
    "commands": ENGINE | {"adoption", "ending", "sync"},
    "overview": ENGINE | {"records"},
    "rehearsal": ENGINE | {"records", "sync"},
    "printing": ENGINE | {"records", "overview", "rehearsal"},
    "ensuring": ENGINE | {"commands"},
    "doctor": ENGINE | {"records", "overview", "sync"},
    "contract": ENGINE,
    "schedule": PROJECT | {"project"},
    "importing": ENGINE,
    "demo": API,
    "api": API | {"remote"},
    "remote": API,
    "review": PROJECT | {"project", "modules"},
    "tasks": API | {"review", "remote"},
}


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _known(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the first name below b2m of each import, also of those in functions and for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names if name.name.partition(".")[0] == "b2m")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            if node.module == "b2m":
                yield from ((node.lineno, f"b2m.{name.name}") for name in node.names)
            elif node.module is not None and node.module.startswith("b2m."):
                yield node.lineno, node.module


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.name.startswith("__"))


def test_arrows_between_the_layers_point_one_way() -> None:
    wrong = []
    for path in _modules():
        layer = _layer(path)
        assert layer in MAY_KNOW, f"{layer} is new: say in MAY_KNOW what it may know"
        for line, name in _known(path):
            other = name.split(".")[1]
            if other in ("__version__", layer) or other in SHARED or other in MAY_KNOW[layer]:
                continue
            wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {layer} must not know {other}")
    assert wrong == []


def test_sqlite_knows_nothing_of_b2m_but_its_errors() -> None:
    known = {name for path in _modules() if _layer(path) == "sqlite" for _, name in _known(path)}
    assert {name for name in known if not name.startswith("b2m.sqlite")} <= {"b2m.errors"}


def test_only_the_tasks_know_invoke_and_nothing_knows_the_standard_sqlite() -> None:
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.partition(".")[0] for name in names}
            assert "sqlite3" not in tops, f"{path}: two copies of SQLite must not open one file"
            assert "invoke" not in tops or _layer(path) == "tasks", path
