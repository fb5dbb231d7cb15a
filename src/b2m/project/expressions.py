"""What an expression may say, and which names it reads: everything that can be told without values.

Allowed are names, fields, comparisons, arithmetic, a few filters, and ``minutes(n)`` and ``hours(n)``. Statements,
methods and other calls are refused, so that a reviewer sees data, and the sandbox has little to keep in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from jinja2 import TemplateSyntaxError, nodes

from b2m.project.problems import suggest
from b2m.project.sandbox import FILTERS, FUNCTIONS, VALUES, TemplateProblem
from b2m.project.scalars import MAX_BITS

MAX_DEPTH = 64
"""How deep an expression may be nested, each ``+`` one deeper: Python reads no more than 200 parentheses."""

_NO_STATEMENTS = "statements such as {% if %} are not allowed: use when"
_TOO_DEEP = "not an expression: nested too deeply"
_TOO_LONG = "not an expression: a number has too many digits"


@dataclass(frozen=True)
class Reference:
    """A name that an expression reads, and the field of it; ``optional`` if a default stands in for it."""

    name: str
    field: str | None
    optional: bool


@dataclass(frozen=True)
class Expression:
    """A text that was found fit: what it reads, and the lone expression in it, if it is one."""

    references: tuple[Reference, ...]
    single: str | None


@lru_cache(maxsize=4096)
def read(text: str, *, bare: bool = False) -> Expression:
    """Read a template or, with ``bare``, an expression without braces; TemplateProblem if it may not be."""
    if bare and ("{{" in text or "{%" in text):
        raise TemplateProblem("a bare expression stands here: write it without {{ }}")
    source = f"{{{{ {text} }}}}" if bare else text
    try:
        tree = VALUES.parse(source)
    except TemplateSyntaxError as error:
        raise TemplateProblem(_NO_STATEMENTS if "{%" in text else _in_words(error)) from None
    except RecursionError:
        raise TemplateProblem(_TOO_DEEP) from None
    except ValueError:
        raise TemplateProblem(_TOO_LONG) from None
    found: list[Reference] = []
    parts: list[nodes.Node] = []
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            raise TemplateProblem(_NO_STATEMENTS)
        parts += statement.nodes
    for part in parts:
        _collect(part, found)
    single = _single(source, parts)
    if bare and single is None:
        raise TemplateProblem("not an expression: it ends before the text does")
    return Expression(tuple(found), single)


def _single(source: str, parts: list[nodes.Node]) -> str | None:
    # Blanks around the braces do not make a text of it: a folded scalar ends in a line end.
    parts = [part for part in parts if not (isinstance(part, nodes.TemplateData) and not part.data.strip())]
    stripped = source.strip()
    if len(parts) != 1 or isinstance(parts[0], nodes.TemplateData) or not stripped.startswith("{{"):
        return None
    return stripped[2:-2].removeprefix("-").removesuffix("-").strip()


def _in_words(error: TemplateSyntaxError) -> str:
    what = (error.message or "").rstrip(".")
    if what.startswith(("Expected an expression, got 'end of", "unexpected 'end of", "unexpected end of")):
        return "not an expression: it is empty or ends too early"
    return f"not an expression: {what}"


def _collect(node: nodes.Node, found: list[Reference], optional: bool = False, depth: int = 0) -> None:
    """Walk an expression, note what it reads, and refuse what is not data."""
    if depth > MAX_DEPTH:
        raise TemplateProblem(_TOO_DEEP)
    _refuse(node)
    if isinstance(node, nodes.Name):
        if node.name not in FUNCTIONS:
            found.append(Reference(node.name, None, optional))
        return
    if isinstance(node, nodes.Getattr | nodes.Getitem) and isinstance(node.node, nodes.Name):
        found.append(Reference(node.node.name, _field(node), optional))
        if isinstance(node, nodes.Getitem):
            _collect(node.arg, found, optional, depth + 1)
        return
    stands_in = (isinstance(node, nodes.Filter) and node.name == "default") or (
        isinstance(node, nodes.Test) and node.name in ("defined", "undefined")
    )
    subject = node.node if isinstance(node, nodes.Filter | nodes.Test) else None
    for child in node.iter_child_nodes():
        _collect(child, found, optional or (stands_in and child is subject), depth + 1)


def _refuse(node: nodes.Node) -> None:
    if isinstance(node, nodes.TemplateData):
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, int) and node.value.bit_length() > MAX_BITS:
        raise TemplateProblem(_TOO_LONG)
    if isinstance(node, nodes.Call) and not (isinstance(node.node, nodes.Name) and node.node.name in FUNCTIONS):
        raise TemplateProblem(f"only {' and '.join(f'{name}()' for name in FUNCTIONS)} may be called")
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise TemplateProblem(f"unknown filter {node.name}{suggest(node.name, FILTERS)}")
    if isinstance(node, nodes.Test) and node.name not in VALUES.tests:
        raise TemplateProblem(f"unknown test {node.name}{suggest(node.name, VALUES.tests)}")
    if isinstance(node, nodes.Pow):
        raise TemplateProblem("** is not allowed")
    field = _field(node)
    if field is not None and field.startswith("_"):
        raise TemplateProblem(f"{field} cannot be read: the name begins with _")


def _field(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return node.arg.value
    return None
