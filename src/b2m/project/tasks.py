"""Tasks, roles and playbooks, as a run reads them: roles put in place, every task with its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from b2m.errors import InvalidProject
from b2m.project import scope as scopes
from b2m.project.arguments import Arguments
from b2m.project.models import Policy
from b2m.project.problems import Position, Problems
from b2m.project.schedule import ScheduleFile
from b2m.project.scope import Layer, Scope, Source
from b2m.project.units import COMMAND
from b2m.project.wording import validate
from b2m.project.yaml import Document

Modules: TypeAlias = Mapping[str, type[BaseModel]]
"""Module key -> the model of its arguments."""

HOLD = "hold"
ROLE = "role"


@dataclass(frozen=True)
class Limits:
    """How long a task may take, in seconds, and how often it is tried again after a failure."""

    timeout: float | None = None
    retries: int = 0


@dataclass(frozen=True)
class Task:
    """One entry of a scenario.

    ``module`` is a key of the modules, or ``role`` for tasks that a role brought: then ``block`` holds them, and
    ``when`` is asked once, before the first. ``args`` are as written; ``rendered`` gives them validated. ``needs`` are
    the arguments that the roles around it require, so that somebody gives them.
    """

    name: str
    module: str
    args: Mapping[str, Any]
    when: str | None
    block: tuple[Task, ...]
    model: type[BaseModel] | None
    source: Source
    limits: Limits = Limits()
    defaults: tuple[Layer, ...] = ()
    vars: tuple[Layer, ...] = ()
    needs: frozenset[str] = frozenset()
    arguments: Arguments | None = None

    @property
    def at(self) -> Position:
        """Where the task stands."""
        return self.source.at()

    def scope(self, facts: Mapping[str, Any], layers: Iterable[Layer] = (), top: Sequence[Layer] = ()) -> Scope:
        """What the task's expressions see: facts < role defaults < ``layers`` < the role's vars < ``top``."""
        return Scope(facts, (*self.defaults, *layers, *self.vars), top)

    def applies(self, facts: Mapping[str, Any], layers: Iterable[Layer] = (), top: Sequence[Layer] = ()) -> bool:
        """Whether ``when`` holds; without one it does. InvalidProject if it cannot be told."""
        if self.when is None:
            return True
        return scopes.applies(self.when, self.scope(facts, layers, top), self.source.below("when"))

    def rendered(self, facts: Mapping[str, Any], layers: Iterable[Layer] = (), top: Sequence[Layer] = ()) -> BaseModel:
        """The validated arguments; InvalidProject with line and column if a rendered value does not fit."""
        if self.model is None:
            raise TypeError("a role has no arguments")
        source = self.source.below(self.module)
        values = scopes.render(self.args, self.scope(facts, layers, top), source, commands_of(self.model))
        problems = Problems()
        result = validate(self.model, values, source.document, problems, source.path)
        problems.raise_any()
        if result is None:
            raise InvalidProject([f"{self.at}: {self.module}: the arguments do not fit"])
        return result


def commands_of(model: type[BaseModel]) -> frozenset[str]:
    """The arguments of a module that are shell commands: what is put into one becomes a quoted word."""
    fields = model.model_fields.items()
    return frozenset(field.alias or name for name, field in fields if COMMAND in field.metadata)


@dataclass(frozen=True)
class Playbook:
    """What happens to one database in each state; ``lost`` are keys of which something was wrong and left out."""

    db: str
    file: str
    hosts: tuple[str, ...]
    about: str | None
    policy: Policy
    layer: Layer
    scenarios: Mapping[str, tuple[Task, ...]]
    on_refused: tuple[Task, ...]
    on_failed: tuple[Task, ...]
    on_success: tuple[Task, ...]
    schedule: ScheduleFile | None
    document: Document
    lost: frozenset[str] = frozenset()

    def expanded(self, state: str) -> tuple[Task, ...]:
        """The tasks of a state, or of ``on_refused``, ``on_failed`` and ``on_success``, roles in place as blocks."""
        return dict(self.sections())[state]

    def includes(self) -> Iterator[Arguments]:
        """What every include of a role gives it."""
        for _, tasks in self.sections():
            yield from (task.arguments for task, _ in walk(tasks) if task.arguments is not None)

    def sections(self) -> Iterator[tuple[str, tuple[Task, ...]]]:
        """Every list of tasks with its name."""
        yield from self.scenarios.items()
        yield "on_refused", self.on_refused
        yield "on_failed", self.on_failed
        yield "on_success", self.on_success


def walk(tasks: Iterable[Task], inside: tuple[Task, ...] = ()) -> Iterator[tuple[Task, tuple[Task, ...]]]:
    """Every task in the order of the run, each with the blocks (holds, roles) that it is in."""
    for task in tasks:
        yield task, inside
        yield from walk(task.block, (*inside, task))
