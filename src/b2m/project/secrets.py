"""Literals that look like secrets: a project is read by everybody who reviews it, and stays in Git for ever."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from b2m.project import templates
from b2m.project.problems import Position, Problems
from b2m.project.yaml import Document
from b2m.secrets import REFERENCE

ALLOW = "not a secret"
"""A comment with these words, on the line of a literal, says that it only looks like one."""

INSTEAD = f"let the command that needs it read it from its environment, or write behind it: # {ALLOW}"

_WORD = r"(?:password|passwd|passphrase|secret|token|(?:api|access|private|app|application)[_-]?key)"
_KEY = re.compile(rf"(?:^|[_-]){_WORD}$", re.IGNORECASE)
_GIVEN = re.compile(rf"{_WORD}[\"']?\s?[=:]\s?[\"']?(?![\s\"'{{$<(])(\S{{4,}})", re.IGNORECASE)
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
_RUN = re.compile(r"[A-Za-z0-9]{8,}")
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_COMMENT = re.compile(r"(?:^|\s)#(.*)")
MIN_BITS = 3.5  # Shannon entropy a character: words stay below it, random letters and digits are above
MIN_HEX = 32  # hexadecimal digits: fewer are a checksum's beginning or a number


def note_secrets(document: Document, lines: Iterable[str], problems: Problems) -> None:
    """Note every key, literal and comment of a document that looks like a secret; ``lines`` are those of its file."""
    text = list(lines)
    for at, what in (*_keys(document), *_values(document), *_comments(document, text)):
        if what is not None and not _allowed(text, at):
            problems.add(at, f"this looks like {what}: {INSTEAD}")


def looks_secret(key: str, text: str, above: Iterable[str] = ()) -> str | None:
    """What kind of secret the value of a key looks like, None if it looks like none; ``above``: the keys around it."""
    literal = _literal(text)
    if not REFERENCE.fullmatch(text.strip()):
        if _KEY.search(key) and (_mixed(literal) if templates.is_template(text) else literal.strip()):
            return f"a secret under {key}"
        # Around other keys, such as the name of a secret's file, words are let pass.
        around = next(filter(_KEY.search, above), None)
        if around is not None and _mixed(literal):
            return f"a secret under {around}"
    known = _known(text)
    if known is not None:
        return known
    if _GIVEN.search(text) or _FLAG.search(text):
        return "a secret in a text"
    return "a random token" if any(map(_random, _TOKEN.findall(literal))) else None


def _keys(document: Document) -> Iterator[tuple[Position, str | None]]:
    for path, at in document.keys.items():
        yield at, _known(str(path[-1]))


def _values(document: Document) -> Iterator[tuple[Position, str | None]]:
    for path, leaf in templates.leaves(document.data):
        if isinstance(leaf, str | int) and not isinstance(leaf, bool):
            # An argument's default stands one level below the argument's name.
            *above, key = ["", *(step for step in path if isinstance(step, str) and step != "default")]
            yield document.at(path), looks_secret(key, str(leaf), above)


def _comments(document: Document, lines: list[str]) -> Iterator[tuple[Position, str | None]]:
    """What comments hold; a # in a text begins none, and that text is judged with its value."""
    texts = [leaf for _, leaf in templates.leaves(document.data) if isinstance(leaf, str)]
    for number, line in enumerate(lines, start=1):
        comment = _COMMENT.search(line)
        if comment is None:
            continue
        what = _known(comment[1])
        if what is None and any(_mixed(given[1]) for given in _GIVEN.finditer(comment[1])):
            what = "a secret in a comment"
        begins = comment[1].strip().rstrip("\"']}, ")
        if what is not None and not any(begins in text for text in texts):
            yield Position(document.file, number, comment.start(1)), what


def _known(text: str) -> str | None:
    """What is in a text that nothing but a secret looks like."""
    return next((what for what, pattern in _PATTERNS if pattern.search(text)), None)


def _literal(text: str) -> str:
    """The text without its expressions, of which only what they quote stays."""
    end = text.rfind("}}") + 2  # behind it nothing ends an expression, and looking for that again and again takes long
    return _EXPRESSION.sub(lambda found: f" {' '.join(_QUOTED.findall(found[0]))} ", text[:end]) + text[end:]


def _mixed(text: str) -> bool:
    """Whether letters and digits stand together in a long word, which names and their suffixes seldom do."""
    return any(not run.isalpha() and not run.isdigit() for run in _RUN.findall(text))


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
