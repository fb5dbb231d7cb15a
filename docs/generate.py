"""Writes the generated parts of the pages in docs/ from the code that they describe.

    python docs/generate.py            writes what is stale
    python docs/generate.py --check    exit code 1 and the names of the stale pages, if any

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the rest of a page is written by
hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any

from invoke.parser.context import to_flag
from pydantic import BaseModel

from b2m import errors
from b2m.modules import MODULES
from b2m.project.facts import FACTS, ONLY_IN
from b2m.project.models import InventoryFile, PlaybookFile, RoleFile
from b2m.project.reader import Frame
from b2m.tasks import namespace
from b2m.tasks.frame import HELP

DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Schema = Mapping[str, Any]


def commands() -> Iterator[str]:
    """Every task with its flags; those that several tasks share are explained once, above."""
    for name in sorted(namespace.task_names):
        arguments = namespace[name].get_arguments()
        # Invoke hands each help text out once.
        flags = [
            f"[{to_flag(each.name)}{' ' + each.name.strip('_').upper() if each.takes_value else ''}]"
            for each in arguments
        ]
        yield f"### `{name}`\n\n{one_line(namespace[name].__doc__)}\n"
        yield f"    b2m {' '.join([name, *flags])}\n"
        own = [(f"`{to_flag(each.name)}`", each.help or "") for each in arguments if each.help != HELP.get(each.name)]
        yield from table(("flag", ""), own) if own else ()
        yield ""


def shared_flags() -> Iterator[str]:
    """The flags that several tasks have."""
    return table(("flag", ""), [(f"`{to_flag(name)}`", what) for name, what in HELP.items()])


def error_classes() -> Iterator[str]:
    """Every error with its exit code, its reason and its message."""
    rows = []
    for kind in sorted(_subclasses(errors.B2mError), key=lambda kind: kind.exit_code):
        reason = f"`{found}`" if (found := getattr(kind, "reason", None)) else ""
        rows.append((str(kind.exit_code), f"`{kind.__name__}`", reason, _message(kind)))
    return table(("exit code", "class", "reason", "message"), rows)


def _subclasses(kind: type[errors.B2mError]) -> Iterator[type[errors.B2mError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def _message(kind: type[errors.B2mError]) -> str:
    text = one_line(kind.__doc__)
    return re.sub(r"\{(\w+)\}", r"‹\1›", text) if text != "{what}" else "‹what›"


def modules() -> Iterator[str]:
    """Every module with its arguments."""
    for key, model in MODULES.items():
        yield f"### `{key}`\n\n{one_line(model.__doc__)}\n"
        yield from fields(model.model_json_schema()) if model.model_fields else ["No arguments."]
        yield "\nIt may be given `retries`.\n" if model.repeatable else ""


def facts() -> Iterator[str]:
    """Every fact that an expression may name."""
    rows = []
    for name, known in FACTS.items():
        only = f"under `{ONLY_IN[name]}` only" if name in ONLY_IN else ""
        rows += [(f"`{name}.{field}`", what) for field, what in known.items()] or [(f"`{name}`", only or "a text")]
    return table(("fact", ""), rows)


def complete() -> Iterator[str]:
    """A playbook with everything in it, as it is run by a test."""
    text = (DOCS.parent / "examples" / "podcast" / "playbooks" / "podcast.yaml").read_text("utf-8")
    yield f"```yaml\n{text.strip()}\n```"


def model(kind: type[BaseModel]) -> Callable[[], Iterator[str]]:
    """Return what describes a file of a project: its keys, and those of every mapping in it."""

    def lines() -> Iterator[str]:
        schema = kind.model_json_schema()
        yield from fields(schema)
        for part in _parts_in_order(schema):
            yield f"\n### {title(part)}\n\n{one_line(schema['$defs'][part].get('description'))}\n"
            yield from fields(schema["$defs"][part])

    return lines


def _parts_in_order(schema: Schema) -> list[str]:
    """Name the definitions in the order in which a reader meets them."""
    found: list[str] = []

    def walk(node: Any) -> None:
        for name in re.findall(r"#/\$defs/(\w+)", str(node)):
            if name not in found:
                found.append(name)
                walk(schema["$defs"][name])

    walk(schema["properties"])
    return found


def title(part: str) -> str:
    """Return the heading of a definition: ``HostDatabaseFile`` is ``host database``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", part.removesuffix("File")).lower()


def fields(schema: Schema) -> Iterator[str]:
    """Yield the table of a mapping's keys."""
    required = schema.get("required", ())
    rows = [
        (
            f"`{name}`",
            words(field),
            "needed" if name in required else _default(field),
            str(field.get("description", "")),
        )
        for name, field in schema["properties"].items()
    ]
    return table(("key", "value", "default", ""), rows)


def words(field: Schema) -> str:
    """Return what a value may be, in words."""
    if "$ref" in field:
        heading = title(str(field["$ref"]).rpartition("/")[2])
        return f"[{heading}](#{heading.replace(' ', '-')})"
    if "anyOf" in field or "oneOf" in field:
        return " or ".join(words(each) for each in field.get("anyOf") or field["oneOf"])
    if "enum" in field:
        return " or ".join(f"`{each}`" for each in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "examples" in field:
        return "such as " + " or ".join(f"`{each}`" for each in field["examples"])
    kind = str(field.get("type", "value"))
    if kind == "array":
        inner = field["items"]
        return "list of tasks" if inner.get("type") == "object" else f"list of {words(inner)}"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"by name: {words(inner)}" if isinstance(inner, Mapping) else "by name: any value"
    return {"string": "text", "integer": "number", "number": "number", "boolean": "`true` or `false`"}.get(kind, kind)


def _default(field: Schema) -> str:
    default = field.get("default")
    if "default" not in field or default is None or default == [] or isinstance(default, Mapping):
        return ""
    if "examples" in field:
        return f"`{default:g}s`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield a Markdown table."""
    for row in (head, tuple("---" for _ in head), *rows):
        yield f"| {' | '.join(re.sub('[|<]', lambda found: chr(92) + found[0], cell) for cell in row)} |"


def one_line(text: str | None) -> str:
    return " ".join(cleandoc(text or "").split())


PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "commands": commands,
    "flags": shared_flags,
    "errors": error_classes,
    "modules": modules,
    "facts": facts,
    "inventory": model(InventoryFile),
    "playbook": model(PlaybookFile),
    "role": model(RoleFile),
    "task": model(Frame),
    "complete": complete,
}


def rendered(page: str) -> str:
    """Return a page with its generated parts as they must be now."""
    return PART.sub(lambda found: f"{found[1]}{chr(10).join(PARTS[found[2]]()).strip()}\n{found[3]}", page)


def main(check: bool) -> int:
    """Write the stale pages, or only name them."""
    stale = False
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text("utf-8")
        after = rendered(before)
        if after != before:
            stale = True
            if not check:
                path.write_text(after, "utf-8")
            print(f"{path.name} {'is stale: run python docs/generate.py' if check else 'written'}")
    return 1 if stale and check else 0


if __name__ == "__main__":
    raise SystemExit(main("--check" in sys.argv[1:]))
