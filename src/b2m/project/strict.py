"""What the models of project files are made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Frozen, no unknown keys, no conversions: what YAML says is a number is not taken for a text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def broken_rule(what: str) -> PydanticCustomError:
    """What a validator raises: a finding in plain words."""
    return PydanticCustomError("rule", "{what}", {"what": what})


def is_name(value: str) -> bool:
    """Whether something in the inventory can be called so."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value) is not None


def _name(value: str) -> str:
    if not is_name(value):
        raise broken_rule(f"{value!r} is no name: letters, digits, _ and - only")
    return value


def _var_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value):
        raise broken_rule(f"{value!r} is no name for a variable: letters, digits and _ only")
    return value


def _secret_name(value: str) -> str:
    if not re.fullmatch(r"\$[A-Za-z_][A-Za-z0-9_]*", value):
        # The value is not shown: it may be the secret itself.
        raise broken_rule("write the secret's name with a $ before it, as $B2M_KEY, and set it in the environment")
    return value


Name: TypeAlias = Annotated[str, AfterValidator(_name)]
VarName: TypeAlias = Annotated[str, AfterValidator(_var_name)]
# YAML gives lists; frozen models hold tuples. Only the container is lenient, its items stay strict.
Names: TypeAlias = Annotated[tuple[Name, ...], Field(strict=False)]
RawTasks: TypeAlias = Annotated[tuple[dict[str, Any], ...], Field(strict=False)]
Vars: TypeAlias = dict[VarName, Any]
SecretName: TypeAlias = Annotated[str, AfterValidator(_secret_name)]
SecretNames: TypeAlias = Annotated[tuple[SecretName, ...], Field(strict=False, min_length=1)]
Secrets: TypeAlias = Annotated[
    Annotated[SecretName, Tag("one")] | Annotated[SecretNames, Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "one"),
]
"""One secret's name, or a list of them."""


def secrets_of(value: Secrets | None) -> tuple[str, ...]:
    """The names of secrets, without their $, of one of them or a list."""
    names = (value,) if isinstance(value, str) else value or ()
    return tuple(name.removeprefix("$") for name in names)
