"""Values with everything put in that the files tell; what only a run finds out stays as it is written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from b2m.errors import InvalidProject
from b2m.project import expressions, scope, templates
from b2m.project.facts import FACTS
from b2m.project.sandbox import VALUES
from b2m.project.scope import Layer, Scope
from b2m.project.templates import TemplateProblem

_SPACE = "whitespace"


@dataclass(frozen=True)
class Known:
    """What the files alone tell one task on one host: facts of the project under layers of variables."""

    facts: Mapping[str, Mapping[str, Any]]
    layers: tuple[Layer, ...]

    def find(self, name: str) -> tuple[Any, Layer, Known] | None:
        """A variable's value as written, its layer, and what that value may name; None if there is none."""
        for index in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[index]
            if name in layer.values:
                return layer.values[name], layer, Known(self.facts, self.layers[:index])
        return None

    def settled(self, text: str, *, bare: bool = False) -> bool:
        """Whether a template, or a bare expression, has the same value in every run."""
        try:
            references = expressions.read(text, bare=bare).references
        except TemplateProblem:
            return False
        for reference in references:
            found = self.find(reference.name)
            if found is not None:
                value, _, below = found
                texts = [leaf for _, leaf in templates.leaves(value) if isinstance(leaf, str)]
                if not all(below.settled(leaf) for leaf in texts if templates.is_template(leaf)):
                    return False
            elif reference.name in self.facts:
                if reference.field not in self.facts[reference.name]:
                    return False
            elif reference.name in FACTS or not reference.optional:
                return False
        return True

    def condition(self, text: str, layer: Layer) -> bool | str:
        """What a ``when`` comes to: whether it holds, or the expression with all variables put in.

        ``layer`` only says where the expression stands.
        """
        if self.settled(text, bare=True):
            try:
                return scope.applies(text, Scope(self.facts, self.layers), layer.source)
            except InvalidProject:
                pass
        return " ".join(self._put_in(text, bare=True).split())

    def expanded(self, value: Any, layer: Layer, commands: Collection[str] = ()) -> Any:
        """A value with all put in that is known; ``commands`` are keys of shell commands, as for ``scope.render``."""
        if isinstance(value, Mapping):
            return {
                key: self._text(inner, layer, command=True)
                if key in commands and isinstance(inner, str)
                else self.expanded(inner, layer)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.expanded(inner, layer) for inner in value]
        return self._text(value, layer) if isinstance(value, str) else value

    def _text(self, text: str, layer: Layer, *, command: bool = False) -> Any:
        if not templates.is_template(text):
            return text
        if self.settled(text):
            names = Scope(self.facts, self.layers)
            try:
                return (scope.render_command if command else scope.render)(text, names, layer.source)
            except InvalidProject:
                return text
        if command:
            return self._put_in(text)
        return "".join(
            str(self._text(part, layer)) if templates.is_template(part) and self.settled(part) else self._put_in(part)
            for part in _parts(text)
        )

    def _put_in(self, text: str, *, bare: bool = False) -> str:
        """A template, or a bare expression, with the values of variables in the place of their names."""
        source = f"{{{{{text}}}}}" if bare else text
        tokens = [(kind, value) for _, kind, value in VALUES.lex(source)]
        told = [index for index, (kind, _) in enumerate(tokens) if kind != _SPACE]
        after = {index: tokens[other][1] for index, other in pairwise(told)}
        before = {other: index for index, other in pairwise(told)}
        written = []
        for index, (kind, value) in enumerate(tokens):
            previous = tokens[before[index]][1] if index in before else ""
            is_name = kind == "name" and previous not in (".", "|", "is") and after.get(index) != "="
            found = self.find(value) if is_name and value != "not" else None
            written.append(value if found is None else self._literal(*found))
        whole = "".join(written)
        return whole[2:-2] if bare else whole

    @staticmethod
    def _literal(value: Any, layer: Layer, below: Known) -> str:
        if templates.is_template(value) and not below.settled(value):
            single = expressions.read(value).single
            if single is not None:
                return f"({below._put_in(single, bare=True)})"
        return json.dumps(below.expanded(value, layer), ensure_ascii=False)


def _parts(text: str) -> Iterator[str]:
    """The texts and the templates of a text, in order."""
    part = ""
    for _, kind, value in VALUES.lex(text):
        if kind == "variable_begin" and part:
            yield part
            part = ""
        part += value
        if kind == "variable_end":
            yield part
            part = ""
    if part:
        yield part
