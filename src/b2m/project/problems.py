"""Where something stands in a file, and the list of everything wrong in a project."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from b2m.errors import InvalidProject


@dataclass(frozen=True, order=True)
class Position:
    """A place in a project file; line and column count from 1, and are 0 for what stands in no file."""

    file: str
    line: int
    col: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col}" if self.line else self.file


class Problems:
    """Collects what is wrong, so that a person sees every error at once and not one per attempt."""

    def __init__(self) -> None:
        self._found: set[tuple[Position, str]] = set()

    def add(self, at: Position, what: str) -> None:
        """Note one problem; the same text at the same place counts once (a role is read by many playbooks)."""
        self._found.add((at, what))

    def __len__(self) -> int:
        return len(self._found)

    def found(self) -> list[tuple[Position, str]]:
        """Every problem with its place, in the order of the files."""
        return sorted(self._found)

    def lines(self) -> list[str]:
        """Every problem as ``file:line:col: what``, in the order of the files."""
        return [f"{at}: {what}" for at, what in self.found()]

    def raise_any(self) -> None:
        """Raise InvalidProject with all lines, if there is one."""
        if self._found:
            raise InvalidProject(self.lines())


def suggest(wrong: str, known: Iterable[str], label: str | None = None) -> str:
    """The tail of an "unknown …" line: what was probably meant; with a ``label``, or no guess, what there is."""
    names = sorted(known)
    close = get_close_matches(wrong, names, n=1, cutoff=0.6)
    everything = f"{label or 'known here'}: {', '.join(names) or 'nothing'}"
    if close:
        return f", did you mean {close[0]}?" + (f" {everything}" if label else "")
    return f"; {everything}"
