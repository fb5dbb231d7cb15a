"""The Jinja2 environments in which expressions are computed: nothing to call, nothing to fill the memory with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, Undefined
from jinja2.sandbox import SandboxedEnvironment

from b2m.project.units import Seconds


class TemplateProblem(Exception):
    """What is wrong with an expression, in words; the caller knows where it stands."""


def minutes(count: float) -> Seconds:
    """Seconds of ``count`` minutes."""
    return Seconds(count * 60)


def hours(count: float) -> Seconds:
    """Seconds of ``count`` hours."""
    return Seconds(count * 3600)


FUNCTIONS: Mapping[str, Callable[[float], Seconds]] = {"minutes": minutes, "hours": hours}
FILTERS = (
    *("abs", "default", "first", "float", "int", "join", "last", "length", "lower", "max", "min", "replace"),
    *("round", "sort", "string", "title", "trim", "unique", "upper"),
)


class Sandbox(SandboxedEnvironment):
    """Fields of a mapping and not its methods, no calls but FUNCTIONS, and arithmetic on numbers only."""

    # What these make of a short text need not be short.
    intercepted_binops = frozenset(["**", "*", "%"])

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute) if isinstance(obj, Mapping) else super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping):
            return obj[argument] if argument in obj else self.undefined(obj=obj, name=argument)
        return super().getitem(obj, argument)

    def is_safe_callable(self, obj: Any) -> bool:
        return any(obj is function for function in FUNCTIONS.values())

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        for side in (left, right):
            if isinstance(side, Undefined):
                str(side)  # raises, with the name
        if not all(isinstance(side, int | float) for side in (left, right)):
            raise TemplateProblem(f"{operator} works on numbers only")
        result = super().call_binop(context, operator, left, right)
        # Three times five minutes are still seconds, and need no unit.
        return Seconds(result) if isinstance(left, Seconds) or isinstance(right, Seconds) else result


def _environment(finalize: Callable[[Any], Any] | None = None) -> Sandbox:
    environment = Sandbox(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=finalize,
        keep_trailing_newline=True,
        # A delimiter that no text has: "{#" in a value is just text.
        comment_start_string="\x00#",
        comment_end_string="#\x00",
    )
    environment.globals = dict(FUNCTIONS)
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    return environment


def _quoted(value: Any) -> str:
    if isinstance(value, Undefined):
        str(value)  # raises, with the name
    return shlex.quote(str(value))


VALUES = _environment()
"""For values: what is put into a text is put in as it is."""

COMMANDS = _environment(finalize=_quoted)
"""For shell commands: what is put in becomes one quoted word."""
