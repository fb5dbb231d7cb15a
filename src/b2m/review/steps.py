"""The plan of a state as the files alone tell it: roles in place, variables put in, what never runs left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from b2m.project import Target, Task
from b2m.project.scope import Layer
from b2m.project.secrets import looks_secret
from b2m.project.tasks import HOLD, ROLE, Limits, commands_of, walk
from b2m.review.expanding import Known

HIDDEN = "(looks like a secret)"
SHELL = "shell"
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_CONTEXT = 3  # lines around a change, as diff -u has


@dataclass(frozen=True)
class Step:
    """One task of a plan; ``role`` if it only says when the steps below it run.

    ``conditions`` are all that must hold, ``hold`` the number of the hold that it is in. ``asleep`` is a command whose
    condition does not hold with the variables as they are: ``-e`` may wake it.
    """

    module: str
    args: Mapping[str, Any]
    when: str | None
    conditions: frozenset[str]
    depth: int
    hold: int | None
    limits: Limits
    asleep: bool = False

    def line(self, *, hide: bool) -> str:
        """The step as one line; with ``hide`` no value that looks like a secret is in it."""
        if self.module == ROLE:
            return f"{'  ' * self.depth}when {self.when}:"
        words = [self.module]
        if self.args:
            words.append(", ".join(f"{key}: {shown(value, key, hide=hide)}" for key, value in self.args.items()))
        if self.limits.timeout is not None:
            words.append(f"[timeout {self.limits.timeout:g}s]")
        if self.limits.retries:
            words.append(f"[retries {self.limits.retries}]")
        if self.asleep:
            words.append("[not run by default]")
        if self.when is not None:
            words.append(f"when {self.when}")
        return "  " * self.depth + " ".join(words)


def steps(target: Target, section: str) -> tuple[Step, ...]:
    """The steps of a state, or of ``on_refused`` and ``on_failed``, on one host."""
    return tuple(_Steps(target).of(target.tasks(section)))


class _Steps:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._facts = target.facts()
        self._holds = 0

    def of(
        self, tasks: Iterable[Task], depth: int = 0, around: frozenset[str] = frozenset(), hold: int | None = None
    ) -> Iterator[Step]:
        for task in tasks:
            known = Known(self._facts, (*task.defaults, *self._target.layers, *task.vars))
            place = Layer(task.name, {}, task.source)
            when = True if task.when is None else known.condition(task.when, place)
            if when is False:
                yield from self._asleep(task, depth)
                continue
            written = None if when is True else str(when)
            conditions = around if written is None else around | {written}
            if task.module == ROLE:
                if written is not None:
                    yield Step(ROLE, {}, written, conditions, depth, hold, task.limits)
                yield from self.of(task.block, depth + (written is not None), conditions, hold)
                continue
            yield Step(task.module, _arguments(task, known, place), written, conditions, depth, hold, task.limits)
            if task.module == HOLD:
                self._holds += 1
                yield from self.of(task.block, depth + 1, conditions, self._holds)

    def _asleep(self, skipped: Task, depth: int) -> Iterator[Step]:
        """The commands in a task that does not run: nobody should be able to bring one in unseen."""
        for task, _ in walk([skipped]):
            if task.module == SHELL:
                known = Known(self._facts, (*task.defaults, *self._target.layers, *task.vars))
                arguments = _arguments(task, known, Layer(task.name, {}, task.source))
                yield Step(SHELL, arguments, task.when, frozenset(), depth, None, task.limits, asleep=True)


def _arguments(task: Task, known: Known, place: Layer) -> dict[str, Any]:
    """All arguments, those that are not written too, so that writing a default changes nothing."""
    assert task.model is not None
    given = known.expanded(task.args, place, commands_of(task.model))
    found = {}
    for name, field in task.model.model_fields.items():
        key = field.alias or name
        if key in given:
            found[key] = given[key]
        elif not field.is_required() and (default := field.get_default(call_default_factory=True)) is not None:
            found[key] = default
    return {key: value for key, value in found.items() if value is not None}


def shown(value: Any, key: str, above: tuple[str, ...] = (), *, hide: bool = True) -> str:
    """A value on one line, as YAML has it; ``above`` are the keys around its own."""
    if isinstance(value, Mapping):
        around = (*above, key)
        inside = ((str(name), shown(inner, str(name), around, hide=hide)) for name, inner in value.items())
        return "{" + ", ".join(f"{hidden('', name) if hide else name}: {text}" for name, text in inside) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(inner, key, above, hide=hide) for inner in value)}]"
    text = value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return text if not hide or isinstance(value, bool) or hidden(key, str(value), above) != HIDDEN else HIDDEN


def hidden(key: str, text: str, above: Iterable[str] = ()) -> str:
    """The text of a key, unless it looks like a secret: a comment is read by more people than the project."""
    return HIDDEN if looks_secret(key, text, above) else text


def difference(before: Iterable[Step], after: Iterable[Step]) -> tuple[str, ...]:
    """The lines that went and came, with some around them, as ``diff -u`` shows them; nothing if plans are the same."""
    old, new = list(before), list(after)
    was, now = ([step.line(hide=False) for step in plan] for plan in (old, new))
    matcher = SequenceMatcher(None, was, now, autojunk=False)
    lines: list[str] = []
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        if all(operation[0] == "equal" for operation in group):
            continue
        if lines or group[0][1]:
            lines.append("@@")
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                lines += [f"  {step.line(hide=True)}" for step in old[old_from:old_to]]
            else:
                lines += [f"- {step.line(hide=True)}" for step in old[old_from:old_to]]
                lines += [f"+ {step.line(hide=True)}" for step in new[new_from:new_to]]
    return tuple(lines)
