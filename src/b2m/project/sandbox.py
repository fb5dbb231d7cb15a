"""The Jinja2 environments in which expressions are computed: nothing to call, nothing to fill the memory with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import StrictUndefined, Undefined, pass_environment
from jinja2.filters import do_round, make_attrgetter
from jinja2.sandbox import SandboxedEnvironment

from b2m.project.units import Seconds

LONGEST = 100_000  # characters that replace and join may make: a short text can ask for gigabytes
PLACES = 20  # to which round rounds: it reckons with ten to the power of them


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


def _bounded(length: int) -> None:
    if length > LONGEST:
        raise TemplateProblem(f"the text becomes longer than {LONGEST} characters")


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    """The text with ``new`` for each ``old``, or for the first ``count`` of them; TemplateProblem if it gets long."""
    text, old, new = str(text), str(old), str(new)
    found = text.count(old)
    times = found if count is None or count < 0 else min(count, found)
    _bounded(len(text) + times * (len(new) - len(old)))
    return str(text.replace(old, new, times))


@pass_environment
def _join(environment: Any, value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    """The values, or a field of each, in one text with ``d`` between them; TemplateProblem if it gets long."""
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    between, length, parts = str(d), 0, []
    for item in value:
        parts.append(str(item))
        length += len(parts[-1]) + (len(between) if len(parts) > 1 else 0)
        _bounded(length)
    return between.join(parts)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    """The number, rounded as Jinja2 does; TemplateProblem for a precision that would take for ever."""
    if not -PLACES <= precision <= PLACES:
        raise TemplateProblem(f"round takes a precision from -{PLACES} to {PLACES}")
    return do_round(value, precision, method)


BOUNDED: Mapping[str, Callable[..., Any]] = {"join": _join, "replace": _replace, "round": _round}
"""What stands in for filters of Jinja2's that need a bound."""


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
    environment.filters = {name: BOUNDED.get(name, environment.filters[name]) for name in FILTERS}
    return environment


def _quoted(value: Any) -> str:
    if isinstance(value, Undefined):
        str(value)  # raises, with the name
    return shlex.quote(str(value))


VALUES = _environment()
"""For values: what is put into a text is put in as it is."""

COMMANDS = _environment(finalize=_quoted)
"""For shell commands: what is put in becomes one quoted word."""
