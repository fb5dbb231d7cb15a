"""A review: two revisions read, compared, and searched for secrets that are new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from b2m.modules import MODULES
from b2m.project import find_project
from b2m.project.load import INVENTORY, Reading, read_project
from b2m.project.problems import Position, Problems
from b2m.project.secrets import note_secrets
from b2m.review.compare import Review, Warned, compare
from b2m.review.revisions import Repository

_NAMED = 10  # other files that are named, not only counted


def review(folder: str | None = None, base: str | None = None) -> Review:
    """Compare a project's files, as they lie there, with the revision where HEAD and ``base`` parted.

    Needs no host, bucket or secret, and checks nothing out; UsageError without a repository, revision or project.
    """
    root = find_project(folder)
    repository = Repository(root)
    change = repository.change(base)
    with TemporaryDirectory(prefix="b2m-review-") as name:
        there = Path(name)
        outside = repository.extract(change.base, there)
        began = (there / INVENTORY).exists()
        before, old_problems, old_secrets = _read(there)
    after, problems, secrets = _read(root)
    compared = compare(before, after)
    new = _new_secrets(old_secrets, secrets)
    return Review(
        change,
        compared.databases,
        (*compared.warnings, *new),
        tuple(problems),
        tuple(old_problems) if began else (),
        (
            *compared.unseen,
            *(f"{path} was a link out of the project at {change.base[:10]}: it was not followed" for path in outside),
            *_never_seen(repository.other_files(change.base)),
        ),
    )


def _read(root: Path) -> tuple[Reading, list[str], list[tuple[str, Position, str]]]:
    """What can be read, what is wrong, and what looks like a secret, with the line that it stands in."""
    problems = Problems()
    read = read_project(root, MODULES, problems)
    secrets = []
    for file, document in read.documents.items():
        lines = (root / file).read_text("utf-8", errors="replace").splitlines()
        found = Problems()
        note_secrets(document, lines, found)
        secrets += [(lines[at.line - 1] if 0 < at.line <= len(lines) else "", at, what) for at, what in found.found()]
    return read, problems.lines(), secrets


def _new_secrets(before: list[tuple[str, Position, str]], after: list[tuple[str, Position, str]]) -> Iterator[Warned]:
    # A line that only moved, or moved to another file, was reviewed before.
    known = Counter((line.strip(), what) for line, _, what in before)
    for line, at, what in after:
        known[line.strip(), what] -= 1
        if known[line.strip(), what] < 0:
            yield Warned(None, f"{at}: {what}")


def _never_seen(others: list[str]) -> Iterator[str]:
    yield "hosts, buckets and databases: none was asked; what a run finds out stands as it is written"
    yield "variables that somebody sets with -e"
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        yield f"other files that changed, such as scripts that commands call: {', '.join(others[:_NAMED])}{more}"
