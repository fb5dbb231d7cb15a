"""Literals that look like secrets: a project is read by everybody who reviews it, and stays in Git for ever."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from b2m.project import templates
from b2m.project.problems import Position, Problems
from b2m.project.yaml import Document

ALLOW = "not a secret"
"""A comment with these words, on the line of a literal, says that it only looks like one."""

INSTEAD = f"let the command that needs it read it from its environment, or write behind it: # {ALLOW}"

_WORD = r"(?:password|passwd|passphrase|secret|token|(?:api|access|private|app|application)[_-]?key)"
_KEY = re.compile(rf"(?:^|[_-]){_WORD}$", re.IGNORECASE)
_GIVEN = re.compile(rf"{_WORD}[\"']?\s?[=:]\s?[\"']?(?![\s\"'{{$<(])\S{{4,}}", re.IGNORECASE)
_FLAG = re.compile(rf"(?:^|\s)--?(?:[\w-]+-)?{_WORD}\s+[\"']?(?![\"'{{$<(-])\S{{4,}}", re.IGNORECASE)
_PATTERNS = (
    ("a password in an address", re.compile(r"://[^/\s:@{}$]*:(?![{$])[^/\s@]+@")),
    (
        "a webhook's address",
        re.compile(
            r"hooks\.slack\.com/(?:services|workflows)/\w|discord(?:app)?\.com/api/webhooks/\d|"
            r"webhook\.office\.com/webhook|outlook\.office(?:365)?\.com/webhook|api\.telegram\.org/bot\d|"
            r"chat\.googleapis\.com/v1/spaces/\S+[?&]key=",
            re.IGNORECASE,
        ),
    ),
    ("an address with a token", re.compile(r"[?&](?:[\w-]*token|key|sig|signature|secret)=(?![{$])\S{6,}", re.I)),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    (
        "an access key",
        re.compile(
            r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bxox[abprs]-[\w-]{10,}|"
            r"\bsk-[\w-]{20,}|\bK00\d[0-9A-Za-z+/]{27}|\bAIza[\w-]{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}"
        ),
    ),
)
_TOKEN = re.compile(r"[A-Za-z0-9+=_-]{20,}")
MIN_BITS = 3.5  # Shannon entropy a character: words stay below it, random letters and digits are above
MIN_HEX = 32  # hexadecimal digits: fewer are a checksum's beginning or a number


def note_secrets(document: Document, lines: Iterable[str], problems: Problems) -> None:
    """Note every literal of a document that looks like a secret; ``lines`` are those of its file."""
    text = list(lines)
    for path, leaf in templates.leaves(document.data):
        if not isinstance(leaf, str | int) or isinstance(leaf, bool):
            continue
        # An argument's default stands one level below the argument's name.
        key = next((step for step in reversed(path) if isinstance(step, str) and step != "default"), "")
        what = looks_secret(key, str(leaf))
        at = document.at(path)
        if what is not None and not _allowed(text, at):
            problems.add(at, f"this looks like {what}: {INSTEAD}")


def looks_secret(key: str, text: str) -> str | None:
    """What kind of secret the value of a key looks like, None if it looks like none."""
    literal = _literal(text)
    if _KEY.search(key) and literal.strip() and not text.lstrip().startswith("$") and not templates.is_template(text):
        return f"a secret under {key}"
    for what, pattern in _PATTERNS:
        if pattern.search(text):
            return what
    if _GIVEN.search(text) or _FLAG.search(text):
        return "a secret in a text"
    return "a random token" if any(map(_random, _TOKEN.findall(literal))) else None


def _literal(text: str) -> str:
    """The text without its expressions."""
    return re.sub(r"\{\{.*?\}\}", " ", text, flags=re.DOTALL)


def _random(token: str) -> bool:
    plain = token.replace("-", "").replace("_", "").rstrip("=")
    if re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", plain):
        return len(plain) >= MIN_HEX and len(set(plain)) >= 8
    kinds = sum(bool(re.search(kind, plain)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    # Words joined by - and _ have digits at their ends only; in random text they stand anywhere.
    mixed = len(re.findall(r"[0-9](?=[A-Za-z])|[A-Z](?=[0-9])|[a-z](?=[0-9A-Z])", plain)) >= len(plain) / 5
    return kinds == 3 and mixed and _bits(plain) >= MIN_BITS


def _bits(text: str) -> float:
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def _allowed(lines: list[str], at: Position) -> bool:
    line = lines[at.line - 1] if 0 < at.line <= len(lines) else ""
    return "#" in line and ALLOW in line.rpartition("#")[2]
