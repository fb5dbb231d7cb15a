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
    """Return the steps of a scenario in order, each judged by what the tasks before it will make of the facts."""
    return _Planner(target, facts, observed).steps(tasks, 0)


def work_in(steps: Iterable[Step]) -> bool:
    """Tell whether a plan does anything but tell of it."""
    return any(step.skip is None and step.module != "message" for step in steps)


class _Planner:
    def __init__(self, target: Target, facts: Facts, observed: Mapping[str, Any]) -> None:
        self._target = target
        self._facts = facts
        self._observed = observed

    def steps(self, tasks: Iterable[Task], depth: int) -> list[Step]:
        found: list[Step] = []
        for task in tasks:
            if not self._target.applies(task, self._observed):
                found.append(Step(task.name, task.module, depth, f"when {task.when}"))
            elif task.model is None:
                self._target.check_arguments(task, self._observed)
                found += self.steps(task.block, depth)
            else:
                module = self._target.render(task, self._observed)
                assert isinstance(module, Module)
                skip = module.skip(self._facts)
                found.append(Step(task.name, task.module, depth, skip))
                if skip is None:
                    self._facts = module.foresee(self._facts)
                    self._observed = {**self._observed, **self._facts.named()}
                found += self.steps(task.block, depth + 1)
        return found
