"""Pydantic's findings as positions and plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from b2m.project.problems import Problems, suggest
from b2m.project.yaml import Document, YamlPath

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
# A key that DESIGN promises and nothing reads yet must not look like a typing error.
_NOT_YET = frozenset({"extensions", "schema"})


def validate(
    model: type[Model],
    data: Any,
    document: Document,
    problems: Problems,
    path: YamlPath = (),
    *,
    later: Iterable[YamlPath] = (),
) -> Model | None:
    """Validate ``data``, which stands at ``path``; None after noting what is wrong.

    ``later`` names the places below ``path`` whose value is a template: only its rendered value can be judged, so that
    complaints about those values, or about a whole that contains one, wait until then. None is also returned then.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        waiting = tuple(later)
        for loc, details in _by_place(error, data).items():
            detail = details[0]
            absent = detail["type"] in ("extra_forbidden", "missing")
            if not absent and any(_related(loc, place) for place in waiting):
                continue
            of_key = detail["type"] == "extra_forbidden" or "[key]" in detail["loc"]
            at = document.key_at((*path, *loc)) if of_key else document.at((*path, *loc))
            problems.add(at, _what(model, details, loc, data))
        return None


def _by_place(error: ValidationError, data: Any) -> dict[YamlPath, list[ErrorDetails]]:
    """The findings by the place in the data that they are about.

    Pydantic's own path goes on with the name of each alternative of a union, which stands in no file.
    """
    found: dict[YamlPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        loc = _steps(detail["loc"], data, missing=detail["type"] == "missing")
        found.setdefault(loc, []).append(detail)
    return found


def _steps(loc: YamlPath, data: Any, *, missing: bool) -> YamlPath:
    """The steps of a path that lead somewhere in the data; of what is missing also the last, which does not."""
    steps: list[str | int] = []
    here = data
    for index, step in enumerate(loc):
        known = step in here if isinstance(here, Mapping) else isinstance(here, list | tuple) and isinstance(step, int)
        if known:
            here = here[step]
        elif not missing or index < len(loc) - 1:
            continue
        steps.append(step)
    return tuple(steps)


def places(error: ValidationError, data: Any) -> list[tuple[YamlPath, bool]]:
    """Where the findings are, each with whether something is missing there."""
    return [(loc, details[0]["type"] == "missing") for loc, details in _by_place(error, data).items()]


def _related(one: YamlPath, other: YamlPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _what(model: type[BaseModel], details: list[ErrorDetails], loc: YamlPath, data: Any) -> str:
    detail = details[0]
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    last = str(loc[-1]) if loc else ""
    label = f"{last}: " if loc and isinstance(loc[-1], str) and "[key]" not in detail["loc"] else ""
    if kind == "extra_forbidden":
        if loc[0] == "argument_specs" and last == "options":
            return "options: a role here has one entry point, write its arguments directly under argument_specs"
        if last in _NOT_YET:
            return f"{last} is not supported yet"
        return f"unknown key {last}{suggest(last, _keys_at(model, loc[:-1], data))}"
    if kind == "missing":
        hint = f": write {last}: [] if nothing is to be done" if loc[:1] == ("scenarios",) and len(loc) == 2 else ""
        return f"{'.'.join(str(step) for step in loc)} is missing{hint}"
    if loc[:1] == ("buckets",) and last == "type" and kind == "literal_error":
        return f"{label}expected folder, s3 or b2, not {describe(value)}"
    expected = [choice for choice in map(_expected, details) if choice]
    if len(expected) == len(details):
        return f"{label}expected {' or '.join(dict.fromkeys(expected))}, not {describe(value)}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{label}must be {words} {context[key]:g}"
    if kind in ("string_too_short", "too_short"):
        return f"{label}must not be empty"
    if kind == "unit":
        return f"{label}{context['what']}, not {describe(value)}"
    if kind == "value_error":
        return f"{label}{context['error']}"
    return f"{label}{detail['msg']}"


def _expected(detail: ErrorDetails) -> str | None:
    """What would have been right, if the finding is about the kind of a value."""
    if detail["type"] == "literal_error":
        return str(detail["ctx"]["expected"]).replace("'", "")
    return _EXPECTED.get(detail["type"])


def describe(value: object) -> str:
    """A value as it is named in a message: the number 5, true, nothing, a list, the text \"x\"."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f'the text "{value if len(value) <= 40 else value[:39] + "…"}"'
    return "a mapping" if isinstance(value, Mapping) else "a list"


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that a model reads from YAML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _keys_at(model: type[BaseModel], loc: YamlPath, data: Any) -> list[str]:
    """The keys known where ``loc`` leads to, by the declared types; an entry's ``type`` picks one of several."""
    entry = data
    for step in loc:
        entry = entry[step]
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    current: Any = model
    for step in loc:
        current = _model_in(current)
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
            current = fields.get(str(step))
        else:
            current = next(iter(reversed([arg for arg in get_args(current) if arg is not Ellipsis])), None)
    found = _models_in(current)
    return keys_of(next((one for one in found if kind in _types_of(one)), found[0])) if found else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type allows: several for an entry whose ``type`` says which one it is."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return [model for inner in get_args(annotation) for model in _models_in(inner)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _types_of(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field is not None else ()


def _model_in(annotation: Any) -> Any:
    """A type without its Annotated and Optional wrapping."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return next((_model_in(arg) for arg in get_args(annotation) if arg is not type(None)), None)
    return annotation
