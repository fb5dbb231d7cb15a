"""Secrets: named in YAML as ``$NAME``, and read only where they are used.

A value comes from the first of: what a run on another host was given in memory; the environment variable; the file
that ``NAME_FILE`` names; the file of ``NAME=value`` lines that ``B2M_SECRETS_FILE`` names. It never goes into a log, an
event, a command line or a file of b2m's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any

from b2m.errors import SecretMissing

FILE = "B2M_SECRETS_FILE"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")

SHORTEST = 6  # characters: a shorter value stands in texts by chance

_mentioned: set[str] = set()
_given: dict[str, str] = {}
_read: dict[str, str] = {}
_files: dict[tuple[Path, tuple[int, ...]], dict[str, str]] = {}  # by path and state


def read(name: str) -> str:
    """Return the value of a secret; SecretMissing if there is none, or its file cannot be used."""
    _read[name] = _value(name)
    return _read[name]


def mention(names: Iterable[str]) -> None:
    """Let ``redacted`` know the secrets of these names, too, as far as they are set; none is read yet."""
    _mentioned.update(names)


def redacted(value: Any) -> Any:
    """Return lists, mappings and texts with the name of each known secret in the place of its value.

    Known are those that were read, given or mentioned here, and those of the file that ``B2M_SECRETS_FILE`` names. Of a
    value of several lines each line is known, too: texts join lines in their own way.
    """
    known = {part: name for name, text in _known() for part in _parts(text)}
    if not known:
        return value
    # The longest first: one that is the beginning of another would leave that one's rest.
    texts = sorted(known, key=len, reverse=True)
    return _redacted(value, known, re.compile("|".join(map(re.escape, texts))))


def _parts(text: str) -> set[str]:
    lines = (line.strip() for line in text.splitlines())
    return {part for part in (text, *lines) if len(part) >= SHORTEST}


def _known() -> list[tuple[str, str]]:
    """Return names with values; a name has several if they come from several places."""
    shared = os.environ.get(FILE)
    try:
        lines = _shared(FILE, Path(shared)) if shared else {}
    except SecretMissing:
        lines = {}  # whoever needs one of them is told
    there = [(name, _there(name)) for name in sorted(_mentioned)]
    return [*lines.items(), *there, *_given.items(), *_read.items()]


def _there(name: str) -> str:
    """Return what the environment or the secret's own file has, empty if there is nothing that can be read."""
    found, own = os.environ.get(name), os.environ.get(f"{name}_FILE")
    # A pipe can be read only once, by whoever needs the secret.
    if found or not own or not Path(own).is_file():
        return found or ""
    try:
        return _text(name, Path(own)).rstrip("\r\n")
    except SecretMissing:
        return ""  # whoever needs it is told


def _redacted(value: Any, known: Mapping[str, str], pattern: re.Pattern[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _redacted(inner, known, pattern) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner, known, pattern) for inner in value]
    if isinstance(value, str):
        return pattern.sub(lambda found: f"(secret {known[found[0]]})", value)
    return value


def _value(name: str) -> str:
    found = _given.get(name) or os.environ.get(name)
    if found:
        return found
    if own := os.environ.get(f"{name}_FILE"):
        return _text(name, Path(own)).rstrip("\r\n")
    shared = os.environ.get(FILE)
    if shared is not None and (found := _shared(name, Path(shared)).get(name)):
        return found
    where = f", or to {shared}" if shared else f", {name}_FILE, or a file that {FILE} names"
    raise SecretMissing(name=name, what="it is not set", now=f"set it in the environment{where}")


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping, and those in it, with each ``$NAME`` replaced by the secret's value; SecretMissing."""
    return {key: _resolved(value) for key, value in config.items()}


def names(config: Mapping[str, Any]) -> set[str]:
    """Return the names of the secrets that a mapping refers to."""
    found: set[str] = set()
    for value in config.values():
        if isinstance(value, Mapping):
            found |= names(value)
        elif isinstance(value, str) and (reference := REFERENCE.fullmatch(value)):
            found.add(reference[1])
    return found


def give(values: Mapping[str, str]) -> None:
    """Let this process have secrets that are in no environment: those that came over a channel."""
    _given.update(values)


def collect(wanted: Iterable[str]) -> dict[str, str]:
    """Return the values of several secrets by name; SecretMissing."""
    return {name: read(name) for name in sorted(wanted)}


def _resolved(value: Any) -> Any:
    if isinstance(value, Mapping):
        return resolved(value)
    reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return read(reference[1]) if reference else value


def _text(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise SecretMissing(name=name, what=f"{path} cannot be read: {why}", now="mend that file") from error


def _shared(name: str, path: Path) -> dict[str, str]:
    """Read the shared file, once for each state of it, and a pipe only once: more it does not give."""
    try:
        found = path.stat()
        state = (found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns) if S_ISREG(found.st_mode) else ()
    except OSError:
        return _lines(name, path)  # it says what is wrong
    if (path, state) not in _files:
        _files[path, state] = _lines(name, path)
    return _files[path, state]


def _lines(name: str, path: Path) -> dict[str, str]:
    """Read lines of ``NAME=value``, as a shell or systemd reads them: ``export``, quotes and comments are allowed."""
    try:
        if path.stat().st_mode & 0o077:
            what = f"{path} can be read by other users"
            raise SecretMissing(name=name, what=what, now=f"run: chmod 600 {path}")
    except OSError:
        pass  # reading it says what is wrong
    found: dict[str, str] = {}
    for number, line in enumerate(_text(name, path).splitlines(), 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals or not NAME.fullmatch(key.strip()):
            what = f"{path}:{number} is no line of the form NAME=value"
            raise SecretMissing(name=name, what=what, now="mend that line")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[key.strip()] = value
    return found
