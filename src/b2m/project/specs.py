"""What a role takes under one name, in the words of Ansible's ``argument_specs``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from b2m.project import templates
from b2m.project.strict import Strict, broken_rule
from b2m.project.units import parse_duration, parse_size
from b2m.project.wording import describe


def _reads(parse: Callable[[Any], object]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return fits


def _is(*kinds: type) -> Callable[[Any], bool]:
    # YAML's true is no number, though Python's is.
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "str": ("text", _is(str)),
        "int": ("a whole number", _is(int)),
        "float": ("a number", _is(int, float)),
        "bool": ("true or false", _is(bool)),
        "list": ("a list", _is(list, tuple)),
        "dict": ("a mapping", _is(dict)),
        "duration": ("a duration such as 250ms, 5s, 30m or 2h", _reads(parse_duration)),
        "size": ("a size such as 64KiB, 20MB or 1GiB", _reads(parse_size)),
    }
)


class ArgumentSpec(Strict):
    """One argument of a role."""

    type: Literal["str", "int", "float", "bool", "list", "dict", "duration", "size"] = Field(
        default="str", description="what kind of value it takes"
    )
    required: bool = Field(default=False, description="whoever includes the role must give it, or a level of variables")
    default: Any = Field(default=None, description="its value where nobody gives another")
    choices: Annotated[tuple[Any, ...] | None, Field(strict=False, min_length=1)] = Field(
        default=None, description="the only values that it takes"
    )
    description: str | None = Field(default=None, description="what it is for")

    @property
    def has_default(self) -> bool:
        return "default" in self.model_fields_set

    @model_validator(mode="after")
    def _fits_itself(self) -> ArgumentSpec:
        if self.required and self.has_default:
            raise broken_rule("required and default exclude each other")
        for choice in self.choices or ():
            if not _KINDS[self.type][1](choice):
                raise broken_rule(f"choices: expected {_KINDS[self.type][0]}, not {describe(choice)}")
        problem = self.problem(self.default) if self.has_default and not templates.has_templates(self.default) else None
        if problem is not None:
            raise broken_rule(f"default: {problem}")
        return self

    def problem(self, value: Any) -> str | None:
        """What is wrong with a rendered value, None if it fits; ``default: null`` lets nothing fit too."""
        if value is None and self.has_default and self.default is None:
            return None
        what, fits = _KINDS[self.type]
        if not fits(value):
            return f"expected {what}, not {describe(value)}"
        if self.choices is not None and not any(value == known for known in self.choices):
            return f"expected {' or '.join(map(str, self.choices))}, not {describe(value)}"
        return None
