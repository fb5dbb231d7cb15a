"""Jinja2 in values: a value that is one expression keeps its type, any other becomes text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template, Undefined
from jinja2.exceptions import TemplateError

from b2m.project import expressions
from b2m.project.sandbox import COMMANDS, VALUES, Sandbox, TemplateProblem
from b2m.project.scalars import MAX_BITS

__all__ = ["TemplateProblem", "evaluate", "has_templates", "is_template", "leaves", "render", "render_command"]

_TOO_LARGE = "cannot be computed: a number becomes too large"


def is_template(value: object) -> bool:
    """Whether a value must be rendered: it is text with ``{{`` or ``{%`` in it."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def has_templates(value: object) -> bool:
    """Whether anything in a value of lists and mappings must be rendered."""
    return any(is_template(leaf) for _, leaf in leaves(value))


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Every value that is neither list nor mapping, with its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def evaluate(expression: str, names: Mapping[str, Any]) -> Any:
    """The value of a bare expression, with its type; TemplateProblem if it has none."""
    expressions.read(expression, bare=True)
    return _guarded(lambda: _checked(_expression(expression)(**names)))


def render(text: str, names: Mapping[str, Any]) -> Any:
    """The value of a template; TemplateProblem if it has none."""
    single = expressions.read(text).single
    if single is not None:
        return evaluate(single, names)
    return _guarded(lambda: _template(VALUES, text).render(**names))


def render_command(text: str, names: Mapping[str, Any]) -> str:
    """A shell command with every value put in as one quoted word; TemplateProblem if that cannot be."""
    expressions.read(text)
    return str(_guarded(lambda: _template(COMMANDS, text).render(**names)))


@lru_cache(maxsize=1024)
def _expression(text: str) -> Callable[..., Any]:
    return VALUES.compile_expression(text, undefined_to_none=False)


@lru_cache(maxsize=1024)
def _template(environment: Sandbox, text: str) -> Template:
    return environment.from_string(text)


def _checked(value: Any) -> Any:
    """The value, unless something in it is undefined, which raises with the name, or a number that none can print."""
    for _, leaf in leaves(value):
        if isinstance(leaf, Undefined):
            str(leaf)
        if isinstance(leaf, int) and leaf.bit_length() > MAX_BITS:
            raise TemplateProblem(_TOO_LARGE)
    return value


def _guarded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except TemplateError as error:
        raise TemplateProblem(_in_words(error)) from None
    except RecursionError:
        raise TemplateProblem("cannot be computed: nested too deeply") from None
    except NameError:  # Jinja2 writes infinity into its Python as a name
        raise TemplateProblem(_TOO_LARGE) from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise TemplateProblem(f"cannot be computed: {error}") from None


def _in_words(error: TemplateError) -> str:
    what = (error.message or str(error)).rstrip(".")
    if found := re.fullmatch(r"'(.+)' is undefined", what):
        return f"{found[1]} is not defined"
    if found := re.fullmatch(r"'(.+) object' has no attribute '(.+)'", what):
        return f"there is no {found[2]} in it"
    if found := re.match(r"access to attribute '(.+)' of '.+' object is unsafe", what):
        return f"{found[1]} cannot be read"
    return f"cannot be computed: {what}"
