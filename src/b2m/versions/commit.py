"""A commit: what b2m says of one published version. Immutable; its bytes carry their own checksum."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from b2m.errors import ObjectDamaged, UnknownFormat

FORMAT = 1

Token = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def new_token() -> str:
    """Return a token that no other commit has, as 32 hex digits."""
    return secrets.token_hex(16)


class RowCounts(BaseModel):
    """How many rows of one table a version changed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class Commit(BaseModel):
    """One version of one database.

    ``blake3``, ``size`` (bytes), ``page_size`` and ``page_count`` are those of the file; ``time`` is ISO 8601 in UTC by
    the clock of the machine that published; ``revision`` and ``dirty_tree`` are those of the project's Git tree.
    A newer b2m may add fields to a format; they are ignored here.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    db: str
    number: int = Field(ge=1)
    parent: int | None
    parent_token: Token | None
    token: Token = Field(default_factory=new_token)
    epoch: int = Field(ge=0)
    blake3: Digest
    size: int = Field(ge=0)
    page_size: int = Field(ge=0)
    page_count: int = Field(ge=0)
    rows: Mapping[str, RowCounts] = {}
    schema_hash: str
    changesets: tuple[str, ...] = ()
    message: str = ""
    author: str
    host: str
    time: str
    revision: str | None = None
    dirty_tree: bool | None = None
    sqlite: str
    run: str
    b2m: str

    @model_validator(mode="after")
    def _follows_its_parent(self) -> Commit:
        if (self.parent is None) != (self.parent_token is None):
            raise ValueError("parent and parent_token go together")
        # Publishing is create-only by number, so only consecutive numbers keep two runs from forking a history.
        if self.parent is not None and self.number != self.parent + 1:
            raise ValueError(f"commit {self.number} cannot follow commit {self.parent}")
        return self

    def name(self) -> str:
        """Return the name of the commit's object."""
        return commit_name(self.db, self.number)

    def to_bytes(self) -> bytes:
        """Return the object's content: the fields as canonical JSON, sealed with a checksum."""
        return seal(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, *, bucket: str, name: str) -> Commit:
        """Read what ``to_bytes`` wrote; ``bucket`` and ``name`` are for ObjectDamaged and UnknownFormat."""
        try:
            fields = unseal(data)
        except ValueError as error:
            raise ObjectDamaged(bucket=bucket, name=name, what=str(error)) from error
        found = fields.get("format")
        if isinstance(found, int) and found > FORMAT:
            raise UnknownFormat(what=f"{name} in bucket {bucket}", found=found, known=FORMAT)
        try:
            commit = cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ObjectDamaged(bucket=bucket, name=name, what=f"{where}: {first['msg']}".lstrip(": ")) from error
        if commit.name() != name:
            raise ObjectDamaged(bucket=bucket, name=name, what=f"it holds {commit.name()}")
        return commit


def commit_name(db: str, number: int) -> str:
    return f"{db}/commits/{number:08d}.json"


def seal(fields: Mapping[str, Any]) -> bytes:
    """Return fields as canonical JSON with ``checksum``, the BLAKE3 of the canonical JSON without it."""
    return _canonical({**fields, "checksum": blake3(_canonical(fields)).hexdigest()})


def unseal(data: bytes) -> dict[str, Any]:
    """Return the fields of sealed JSON; ValueError if any byte is another than was written."""
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(fields, dict) or "checksum" not in fields:
        raise ValueError("it has no checksum")
    checksum = fields.pop("checksum")
    # Comparing the whole also catches what JSON does not care about, such as white space and repeated keys.
    if blake3(_canonical(fields)).hexdigest() != checksum or _canonical({**fields, "checksum": checksum}) != data:
        raise ValueError("its checksum does not fit")
    return fields


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
