"""The arguments that a role is given: checked where it is included, and again in a run, when templates have values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from b2m.errors import InvalidProject
from b2m.project import templates
from b2m.project.problems import Problems
from b2m.project.scope import Layer, Scope, Source, provider
from b2m.project.specs import ArgumentSpec


@dataclass(frozen=True)
class Arguments:
    """What one include of a role gives it.

    ``defaults`` and ``vars`` are the layers seen inside the role, ``own`` those of them that no role around it brought.
    """

    role: str
    specs: Mapping[str, ArgumentSpec]
    source: Source
    defaults: tuple[Layer, ...]
    vars: tuple[Layer, ...]
    own: tuple[Layer, ...]

    def layers(self, between: Iterable[Layer]) -> tuple[Layer, ...]:
        """The levels of variables inside the role, the lowest first."""
        return (*self.defaults, *between, *self.vars)

    def check(self, levels: Mapping[str, Sequence[Layer]], problems: Problems) -> None:
        """Note what is missing or does not fit, as far as it is known before a run; ``levels`` are each host's."""
        for name, spec in self.specs.items():
            lacking = []
            for host, between in levels.items():
                layer = provider(name, self.layers(between))
                if layer is None:
                    lacking.append(host)
                else:
                    self.check_value(name, layer, problems, Scope({}, self.layers(between)))
            if spec.required and lacking:
                which = "" if len(lacking) == len(levels) else f", and host {', '.join(lacking)} has none"
                problems.add(self.source.at(), f"role {self.role} needs {name}{which}: give it under vars")

    def check_value(self, name: str, layer: Layer, problems: Problems, scope: Scope) -> None:
        """Note the value that a layer gives an argument, if it is known before a run and does not fit."""
        value = layer.values[name]
        if templates.has_templates(value):
            if not scope.settled(value):
                return
            try:
                value = scope[name]
            except InvalidProject:
                return  # a run says why
        problem = self.specs[name].problem(value)
        if problem is not None:
            problems.add(layer.of(name).at(), f"{name} of role {self.role}: {problem}")

    def check_overrides(self, overrides: Sequence[Layer], between: Iterable[Layer], problems: Problems) -> None:
        """Note every variable of ``-e`` that an argument does not take, by itself or in what it is given."""
        layers = self.layers(between)
        scope = Scope({}, layers, overrides)
        for name in self.specs:
            layer = provider(name, (*layers, *overrides))
            if layer is not None and (layer in overrides or templates.has_templates(layer.values[name])):
                self.check_value(name, layer, problems, scope)

    def check_rendered(self, facts: Mapping[str, Any], between: Iterable[Layer], top: Sequence[Layer]) -> None:
        """Check every value as the role will see it; InvalidProject with all that do not fit."""
        problems = Problems()
        layers = self.layers(between)
        scope = Scope(facts, layers, top)
        for name, spec in self.specs.items():
            layer = provider(name, (*layers, *top))
            if layer is None:
                continue
            try:
                problem = spec.problem(scope[name])
            except InvalidProject:
                if spec.required or layer in self.vars:
                    raise
                continue  # a default that cannot be told now does no harm where nobody reads it
            if problem is not None:
                problems.add(layer.of(name).at(), f"{name} of role {self.role}: {problem}")
        problems.raise_any()
