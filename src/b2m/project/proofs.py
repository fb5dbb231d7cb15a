"""Which files the tasks of a state make, and what is proven of them before one goes live or is published.

The modules refuse the same when they run; there it is the middle of the night, and the server may be away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from b2m.project import templates
from b2m.project.problems import Problems
from b2m.project.tasks import HOLD, Task, walk

_EXCHANGES = frozenset({"swap", "rename", "shell"})
_MAKES = frozenset({"download", "snapshot"})
_LIVE = "live"
_COPY = "ours"  # the snapshot that a replay from live starts from, where it does not say
ALL = frozenset({"integrity", "foreign_keys", "rows"})


def check_proofs(tasks: Iterable[Task], wrong: Problems, odd: Problems) -> None:
    """Note files that nothing makes or proves in full, and holds that take the server away for no reason.

    A condition is taken to hold and a value that only a run knows to be right.
    """
    made: set[Any] = set()
    copies: set[Any] = set()  # made by a snapshot
    proven: dict[Any, frozenset[str]] = {}
    replayed: set[Any] = set()
    stale: set[Any] = set()  # verified, and then changed
    for task, _ in walk(tasks):
        if task.module == HOLD and _EXCHANGES.isdisjoint(inner.module for inner, _ in walk(task.block)):
            odd.add(task.at, "this hold takes the database away and exchanges nothing: no swap or rename is in it")
        if task.model is None:
            continue
        for name in _used(task):
            if not templates.has_templates((name, *made)) and name not in made:
                wrong.add(task.at, f"no task before this one makes a file named {name}: download or snapshot does")
        if task.module == "replay":
            key, name = _origin(task)
            if name in made - copies and not templates.has_templates((name, *made)):
                at = task.source.at("replay", key)
                wrong.add(at, f"{name} is no snapshot: a replay needs the name of a file that a snapshot task made")
        file = _argument(task, "file")
        if task.module in _MAKES:
            name = _argument(task, "as")
            made.add(name)
            (copies.add if task.module == "snapshot" else copies.discard)(name)
            replayed.discard(name)
            if proven.pop(name, None) is not None:
                stale.add(name)
        elif task.module == "replay" and _argument(task, "from") != _LIVE:
            onto = _argument(task, "onto")
            replayed.add(onto)
            if proven.pop(onto, None) is not None:
                stale.add(onto)
        elif task.module == "verify":
            checks = _argument(task, "checks")
            unknown = templates.has_templates((checks, file)) or not isinstance(checks, list | tuple)
            proven[file] = proven.get(file, frozenset()) | (ALL if unknown else frozenset(checks))
        elif task.module in ("swap", "upload") and not templates.has_templates((file, *proven)):
            needed = {"integrity"} if task.module == "upload" else {"integrity", "foreign_keys"}
            needed |= {"rows"} if task.module == "swap" and file in replayed else set()
            lacking = ", ".join(sorted(needed - proven.get(file, frozenset())))
            if lacking and file in proven:
                wrong.add(task.at, f"{task.module} needs more checks in the verify of {file} before it: {lacking}")
            elif lacking and file in stale:
                wrong.add(task.at, f"{task.module} needs a verify of {file} after what last changed it: {lacking}")


def _used(task: Task) -> list[Any]:
    """The files of the work folder that a task reads or changes."""
    if task.module in ("verify", "swap", "upload"):
        return [_argument(task, "file")]
    if task.module != "replay":
        return []
    return [_origin(task)[1], _argument(task, "onto")]


def _origin(task: Task) -> tuple[str, Any]:
    """The snapshot that a replay starts from, and the argument that names it."""
    source = _argument(task, "from")
    if source != _LIVE:
        return "from", source
    since = _argument(task, "since")
    return ("since", since) if since else ("from", _COPY)


def _argument(task: Task, key: str) -> Any:
    """An argument as written, or its default."""
    if key in task.args:
        return task.args[key]
    assert task.model is not None
    for name, field in task.model.model_fields.items():
        if (field.alias or name) == key and not field.is_required():
            return field.get_default(call_default_factory=True)
    return None
