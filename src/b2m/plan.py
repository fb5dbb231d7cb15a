"""What a run would do, computed from facts alone: ``plan`` and ``--check`` show it, ``sync`` does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from b2m.facts import Facts
from b2m.modules.base import Module
from b2m.project import Target, Task


@dataclass(frozen=True)
class Step:
    """One task of a plan; ``depth`` is how many blocks it is in, ``skip`` why it would do nothing."""

    name: str
    module: str
    depth: int
    skip: str | None


def plan(target: Target, tasks: Iterable[Task], facts: Facts, observed: Mapping[str, Any]) -> list[Step]:
    """Return the steps of a scenario in order; a task's ``when`` is judged by the facts before the run."""
    return list(_steps(target, tasks, facts, observed, 0))


def work_in(steps: Iterable[Step]) -> bool:
    """Tell whether a plan does anything."""
    return any(step.skip is None for step in steps)


def _steps(
    target: Target, tasks: Iterable[Task], facts: Facts, observed: Mapping[str, Any], depth: int
) -> Iterable[Step]:
    for task in tasks:
        if not target.applies(task, observed):
            yield Step(task.name, task.module, depth, f"when {task.when}")
            continue
        if task.model is None:
            target.check_arguments(task, observed)
            yield from _steps(target, task.block, facts, observed, depth)
            continue
        module = target.render(task, observed)
        assert isinstance(module, Module)
        yield Step(task.name, task.module, depth, module.skip(facts))
        yield from _steps(target, task.block, facts, observed, depth + 1)
