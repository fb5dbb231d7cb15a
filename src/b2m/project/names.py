"""Whether every name in every expression is a fact or a variable, told before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from b2m.project import expressions, templates
from b2m.project.facts import COMMAND_FACTS, FACTS, ONLY_IN, is_built_in
from b2m.project.problems import Position, Problems, suggest
from b2m.project.sandbox import TemplateProblem
from b2m.project.scope import Layer
from b2m.project.target import Host
from b2m.project.tasks import Playbook, Task, walk


@dataclass(frozen=True)
class _Site:
    """One expression, where it stands, the layers that it sees on each host, and what the roles around it require."""

    text: str
    at: Position
    bare: bool
    sees: Mapping[str, tuple[Layer, ...]]
    given: frozenset[str] = frozenset()


def check_playbook_names(playbook: Playbook, hosts: Iterable[Host], problems: Problems) -> None:
    """Note every name in a playbook that is no fact and, on one of these hosts, no variable."""
    there = list(hosts)
    _check_variable_names(playbook.layer, problems)
    for section, tasks in playbook.sections():
        for task, _ in walk(tasks):
            for layer in (*task.defaults, *task.vars):
                _check_variable_names(layer, problems)
            for site in _sites(task, playbook, there):
                _check(site, FACTS, problems, section)
    for host in there:
        layers = (*host.layers, playbook.layer)
        for site in _in_layers({host.name: layers}, layers):
            _check(site, FACTS, problems)
        for site in _in_commands(host, layers):
            _check(site, COMMAND_FACTS, problems)


def check_arguments(playbook: Playbook, hosts: Iterable[Host], problems: Problems) -> None:
    """Note every argument that a role needs and an include does not give, and every value that it does not take."""
    levels = {host.name: (*host.layers, playbook.layer) for host in described(hosts)}
    for arguments in playbook.includes():
        arguments.check(levels, problems)


def check_host_names(host: Host, problems: Problems) -> None:
    """Note variables of a host that hide a fact, and commands that no playbook could make right."""
    for layer in host.layers:
        _check_variable_names(layer, problems)
    for site in _in_commands(host, host.layers):
        # Variables of a playbook are not known here; unknown fields of facts and bad syntax are.
        _check(replace(site, sees={}), COMMAND_FACTS, problems)


def _in_commands(host: Host, layers: tuple[Layer, ...]) -> Iterator[_Site]:
    for name, service in host.file.services.items():
        source = host.source.below("services", name)
        for path, text in _templates(service.model_dump(exclude_none=True)):
            yield _Site(text, source.at(*path), False, {host.name: layers})


def _check_variable_names(layer: Layer, problems: Problems) -> None:
    for name in layer.values:
        if is_built_in(name):
            problems.add(layer.key_at(name), f"{name} is a built-in name: choose another")


def described(hosts: Iterable[Host]) -> list[Host]:
    """The hosts that stand in the inventory; the implicit local one, which has no variables, only if there is no other.

    Else no playbook could use a variable of a group.
    """
    every = list(hosts)
    return [host for host in every if host.group is not None] or every


def _sites(task: Task, playbook: Playbook, hosts: list[Host]) -> Iterator[_Site]:
    sees = {host.name: (*task.defaults, *host.layers, playbook.layer, *task.vars) for host in hosts}
    if task.when is not None:
        yield _Site(task.when, task.source.at("when"), True, sees, task.needs)
    for path, text in _templates(task.args):
        yield _Site(text, task.source.at(task.module, *path), False, sees, task.needs)
    if task.defaults or task.vars:
        yield from (replace(site, given=task.needs) for site in _in_layers(sees, (*task.defaults, *task.vars)))


def _in_layers(sees: Mapping[str, tuple[Layer, ...]], wanted: tuple[Layer, ...]) -> Iterator[_Site]:
    """The expressions in the variables of some layers; each sees the levels below its own."""
    for host, layers in sees.items():
        for index, layer in enumerate(layers):
            for name, value in layer.values.items() if layer in wanted else ():
                for path, text in _templates(value):
                    yield _Site(text, layer.of(name).at(*path), False, {host: layers[:index]})


def _templates(value: object) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for path, leaf in templates.leaves(value):
        if isinstance(leaf, str) and templates.is_template(leaf):
            yield path, leaf


def _check(site: _Site, facts: Mapping[str, Mapping[str, str]], problems: Problems, section: str | None = None) -> None:
    try:
        references = expressions.read(site.text, bare=site.bare).references
    except TemplateProblem as problem:
        problems.add(site.at, str(problem))
        return
    for reference in references:
        name, field = reference.name, reference.field
        if name in facts:
            if section is not None and ONLY_IN.get(name, section) != section:
                problems.add(site.at, f"{name} is known under {ONLY_IN[name]} only")
            elif field is not None and field not in facts[name]:
                has = f"{name} has no {field}{suggest(field, facts[name])}"
                problems.add(site.at, has if facts[name] else f"{name} has no fields, so no {field}")
        elif not reference.optional and name not in site.given:
            _check_defined(name, site, facts, problems)


def _check_defined(name: str, site: _Site, facts: Iterable[str], problems: Problems) -> None:
    missing = [host for host, layers in site.sees.items() if not any(name in layer.values for layer in layers)]
    if not missing:
        return
    if len(missing) < len(site.sees):
        problems.add(site.at, f"{name} is not defined for host {', '.join(missing)}")
        return
    variables = {key for layers in site.sees.values() for layer in layers for key in layer.values}
    problems.add(site.at, f"{name} is not defined{suggest(name, {*facts, *variables})}")
