"""Command lines as people type them, rewritten to Invoke's: nested verbs, and databases without ``--db``.

``b2m bucket init`` becomes ``b2m bucket.init``, ``b2m status ipm`` becomes ``b2m status --db ipm``, and the first
spelling of these commands, ``b2m --upload ipm emoji``, still works. What is not understood stays as it is, so that
Invoke refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from invoke.collection import Collection
from invoke.tasks import Task

OLD_SPELLINGS = ("--status", "--upload", "--download")
RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,}")


def rewritten(argv: list[str], namespace: Collection | None) -> list[str]:
    """Return a command line that Invoke understands; ``argv[0]`` is the program."""
    if namespace is None or len(argv) < 2:
        return argv
    if argv[1] in OLD_SPELLINGS:
        argv = [argv[0], argv[1].removeprefix("--"), *argv[2:]]
    argv = join_nested(argv, namespace)
    if argv[1] not in namespace.task_names:
        return argv
    words = list(_flagged(argv[2:], namespace[argv[1]]))
    return argv if None in words else [*argv[:2], *(word for word in words if word is not None)]


def join_nested(argv: list[str], namespace: Collection | None) -> list[str]:
    """Join the words of a nested task to Invoke's dotted name."""
    if namespace is None or len(argv) < 3:
        return argv
    group, verb = argv[1], argv[2]
    if group in namespace.collections and verb in namespace.collections[group].tasks:
        return [argv[0], f"{group}.{verb}", *argv[3:]]
    return argv


def flags_of(task: Task[Any]) -> dict[str, bool]:
    """Return a task's flags as they are typed, and whether each takes a value."""
    return {
        f"--{name}" if len(name) > 1 else f"-{name}": bool(argument.takes_value)
        for argument in task.get_arguments(ignore_unknown_help=True)
        for name in argument.names
    }


def takes_names(task: Task[Any]) -> bool:
    """Tell whether a bare word after a task can be a database's name."""
    return not task.positional and "--db" in flags_of(task)


def _flagged(words: list[str], task: Task[Any]) -> Iterator[str | None]:
    """Yield a task's words with a flag before each bare one; None if a flag among them is unknown."""
    flags = flags_of(task)
    names = takes_names(task)
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            if names:
                yield "--id" if RUN_ID.fullmatch(word) and "--id" in flags else "--db"
            yield word
            continue
        flag, joined, _ = word.partition("=")
        if flag not in flags and not flag.startswith("--") and flag[:2] in flags:
            flag, joined = flag[:2], "="  # a short flag with its value behind it: -ename=value
        if flag not in flags:
            yield None
            return
        yield word
        if flags[flag] and not joined:
            yield from (value for value in [next(left, None)] if value is not None)
