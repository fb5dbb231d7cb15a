"""The rows of the demo's emoji database, from Python's own Unicode table."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

BLOCKS = {
    "Miscellaneous Symbols": range(0x2600, 0x2700),
    "Dingbats": range(0x2700, 0x27C0),
    "Miscellaneous Symbols and Pictographs": range(0x1F300, 0x1F600),
    "Emoticons": range(0x1F600, 0x1F650),
    "Transport and Map Symbols": range(0x1F680, 0x1F700),
    "Supplemental Symbols and Pictographs": range(0x1F900, 0x1FA00),
    "Symbols and Pictographs Extended-A": range(0x1FA70, 0x1FB00),
}
SEQUENCES = "Sequences"
FLAGS = (
    "AR",
    "BR",
    "CA",
    "CH",
    "CN",
    "DE",
    "ES",
    "ET",
    "FR",
    "GB",
    "IN",
    "IT",
    "JP",
    "KE",
    "MX",
    "NO",
    "SE",
    "UA",
    "US",
)


@dataclass(frozen=True)
class Emoji:
    """One emoji: a character, or several that show as one."""

    code: str
    char: str
    name: str
    category: str


def all_emoji() -> list[Emoji]:
    """Every emoji in the order of its code."""
    return sorted([*_single(), *_sequences()], key=lambda emoji: emoji.code)


def _single() -> Iterator[Emoji]:
    for category, codes in BLOCKS.items():
        for char in map(chr, codes):
            name = unicodedata.name(char, "")
            if name:
                yield _emoji(char, name, category)


def _sequences() -> Iterator[Emoji]:
    for country in FLAGS:
        yield _emoji("".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in country), f"FLAG {country}", SEQUENCES)
    for key in "0123456789*#":
        yield _emoji(f"{key}\ufe0f\u20e3", f"KEYCAP {unicodedata.name(key)}", SEQUENCES)
    for base in "👋👍👎👏🙏💪":
        for tone in range(0x1F3FB, 0x1F400):
            yield _emoji(base + chr(tone), f"{unicodedata.name(base)}, {unicodedata.name(chr(tone))}", SEQUENCES)


def _emoji(char: str, name: str, category: str) -> Emoji:
    return Emoji("-".join(f"{ord(part):04X}" for part in char), char, name, category)
