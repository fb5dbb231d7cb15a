"""What the models of project files are made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Frozen, no unknown keys, no conversions: what YAML says is a number is not taken for a text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def broken_rule(what: str) -> PydanticCustomError:
    """What a validator raises: a finding in plain words."""
    return PydanticCustomError("rule", "{what}", {"what": what})


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise broken_rule(f"{value!r} is no name: letters, digits, _ and - only")
    return value


def _var_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value):
        raise broken_rule(f"{value!r} is no name for a variable: letters, digits and _ only")
    return value


Name: TypeAlias = Annotated[str, AfterValidator(_name)]
VarName: TypeAlias = Annotated[str, AfterValidator(_var_name)]
# YAML gives lists; frozen models hold tuples. Only the container is lenient, its items stay strict.
Names: TypeAlias = Annotated[tuple[Name, ...], Field(strict=False)]
RawTasks: TypeAlias = Annotated[tuple[dict[str, Any], ...], Field(strict=False)]
Vars: TypeAlias = dict[VarName, Any]
