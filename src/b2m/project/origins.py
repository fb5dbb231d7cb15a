"""Where each value that an expression may name comes from: ``b2m vars``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from b2m.errors import InvalidProject
from b2m.project.arguments import Arguments
from b2m.project.facts import FACTS
from b2m.project.load import INVENTORY, Project
from b2m.project.problems import Position
from b2m.project.scope import Layer, Scope
from b2m.project.target import Target
from b2m.project.tasks import Playbook
from b2m.project.yaml import YamlPath

BUILT_IN = "built-in"
LEVELS = {"db": "inventory", "host": "inventory", "policy": "playbook"}
"""Which file a built-in value comes from, unless it is a default."""


@dataclass(frozen=True)
class Origin:
    """One variable: its value, the level that decides it, where that stands, and the levels that it hides.

    ``role`` names the include that it belongs to, None for a variable of the whole playbook. ``value`` is None with
    ``later`` set if only a run can tell it; then ``written`` says how it is computed.
    """

    name: str
    value: Any
    written: Any
    level: str
    at: Position | None
    hides: tuple[tuple[str, Position], ...] = ()
    role: str | None = None
    later: bool = False


def origins(project: Project, target: Target) -> list[Origin]:
    """Every variable of one database on one host: the built-in ones, the levels', then those of each role."""
    facts = target.facts()
    found = list(_built_in(project, target, facts))
    top = target.overrides
    names = {name for layer in (*target.layers, *top) for name in layer.values}
    found += _of_layers(target.layers, top, facts, None, names)
    for arguments in _distinct(target.playbook):
        layers = arguments.layers(target.layers)
        own = {name for layer in arguments.own for name in layer.values} | set(arguments.specs)
        found += _of_layers(layers, top, facts, f"{arguments.role} ({arguments.source.at()})", own)
    return found


def known_in_a_run() -> tuple[str, ...]:
    """The facts that only a run knows, by name."""
    return tuple(sorted(set(FACTS) - {"db", "host", "policy"}))


def _distinct(playbook: Playbook) -> Iterable[Arguments]:
    """Every include of a role that has variables, once for each place in a file."""
    seen = {str(arguments.source.at()): arguments for arguments in playbook.includes()}
    return seen.values()


def _of_layers(
    layers: tuple[Layer, ...],
    top: tuple[Layer, ...],
    facts: Mapping[str, Any],
    role: str | None,
    names: Iterable[str],
) -> Iterator[Origin]:
    scope = Scope(facts, layers, top)
    for name in sorted(names):
        having = [layer for layer in (*layers, *top) if name in layer.values]
        if not having:
            continue  # an argument that nobody gives
        decides = having[-1]
        written = decides.values[name]
        try:
            value, later = scope[name], False
        except InvalidProject:
            value, later = None, True
        hides = tuple((layer.name, layer.of(name).at()) for layer in reversed(having[:-1]))
        yield Origin(name, value, written, decides.name, decides.of(name).at(), hides, role, later)


def _built_in(project: Project, target: Target, facts: Mapping[str, Any]) -> Iterator[Origin]:
    for fact in ("db", "host", "policy"):
        for name, value in facts[fact].items():
            at = _place(project, target, fact, name)
            yield Origin(f"{fact}.{name}", value, value, BUILT_IN if at is None else LEVELS[fact], at)


def _place(project: Project, target: Target, fact: str, name: str) -> Position | None:
    """Where the project says it; None for what it leaves to its default."""
    paths: list[YamlPath]
    if fact == "policy":
        document, paths = target.playbook.document, [("policy", name)]
    else:
        document = project.documents[INVENTORY]
        described = project.hosts[target.host].source.path
        if fact == "host":
            paths = [described if name == "name" else (*described, name)] if described else []
        elif name == "name":
            paths = [("databases", target.db)]
        else:
            paths = [(*described, "databases", target.db, name), ("databases", target.db, name)]
    for path in paths:
        if path in document.values:
            return document.key_at(path) if name == "name" else document.at(path)
    return None
