"""The rows of the demo's ipm database: what this Python installation says about itself, and awkward values."""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from typing import cast

_DOCSTRING = re.compile(r"""\A(?:\#[^\n]*\n|\s)*[rRuU]?(\"\"\"|''')(.*?)\1""", re.DOTALL)
_HEAD_BYTES = 16_384


@dataclass(frozen=True)
class Entry:
    """One installable thing."""

    slug: str
    category: str
    name: str
    version: str | None
    summary: str
    keywords: tuple[str, ...]
    license: str | None
    readme: str


def slug_hash(text: str) -> int:
    """The first 8 bytes of the text's SHA-256, big endian, as a signed number: the key of a slug or a category."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def all_entries() -> list[Entry]:
    """Every entry in the order of its slug, the same for the same installation; the first of two equal slugs stays."""
    unique: dict[str, Entry] = {}
    for entry in [*awkward_entries(), *sorted(package_entries(), key=_order), *module_entries()]:
        unique.setdefault(entry.slug, entry)
    return sorted(unique.values(), key=_order)


def package_entries() -> Iterator[Entry]:
    """The metadata of the installed packages."""
    for distribution in distributions():
        metadata = cast(Message, distribution.metadata)
        name = _header(metadata, "Name")
        if not name:  # the left-over of a half-removed package
            continue
        keywords = re.split(r"[,\s]+", _header(metadata, "Keywords") or "")
        yield Entry(
            slug="pip-" + re.sub(r"[-_.]+", "-", name).lower(),
            category="Python packages",
            name=name,
            version=_header(metadata, "Version"),
            summary=_header(metadata, "Summary") or "",
            keywords=tuple(word for word in keywords if word),
            license=_header(metadata, "License-Expression") or _header(metadata, "License"),
            readme=_header(metadata, "Description") or _text(metadata.get_payload()),
        )


def module_entries() -> Iterator[Entry]:
    """The standard library's modules with what they say of themselves."""
    folder = Path(sysconfig.get_path("stdlib"))
    version = ".".join(map(str, sys.version_info[:3]))
    for name in sorted(sys.stdlib_module_names):
        path = folder / f"{name}.py"
        if not path.is_file():
            path = folder / name / "__init__.py"
        if not path.is_file():
            continue
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
        found = _DOCSTRING.match(head)
        if found is None:
            continue
        text = found[2].strip()
        yield Entry(
            slug=f"python-{name}",
            category="Standard library",
            name=name,
            version=version,
            summary=text.partition("\n")[0],
            keywords=("python", "stdlib"),
            license="PSF-2.0",
            readme=text,
        )


def awkward_entries() -> Iterator[Entry]:
    """Values that careless SQL, CSV or JSON handling breaks on."""
    values = {
        "apostrophe": "It's the user's 'quoted' text; DROP TABLE ipm_data; --",
        "question-marks": "Is ? a parameter? Or ?1, :name, @name, $name?",
        "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 1️⃣ ☺︎ ☺️",
        "newlines": "first\nsecond\r\nthird\rfourth\u2028fifth\n\n",
        "double-quotes": 'He said "no", then ""nothing"", then `x` and [y].',
        "backslashes": "C:\\new\\table \\' \\\" \\0 %s %% {} {{ x }}",
        "control-characters": "tab\there, bell\x07, escape\x1b[31m, nul\x00after",
        "spaces": "  leading, trailing, no\u00a0break, zero\u200bwidth  ",
        "right-to-left": "עברית و العربية ‮reversed‬",
        "combining": "e\u0301 is not \u00e9, \u212b is not \u00c5, \ufb01 is not fi",
        "beyond-the-bmp": "𝕊𝕢𝕃 𐍈 \U0010fffd",
        "numbers": "007",
        "markup": "<b>&amp;</b><!-- --><script>alert('1')</script>",
        "empty": "",
        "long": "0123456789" * 2_000,
    }
    for name, text in values.items():
        yield Entry(f"awkward-{name}", "Awkward values", text or name, None, text, (text,), None, text)
    # Slugs that are awkward themselves; SHA-256 gives negative keys to about half of all slugs anyhow.
    for slug in ("o'brien's tool", "what?", "a/b c&d=e#f", "ünïcödé", "😀", "UPPER", "upper", "1", "1.0", "null"):
        yield Entry(slug, "Awkward values", slug, "1.0", f"The slug is {slug!r}", (), "NULL", "")


def _header(metadata: Message, name: str) -> str | None:
    value = metadata.get(name)
    return None if value is None or str(value) == "UNKNOWN" else _text(value)


def _text(value: object) -> str:
    # The email parser keeps bytes that it cannot decode as lone surrogates, which no SQLite text may hold.
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _order(entry: Entry) -> tuple[str, str]:
    return entry.slug, entry.version or ""
