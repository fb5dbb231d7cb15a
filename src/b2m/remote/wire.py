"""b2m's values as JSON and back: what one b2m tells another over a channel.

Only what b2m itself defines is ever made from what was read: its dataclasses, its pydantic models and its errors, by
name. A host that lies can send wrong values, but not run code here.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel

from b2m.errors import B2mError, Interrupted

TAG = "$"


def encode(value: Any) -> Any:
    """Return a value as JSON has it; TypeError for one that has no form there."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        if TAG not in value and all(isinstance(key, str) for key in value):
            return {key: encode(item) for key, item in value.items()}
        return {TAG: "map", "items": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {TAG: "tuple", "items": [encode(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {TAG: "set", "items": [encode(item) for item in value]}
    if isinstance(value, bytes):
        return {TAG: "bytes", "base64": base64.b64encode(value).decode()}
    if isinstance(value, PurePath):
        return {TAG: "path", "path": str(value)}
    if isinstance(value, datetime):
        return {TAG: "time", "iso": value.isoformat()}
    return _encode_object(value)


def decode(data: Any) -> Any:
    """Return what ``encode`` was given; ValueError for what it never makes."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if TAG not in data:
        return {key: decode(item) for key, item in data.items()}
    kind = data[TAG]
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple(data)
    return _decode_object(str(kind), data)


_SIMPLE: dict[str, Any] = {
    "map": lambda data: {decode(key): decode(item) for key, item in data["items"]},
    "tuple": lambda data: tuple(decode(item) for item in data["items"]),
    "set": lambda data: frozenset(decode(item) for item in data["items"]),
    "bytes": lambda data: base64.b64decode(data["base64"]),
    "path": lambda data: Path(data["path"]),
    "time": lambda data: datetime.fromisoformat(data["iso"]),
}


def _encode_object(value: Any) -> Any:
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    if isinstance(value, B2mError | Interrupted):
        # An attribute that has no form in JSON says nothing to whoever reads it elsewhere.
        attributes = {}
        for name, item in vars(value).items():
            try:
                attributes[name] = encode(item)
            except TypeError:
                attributes[name] = str(item)
        return {TAG: kind, "text": str(value), "attributes": attributes}
    if isinstance(value, BaseModel):
        names = list(type(value).model_fields)
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.init]
    else:
        raise TypeError(f"{kind} cannot be sent")
    return {TAG: kind, "fields": {name: encode(getattr(value, name)) for name in names}}


def _decode_object(kind: str, data: Mapping[str, Any]) -> Any:
    module, _, name = kind.partition(":")
    ours = module == "b2m" or module.startswith("b2m.")
    if not ours or "." in name or module.endswith("__main__"):
        raise ValueError(f"{kind} is nothing that b2m sends")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type):
        raise ValueError(f"{kind} is nothing that b2m sends")
    if issubclass(found, B2mError | Interrupted):
        error = found.__new__(found)
        error.args = (str(data["text"]),)
        vars(error).update({key: decode(item) for key, item in data["attributes"].items()})
        return error
    if dataclasses.is_dataclass(found) or issubclass(found, BaseModel):
        return found(**{key: decode(item) for key, item in data["fields"].items()})
    raise ValueError(f"{kind} is nothing that b2m sends")
