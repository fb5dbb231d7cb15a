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
SHARED = ("--project", "--db", "--host", "-e", "--set")
RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,}")


def rewritten(argv: list[str], namespace: Collection | None) -> list[str]:
    """Return a command line that Invoke understands; ``argv[0]`` is the program."""
    if namespace is None or len(argv) < 2:
        return argv
    if argv[1] in OLD_SPELLINGS:
        argv = [argv[0], argv[1].removeprefix("--"), *argv[2:]]
    if argv[1] == "help":
        named = join_nested([argv[0], *argv[2:]], namespace)
        argv = [argv[0], "--help", *named[1:]]
    argv = join_nested(_verb_first(argv), namespace)
    if argv[1] not in namespace.task_names:
        return argv
    words = list(_flagged(argv[2:], namespace[argv[1]]))
    return argv if None in words else [*argv[:2], *(word for word in words if word is not None)]


def _verb_first(argv: list[str]) -> list[str]:
    """Put flags of tasks that stand before the task to the end; Invoke would take -e for one of its own."""
    at = 1
    while at + 1 < len(argv) and argv[at].partition("=")[0] in SHARED:
        if argv[at] == "-e" and "=" not in argv[at + 1]:
            break
        at += 1 if argv[at].startswith("--") and "=" in argv[at] else 2
    return [argv[0], *argv[at:], *argv[1:at]] if 1 < at < len(argv) else argv


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
    texts = dict(task.help)
    arguments = task.get_arguments(ignore_unknown_help=True)
    task.help = texts  # Invoke hands each text out once, and the first to ask need not be the one that prints it
    return {
        f"--{name}" if len(name) > 1 else f"-{name}": bool(argument.takes_value)
        for argument in arguments
        for name in argument.names
    }


def takes_names(task: Task[Any]) -> bool:
    """Tell whether a bare word after a task can be a database's name."""
    flags = flags_of(task)
    return "--db" in flags and "--folder" not in flags


def _flagged(words: list[str], task: Task[Any]) -> Iterator[str | None]:
    """Yield a task's words with a flag before each bare one; None if a flag among them is unknown."""
    flags = flags_of(task)
    bare = "--db" if takes_names(task) else "--folder" if "--folder" in flags else None
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            if bare is not None:
                yield "--id" if RUN_ID.fullmatch(word) and "--id" in flags else bare
            yield word
            continue
        flag, joined, _ = word.partition("=")
        if flag not in flags and not flag.startswith("--") and flags.get(flag[:2]):
            yield flag[:2]  # a short flag with its value behind it: -ename=value
            yield word[2:]
            continue
        if flag not in flags:
            yield None
            return
        yield word
        if flags[flag] and not joined:
            yield from (value for value in [next(left, None)] if value is not None)
