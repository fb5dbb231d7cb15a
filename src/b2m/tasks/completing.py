"""What a shell may offer for the next word; the shell keeps what begins like the word that is being typed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from invoke.collection import Collection
from invoke.tasks import Task

from b2m.errors import B2mError
from b2m.tasks.argv import OLD_SPELLINGS, flags_of, join_nested, takes_names


def candidates(words: list[str], namespace: Collection) -> list[str]:
    """Return what can stand in place of the last of ``words``, or after it: the shell does not say which is meant.

    Nothing means names of files, which the shell then offers.
    """
    if not words:
        return _verbs(namespace)
    if words[0] in OLD_SPELLINGS:
        words = [words[0].removeprefix("--"), *words[1:]]
    if words[0] in namespace.collections and len(words) <= 2:
        return sorted(namespace.collections[words[0]].tasks) + (_verbs(namespace) if len(words) == 1 else [])
    words = join_nested(["b2m", *words], namespace)[1:]
    if words[0] not in namespace.task_names:
        return _verbs(namespace) if len(words) == 1 else []
    found = _of_task(words[1:], namespace[words[0]])
    return [*found, *_verbs(namespace)] if len(words) == 1 else found


def _verbs(namespace: Collection) -> list[str]:
    return sorted({*namespace.task_names, *namespace.collections})


def _of_task(words: list[str], task: Task[Any]) -> list[str]:
    flags = flags_of(task)
    last, before = (["", "", *words])[-1], (["", "", *words])[-2]
    for word in (last, before):
        # After a flag that takes a value nothing else may come.
        if flags.get(word) and (word == last or not last.startswith("-")):
            after = [] if word == last else [*sorted(flags), *(_databases(words) if takes_names(task) else ())]
            return [*_values(word, words), *after]
    return [*sorted(flags), *(_databases(words) if takes_names(task) else ())]


def _values(flag: str, words: list[str]) -> Iterable[str]:
    if flag == "--db":
        return [*_databases(words), "all"]
    return _hosts(words) if flag == "--host" else ()


def _databases(words: list[str]) -> list[str]:
    found = _project(words)
    return list(found.databases) if found is not None else []


def _hosts(words: list[str]) -> list[str]:
    found = _project(words)
    return sorted(found.hosts) if found is not None else []


def _project(words: list[str]) -> Any:
    from b2m import api

    named = dict(pairwise(words)).get("--project")
    try:
        return api.project(os.path.expanduser(named) if named else None)  # noqa: PTH111 - a text, as flags are
    except (B2mError, OSError):
        return None  # whoever is typing has other worries
