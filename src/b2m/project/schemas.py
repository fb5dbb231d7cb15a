"""JSON Schemas of the project files, for editors: made from the models and modules that read those files.

``python -m b2m.project.schemas`` writes them into ``docs/``; with ``--check`` it says which are not current, exit 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import BaseModel

from b2m.project.load import SHARED
from b2m.project.models import InventoryFile, PlaybookFile, RoleFile
from b2m.project.reader import Frame
from b2m.project.tasks import HOLD, ROLE, Modules

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEMPLATE = {"type": "string", "pattern": r"\{\{"}

Schema = dict[str, Any]


def schemas(modules: Modules) -> Mapping[str, Schema]:
    """File name -> schema, of playbooks, roles and the inventory."""
    return {
        "playbook.schema.json": _file(PlaybookFile, modules),
        "role.schema.json": _file(RoleFile, modules),
        "inventory.schema.json": _file(InventoryFile, None),
    }


def _file(model: type[BaseModel], modules: Modules | None) -> Schema:
    raw = _plain(model.model_json_schema())
    defs: Schema = raw.pop("$defs", {})
    if modules is not None:
        defs["task"] = _task(modules, defs)
        raw = _with_tasks(raw)
        defs = {name: _with_tasks(schema) for name, schema in defs.items()}
    allowed = {f"^{SHARED}": {"description": "values for anchors, read nowhere else"}}
    return {"$schema": DRAFT, **raw, "patternProperties": allowed, **({"$defs": defs} if defs else {})}


def _task(modules: Modules, defs: Schema) -> Schema:
    """One task: the keys of every task, and exactly one module."""
    frame = _plain(Frame.model_json_schema())
    properties: Schema = frame["properties"]
    properties["block"]["items"] = {"$ref": "#/$defs/task"}
    properties["when"]["anyOf"].append({"type": "boolean"})
    for key, model in modules.items():
        schema = _plain(model.model_json_schema())
        defs.update(schema.pop("$defs", {}))
        schema["properties"] = {name: _or_template(value) for name, value in schema.get("properties", {}).items()}
        # A module without required arguments may stand alone: "rename:".
        properties[key] = schema if schema.get("required") else {**schema, "type": ["object", "null"]}
    properties[ROLE] = {"type": "string", "description": "the folder of a role below roles/"}
    limited = [key for key, model in modules.items() if key != HOLD]
    repeatable = [key for key in limited if getattr(modules[key], "repeatable", False)]
    return {
        "type": "object",
        "description": "One task: a module, or a role.",
        "properties": properties,
        "additionalProperties": False,
        "oneOf": [{"required": [key]} for key in (*modules, ROLE)],
        "dependentSchemas": {
            "block": {"required": [HOLD]},
            "vars": {"required": [ROLE]},
            "timeout": {"anyOf": [{"required": [key]} for key in limited]},
            "retries": {"anyOf": [{"required": [key]} for key in repeatable]},
        },
    }


def _or_template(schema: Schema) -> Schema:
    """The schema of an argument, or an expression in its place or in that of its items."""
    inner = {key: value for key, value in schema.items() if key not in ("description", "default")}
    outer = {key: value for key, value in schema.items() if key in ("description", "default")}
    if isinstance(inner.get("items"), dict):
        inner["items"] = _or_template(inner["items"])
    if inner.get("type") == "string" and "enum" not in inner and "pattern" not in inner:
        return schema
    return {**outer, "anyOf": [*inner.pop("anyOf", []), *([inner] if inner else []), TEMPLATE]}


def _with_tasks(schema: Any) -> Any:
    """The schema with every list of plain mappings, which only tasks are, as a list of tasks."""
    if isinstance(schema, list):
        return [_with_tasks(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "array" and schema.get("items", {}) == {"type": "object", "additionalProperties": True}:
        return {**schema, "items": {"$ref": "#/$defs/task"}}
    return {key: _with_tasks(value) for key, value in schema.items()}


def _plain(schema: Any) -> Any:
    """A schema without pydantic's titles, and with defaults as people write them."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if not _noise(key, value)}
    if isinstance(plain.get("default"), float) and plain.get("type") == "string":
        plain["default"] = f"{plain['default']:g}s"  # the only texts that are read as numbers are durations
    return plain


def _noise(key: str, value: object) -> bool:
    """What pydantic adds and no editor needs; a property may have the same name, but its schema is a mapping."""
    return not isinstance(value, dict) and (key in ("title", "gt") or (key == "default" and value is None))


def main(arguments: list[str]) -> int:
    """Write the schemas, or check them; returns the exit code."""
    # By name: the models of modules are known one layer above this package, and only to this command.
    made = schemas(resolve_name("b2m.modules:MODULES"))
    docs = Path(__file__).resolve().parents[3] / "docs"
    stale = []
    for name, schema in made.items():
        path, text = docs / name, json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(path)
            if "--check" not in arguments:
                path.write_text(text, "utf-8")
    for path in stale:
        print(f"{path.name} {'is not current' if '--check' in arguments else 'written'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
