"""A review as Markdown for a comment, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from b2m.review.compare import Database, Review, Warned
from b2m.review.policies import Changed

_SIGN = re.compile(r"[\\`*\[\]<~]|(?<!\w)_|_(?!\w)")
"""What Markdown may read as more than text; an underscore between letters is none."""


def markdown(review: Review) -> Iterator[str]:
    """Yield the lines of a comment."""
    change = review.change
    parted = f"(where it parted from {code(change.base_name)})"
    tree = " and uncommitted changes" if change.dirty else ""
    yield "## b2m review"
    yield ""
    yield f"From {code(change.base[:10])} {parted} to {code(change.head[:10])}{tree}."
    if review.invalid:
        yield from _listed("Not valid after the change", review.invalid)
    if review.was_invalid:
        yield from _listed("Not valid before the change", review.was_invalid)
    if review.invalid or review.was_invalid:
        yield ""
        yield "What could not be understood is missing in what follows."
    if review.warnings:
        yield from ("", f"### {counted(len(review.warnings), 'warning')}", "")
        yield from (f"- {_warning(one)}" for one in review.warnings)
    elif not review.databases and not review.invalid and not review.was_invalid:
        yield from ("", "No effect: every database has the same plans, policies and settings as before.")
    for one in review.databases:
        yield from _database(one)
    yield from ("", "### Not looked at", "")
    yield from (f"- {plain(one)}" for one in review.unseen)


def _listed(title: str, lines: tuple[str, ...]) -> Iterator[str]:
    yield from ("", f"### {title}", "", "```text")
    yield from (" ".join(line.split()) for line in lines)
    yield "```"


def _warning(one: Warned) -> str:
    places = f"{', '.join(one.states)}{_on(one.hosts)}".strip()
    where = f" ({places})" if places else ""
    return f"{f'**{plain(one.db)}**: ' if one.db else ''}{plain(one.what)}{plain(where)}"


def _database(one: Database) -> Iterator[str]:
    yield from ("", f"### {plain(one.db)}")
    for note in one.notes:
        yield from ("", plain(note))
    if one.changed:
        yield ""
        yield from (f"- {_changed(changed, hosts)}" for changed, hosts in one.changed)
    for plans in one.plans:
        around = f" (the lines around are those of {plain(plans.around)})" if plans.around else ""
        where = f"{', '.join(code(state) for state in plans.states)}{plain(_on(plans.hosts))}{around}"
        yield from ("", where, "", "```diff")
        yield from plans.lines
        yield "```"


def _changed(one: Changed, hosts: tuple[str, ...]) -> str:
    means = f": {plain(one.means)}" if one.means else ""
    return f"{code(one.name)} {code(one.before)} -> {code(one.after)}{plain(_on(hosts))}{means}"


def _on(hosts: tuple[str, ...]) -> str:
    return f" on {', '.join(hosts)}" if hosts else ""


def code(text: str) -> str:
    """Text as code within a line; nothing in it ends that."""
    return f"`` {text} ``" if "`" in text and "``" not in text else f"`{text.replace('`', chr(39))}`"


def plain(text: str) -> str:
    """Text of which nothing is taken for Markdown, and nobody is called by an @."""
    return _SIGN.sub(r"\\\g<0>", text).replace("@", "@\N{ZERO WIDTH SPACE}")


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def json_lines(review: Review) -> Iterator[dict[str, Any]]:
    """Yield what the comment says, one object each, the summary last."""
    for severity, lines in (("error", review.invalid), ("before", review.was_invalid)):
        yield from ({"type": "problem", "severity": severity, "text": line} for line in lines)
    for warned in review.warnings:
        place = {"db": warned.db, "states": list(warned.states), "hosts": list(warned.hosts)}
        yield {"type": "warning", **place, "text": warned.what}
    for one in review.databases:
        yield from ({"type": "note", "db": one.db, "text": note} for note in one.notes)
        for changed, hosts in one.changed:
            values = {"name": changed.name, "before": changed.before, "after": changed.after, "means": changed.means}
            yield {"type": "setting", "db": one.db, "hosts": list(hosts), **values, "weaker": changed.weaker}
        for plans in one.plans:
            place = {"db": one.db, "states": list(plans.states), "hosts": list(plans.hosts)}
            yield {"type": "plan", **place, "diff": list(plans.lines)}
    yield from ({"type": "unseen", "text": text} for text in review.unseen)
    change = review.change
    yield {
        "type": "review",
        "base": change.base,
        "head": change.head,
        "dirty": change.dirty,
        "warnings": len(review.warnings),
        "databases": [one.db for one in review.databases],
        "exit_code": review.exit_code,
    }
