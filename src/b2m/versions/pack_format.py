"""The bytes of a pack: header, frames, footer, trailer. Pure; docs/formats.md describes it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 1
FRAME = 4 << 20  # raw bytes; every page size of SQLite divides it
HEADER = b"b2mpack\n" + struct.pack("<I", FORMAT)
LEVEL = 3

_TRAILER = struct.Struct("<Q32s8s")
_TRAILER_MAGIC = b"b2mend.\n"
TRAILER_SIZE = _TRAILER.size
_LARGEST_FOOTER = 64 << 20  # bytes: 2.5 TB in frames


class PackDamaged(ValueError):
    """What is wrong with the bytes of a pack."""


class PackTooNew(ValueError):
    """The pack has a format that this b2m does not know; the first argument is that format."""


@dataclass(frozen=True)
class Frame:
    """One compressed piece: where it lies in the pack and how long it is there, its raw length and BLAKE3."""

    offset: int
    packed: int
    raw: int
    blake3: str


class Footer(BaseModel):
    """The table of contents of a pack: ``size`` bytes of a file with this ``blake3``, in ``frames``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    kind: str = "full"
    page_size: int = Field(ge=0)
    size: int = Field(ge=0)
    blake3: str
    frames: Sequence[Frame]

    def to_bytes(self) -> bytes:
        """Return the footer and the trailer that closes a pack."""
        fields = self.model_dump(mode="json")
        fields["frames"] = [[frame.offset, frame.packed, frame.raw, frame.blake3] for frame in self.frames]
        body = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        return seal_footer(body)


def seal_footer(body: bytes) -> bytes:
    """Return a footer's bytes with the trailer that closes a pack."""
    return body + _TRAILER.pack(len(body), blake3(body).digest(), _TRAILER_MAGIC)


def footer_length(trailer: bytes) -> int:
    """Return the length of the footer that lies before a trailer."""
    length, _, magic = _TRAILER.unpack(trailer)
    if magic != _TRAILER_MAGIC or length > _LARGEST_FOOTER:
        raise PackDamaged("its end is cut off or overwritten")
    return int(length)


def parse_footer(body: bytes, trailer: bytes, total: int) -> Footer:
    """Return the footer of a pack of ``total`` bytes, after checking that its frames fill the pack and the file."""
    _, digest, _ = _TRAILER.unpack(trailer)
    if blake3(body).digest() != digest:
        raise PackDamaged("its footer does not fit its checksum")
    try:
        fields = json.loads(body)
        if isinstance(fields["format"], int) and fields["format"] > FORMAT:
            raise PackTooNew(fields["format"])
        fields["frames"] = [Frame(*frame) for frame in fields["frames"]]
        footer = Footer.model_validate(fields)
    except PackTooNew:
        raise
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise PackDamaged("its footer is none of this format") from error
    offset = len(HEADER)
    for frame in footer.frames:
        if frame.offset != offset or frame.packed <= 0 or not 0 < frame.raw <= FRAME:
            raise PackDamaged("its footer does not describe it")
        offset += frame.packed
    if offset + len(body) + TRAILER_SIZE != total or sum(frame.raw for frame in footer.frames) != footer.size:
        raise PackDamaged("its footer does not describe it")
    return footer


def check_header(header: bytes) -> None:
    """Raise unless these are the first bytes of a pack of a known format."""
    if header[:8] != HEADER[:8] or len(header) != len(HEADER):
        raise PackDamaged("it does not begin like a pack")
    (found,) = struct.unpack("<I", header[8:])
    if found != FORMAT:
        raise PackDamaged(f"its header says format {found}, its footer another")


def compress(raw: bytes) -> tuple[bytes, str]:
    """Return a frame's bytes and the BLAKE3 of what is in it."""
    # A compressor must not be shared by threads; making one costs little beside 4 MiB of work.
    return zstandard.ZstdCompressor(level=LEVEL).compress(raw), blake3(raw).hexdigest()


def decompress(packed: bytes, frame: Frame) -> bytes:
    """Return what is in a frame, after checking it; memory is bounded whatever the bytes claim."""
    try:
        if zstandard.frame_content_size(packed) != frame.raw:
            raise PackDamaged("its length is another than it was")
        raw = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PackDamaged("it cannot be decompressed") from error
    if len(raw) != frame.raw or blake3(raw).hexdigest() != frame.blake3:
        raise PackDamaged("it does not fit its checksum")
    return raw


def page_size_of(head: bytes) -> int:
    """Return the page size in the first bytes of a SQLite file; 0 for an empty or another file."""
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        return 0
    size = int.from_bytes(head[16:18], "big")
    return 65536 if size == 1 else size


def pack_name(db: str, number: int, digest: str) -> str:
    """Return the name of the full pack of a version whose file has the BLAKE3 ``digest``."""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is no BLAKE3")
    return f"{db}/packs/{number:08d}-full-{digest[:32]}.pack"
