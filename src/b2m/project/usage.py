"""Which variables there are, and which of them nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from b2m.project import expressions, templates
from b2m.project.facts import is_built_in
from b2m.project.problems import Problems
from b2m.project.reader import RoleSource
from b2m.project.scope import Layer
from b2m.project.target import Host
from b2m.project.tasks import ROLE, Playbook, Task, walk
from b2m.project.templates import TemplateProblem


def variables(playbook: Playbook, hosts: Iterable[Host]) -> set[str]:
    """Every variable of a playbook on its hosts: set at some level, taken by a role, or read with a default."""
    levels = [layer for host in hosts for layer in host.layers] + [playbook.layer]
    for _, tasks in playbook.sections():
        for task, _ in walk(tasks):
            levels += (*task.defaults, *task.vars)
    declared = {name for arguments in playbook.includes() for name in arguments.specs}
    read = {name for name in _read_by(playbook) if not is_built_in(name)}
    return declared | {name for layer in levels for name in layer.values} | read


def note_unused(
    playbooks: Iterable[Playbook],
    hosts: Iterable[Host],
    roles: Mapping[str, RoleSource],
    role_tasks: Mapping[str, tuple[Task, ...]],
    problems: Problems,
) -> None:
    """Note variables that no expression reads, and roles that nobody includes."""
    by_playbook = {playbook.file: set(_read_by(playbook)) for playbook in playbooks}
    by_hosts = {name for host in hosts for name in _read_on(host)}
    anywhere = by_hosts.union(*by_playbook.values())
    for playbook in playbooks:
        _note(playbook.layer, by_playbook[playbook.file] | by_hosts, problems)
        for _, tasks in playbook.sections():
            _note_given(tasks, problems)
    for host in hosts:
        for layer in host.layers:
            _note(layer, anywhere, problems)
    for name, role in roles.items():
        read = {found for task, _ in walk(role_tasks[name]) for found in _read_in(task)}
        for layer in role.defaults():
            _note(layer, read, problems)
        for argument, spec in role.specs.items():
            if not spec.has_default and argument not in read:
                problems.add(role.document.key_at(("argument_specs", argument)), _nobody(argument))
    included = {str(task.args[ROLE]) for playbook in playbooks for task in _includes(playbook)}
    for name in roles.keys() - included:
        at = roles[name].document.at(())
        problems.add(at, f"no playbook includes role {name}")


def _includes(playbook: Playbook) -> Iterator[Task]:
    for _, tasks in playbook.sections():
        yield from (task for task, _ in walk(tasks) if task.module == ROLE)


def _note_given(tasks: Iterable[Task], problems: Problems) -> None:
    """Note what an include gives to a role that declares nothing and does not read it."""
    for task, _ in walk(tasks):
        if task.arguments is not None and not task.arguments.specs:
            read = {name for inner, _ in walk(task.block) for name in _read_in(inner)}
            _note(task.arguments.vars[-1], read, problems)


def _note(layer: Layer, read: set[str], problems: Problems) -> None:
    for name in layer.values:
        if name not in read:
            problems.add(layer.key_at(name), _nobody(name))


def _nobody(name: str) -> str:
    return f"nothing reads the variable {name}"


def _read_by(playbook: Playbook) -> Iterator[str]:
    yield from _read_from(playbook.layer.values)
    for _, tasks in playbook.sections():
        for task, _ in walk(tasks):
            yield from _read_in(task)


def _read_in(task: Task) -> Iterator[str]:
    if task.when is not None:
        yield from _names(task.when, bare=True)
    yield from _read_from(task.args)
    for layer in (*task.defaults, *task.vars, *(task.arguments.vars if task.arguments else ())):
        yield from _read_from(layer.values)


def _read_on(host: Host) -> Iterator[str]:
    for layer in host.layers:
        yield from _read_from(layer.values)
    for service in host.file.services.values():
        yield from _read_from(service.model_dump(exclude_none=True))


def _read_from(value: object) -> Iterator[str]:
    for _, leaf in templates.leaves(value):
        if isinstance(leaf, str) and templates.is_template(leaf):
            yield from _names(leaf)


def _names(text: str, *, bare: bool = False) -> Iterator[str]:
    try:
        yield from (reference.name for reference in expressions.read(text, bare=bare).references)
    except TemplateProblem:
        return  # said elsewhere, with its place
