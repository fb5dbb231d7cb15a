"""Variables given on the command line, ``-e name=value``: the topmost level."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from b2m.errors import UsageError
from b2m.project import scalars
from b2m.project.facts import is_built_in
from b2m.project.problems import Position, suggest
from b2m.project.scope import Layer, Source
from b2m.project.strict import VarName
from b2m.project.yaml import Document, YamlPath

FLAG = "-e"


def read_overrides(given: Iterable[str]) -> tuple[Layer, ...]:
    """The layer of ``name=value`` texts, none if there are none; UsageError for one that cannot be.

    A value is what it would be as a plain YAML scalar: ``7`` a number, ``true`` a boolean, ``'7'`` in quotes a text.
    """
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(what=f"{FLAG} {text}: write name=value")
        try:
            TypeAdapter(VarName).validate_python(name)
        except ValidationError as error:
            raise UsageError(what=f"{FLAG} {text}: {error.errors()[0]['msg']}") from None
        if is_built_in(name):
            raise UsageError(what=f"{FLAG} {text}: {name} is a built-in name, it cannot be set")
        if name in values:
            raise UsageError(what=f"{FLAG} {text}: {name} is given twice")
        try:
            values[name] = typed(value)
        except ValueError:
            raise UsageError(what=f"{FLAG} {name}: the number is too long") from None
    return overrides_of(values)


def overrides_of(values: Mapping[str, Any]) -> tuple[Layer, ...]:
    """The layer of values by name, none if there are none."""
    if not values:
        return ()
    places: dict[YamlPath, Position] = {(name,): Position(f"{FLAG} {name}", 0, 0) for name in values}
    return (Layer(FLAG, values, Source(Document(FLAG, dict(values), places, places), ())),)


def typed(text: str) -> Any:
    """A text as a YAML scalar; one in quotes is what stands in them, whatever it looks like."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return scalars.scalar(text, scalars.tag_of(text))


def check_known(overrides: Iterable[Layer], known: Collection[str]) -> None:
    """UsageError for a variable that no level sets and no expression reads: it would change nothing."""
    for layer in overrides:
        for name in layer.values:
            if name not in known:
                raise UsageError(what=f"{FLAG} {name}: no playbook has a variable {name}{suggest(name, known)}")
