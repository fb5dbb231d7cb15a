"""Variables in their levels, and values rendered with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from b2m.errors import InvalidProject
from b2m.project import expressions, templates
from b2m.project.problems import Position
from b2m.project.templates import TemplateProblem
from b2m.project.yaml import Document, YamlPath


@dataclass(frozen=True)
class Source:
    """A part of a file: where a value came from, kept so that late errors still name line and column."""

    document: Document
    path: YamlPath

    def at(self, *below: str | int) -> Position:
        """The position of the value, or of one below it."""
        return self.document.at((*self.path, *below))

    def below(self, *steps: str | int) -> Source:
        """A part of this part."""
        return Source(self.document, (*self.path, *steps))


@dataclass(frozen=True)
class Layer:
    """The variables of one level; ``name`` says which, for people.

    ``tail`` leads on from a variable's name to its value, where a file says more about it than the value.
    """

    name: str
    values: Mapping[str, Any]
    source: Source
    tail: YamlPath = ()

    def of(self, name: str) -> Source:
        """Where the value of one variable came from."""
        return self.source.below(name, *self.tail)

    def key_at(self, name: str) -> Position:
        """Where the name of one variable stands."""
        return self.source.document.key_at((*self.source.path, name))


def provider(name: str, layers: Sequence[Layer]) -> Layer | None:
    """The layer that decides a variable's value, the last one that has it; None if none has."""
    return next((layer for layer in reversed(layers) if name in layer.values), None)


class Scope(Mapping[str, Any]):
    """Facts under layers, the last on top; a variable may use what lies below its own layer, and what ``top`` sets.

    Variables are rendered when they are read: one that names a fact of another state does no harm where nobody asks.
    """

    def __init__(self, facts: Mapping[str, Any], layers: Sequence[Layer], top: Sequence[Layer] = ()) -> None:
        """``top`` are the layers that every variable sees, wherever it stands: those of the command line."""
        self._facts = facts
        self._layers = tuple(layers)
        self._top = tuple(top)

    def __getitem__(self, name: str) -> Any:
        above = provider(name, self._top)
        if above is not None:
            return render(above.values[name], Scope(self._facts, self._layers), above.of(name))
        for index in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[index]
            if name in layer.values:
                return render(layer.values[name], self._below(index), layer.of(name))
        return self._facts[name]

    def settled(self, value: Any) -> bool:
        """Whether all that a value names are variables, down to values that name nothing: the same in every run."""
        for _, leaf in templates.leaves(value):
            if not templates.is_template(leaf):
                continue
            try:
                names = {reference.name for reference in expressions.read(str(leaf)).references}
            except TemplateProblem:
                return False
            for name in names:
                above = provider(name, self._top)
                layer = above or provider(name, self._layers)
                if layer is None:
                    return False
                scope = Scope(self._facts, self._layers) if above else self._below(self._layers.index(layer))
                if not scope.settled(layer.values[name]):
                    return False
        return True

    def _below(self, index: int) -> Scope:
        return Scope(self._facts, self._layers[:index], self._top)

    def __contains__(self, name: object) -> bool:
        return name in self._facts or any(name in layer.values for layer in (*self._layers, *self._top))

    def __iter__(self) -> Iterator[str]:
        return iter({*self._facts, *(name for layer in (*self._layers, *self._top) for name in layer.values)})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def render(value: Any, scope: Scope, source: Source, commands: Collection[str] = ()) -> Any:
    """A value with every template in it rendered; InvalidProject with line and column if one cannot be.

    ``commands`` are the keys of a mapping whose texts are shell commands.
    """
    if isinstance(value, Mapping):
        return {
            key: render_command(inner, scope, source.below(key))
            if key in commands and templates.is_template(inner)
            else render(inner, scope, source.below(key))
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [render(inner, scope, source.below(index)) for index, inner in enumerate(value)]
    if not templates.is_template(value):
        return value
    try:
        return templates.render(value, _read(value, scope, bare=False))
    except TemplateProblem as problem:
        raise InvalidProject([f"{source.at()}: {problem}"]) from None


def render_command(text: str, scope: Scope, source: Source) -> str:
    """A shell command in which every value is one quoted word; InvalidProject with line and column if it cannot be."""
    try:
        return templates.render_command(text, _read(text, scope, bare=False))
    except TemplateProblem as problem:
        raise InvalidProject([f"{source.at()}: {problem}"]) from None


def applies(condition: str, scope: Scope, source: Source) -> bool:
    """Whether a ``when`` holds."""
    try:
        return bool(templates.evaluate(condition, _read(condition, scope, bare=True)))
    except TemplateProblem as problem:
        raise InvalidProject([f"{source.at()}: {problem}"]) from None


def _read(text: str, scope: Scope, *, bare: bool) -> dict[str, Any]:
    names = {reference.name for reference in expressions.read(text, bare=bare).references}
    return {name: scope[name] for name in names if name in scope}
