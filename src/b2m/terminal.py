"""What a stream of output can show: its width and colours, and tables that fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

GAP = "  "


@dataclass(frozen=True)
class Column:
    """A column of a table; those with the highest ``drop`` go first where there is no room, 0 never goes."""

    title: str
    drop: int = 0


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, a colour as in ANSI escapes, and a note that may take a line of its own."""

    cells: Sequence[str]
    colour: str = ""
    note: str = ""


def coloured(out: IO[str]) -> bool:
    """Tell whether a stream wants colours: a terminal that has them, and no NO_COLOR (https://no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width(out: IO[str]) -> int | None:
    """Return how many columns a stream shows, None if it does not matter: COLUMNS, or the terminal's."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:
        return os.get_terminal_size(out.fileno()).columns if out.isatty() else None
    except (OSError, ValueError):
        return None


def table(columns: Sequence[Column], rows: Sequence[Row], room: int | None, colours: bool) -> list[str]:
    """Return aligned lines; what does not fit in ``room`` loses columns, and notes get lines of their own."""
    shown = list(range(len(columns)))
    widths = [max(len(column.title), *(len(row.cells[at]) for row in rows)) for at, column in enumerate(columns)]

    def total() -> int:
        return sum(widths[at] for at in shown) + len(GAP) * (len(shown) - 1)

    while room is not None and total() > room and (least := max(shown, key=lambda at: columns[at].drop)):
        if not columns[least].drop:
            break
        shown.remove(least)
    beside = room is None or all(total() + len(GAP + row.note) <= room for row in rows)

    def line(cells: Sequence[str], note: str = "") -> str:
        return GAP.join([*(cells[at].ljust(widths[at]) for at in shown), note]).rstrip()

    lines = [line([column.title for column in columns])]
    for row in rows:
        text = line(row.cells, row.note if beside else "")
        lines.append(f"\x1b[{row.colour}m{text}\x1b[0m" if colours and row.colour else text)
        if row.note and not beside:
            lines.extend(_wrapped(row.note, room or 80))
    return lines


def _wrapped(text: str, room: int) -> list[str]:
    import textwrap

    indent = GAP * 2
    return textwrap.wrap(
        text,
        max(room, 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
