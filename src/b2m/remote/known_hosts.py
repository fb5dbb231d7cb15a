"""known_hosts files as OpenSSH reads them: hashed names, patterns, revoked keys; a bad line is skipped, not an error.

Keys are compared as the bytes that the server sends. Certificates (``@cert-authority``) are not checked: a host that is
known only through one counts as unknown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

Marker = Literal["", "@revoked", "@cert-authority"]


@dataclass(frozen=True)
class Line:
    """One line that concerns a host: ``key`` is the key's wire form."""

    marker: Marker
    kind: str
    key: bytes
    file: Path
    number: int


class Verdict(NamedTuple):
    """What known_hosts says about a key that a server showed; ``line`` is what decided it."""

    state: Literal["known", "unknown", "changed", "revoked"]
    line: Line | None = None


def read(files: Iterable[Path], name: str) -> list[Line]:
    """Return the lines of all readable files that concern a host, known there as ``name`` or ``[name]:port``."""
    return [line for file in files for line in _read_file(file, name)]


def judge(lines: Iterable[Line], key: bytes) -> Verdict:
    """Decide about the key that a server showed; a revoked one stays refused whatever else is said about it."""
    lines = list(lines)
    revoked = [line for line in lines if line.marker == "@revoked" and line.key == key]
    if revoked:
        return Verdict("revoked", revoked[0])
    plain = [line for line in lines if not line.marker]
    same = [line for line in plain if line.key == key]
    if same:
        return Verdict("known", same[0])
    if plain:
        kind = _kind(key)
        return Verdict("changed", next((line for line in plain if line.kind == kind), plain[0]))
    return Verdict("unknown", next((line for line in lines if line.marker == "@cert-authority"), None))


def fingerprint(key: bytes) -> str:
    """Return a key's kind and fingerprint as ``ssh-keygen -l`` shows it: ``ED25519 SHA256:…``."""
    kind = _kind(key)
    name = "ECDSA" if kind.startswith("ecdsa") else kind.removeprefix("ssh-").upper()
    return f"{name} SHA256:{base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip('=')}"


def _kind(key: bytes) -> str:
    """A key's wire form begins with the length and the name of its kind (RFC 4253, 6.6)."""
    return key[4 : 4 + int.from_bytes(key[:4], "big")].decode("ascii", "replace")


def _read_file(file: Path, name: str) -> Iterator[Line]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if marker not in get_args(Marker) or len(words) < 3 or not _concerns(words[0], name):
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except binascii.Error:
            continue
        yield Line(cast(Marker, marker), words[1], key, file, number)


def _concerns(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        return _is_hash_of(names, name)
    found = False
    for pattern in names.lower().split(","):
        # Only * and ? are wildcards here; the brackets around a name with a port are not.
        if fnmatchcase(name.lower(), pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        made = hmac.digest(base64.b64decode(salt), name.lower().encode(), "sha1")
        return hmac.compare_digest(made, base64.b64decode(digest))
    except ValueError:  # binascii.Error is one
        return False
