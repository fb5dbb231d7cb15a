"""Packs in a bucket: a version's file goes up and comes back in frames, checked, in bounded memory."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from blake3 import blake3

from b2m.buckets.durable import replace_durably
from b2m.buckets.protocol import CHUNK, Bucket
from b2m.errors import ObjectDamaged, ObjectMissing, TaskFailed, UnknownFormat
from b2m.versions.commit import Commit
from b2m.versions.pack_format import (
    FORMAT,
    FRAME,
    HEADER,
    TRAILER_SIZE,
    Footer,
    Frame,
    PackDamaged,
    PackTooNew,
    check_header,
    compress,
    decompress,
    footer_length,
    pack_name,
    page_size_of,
    parse_footer,
)

Progress = Callable[[int, int], None]  # bytes of the file done, bytes of the file in all

_THREADS = 2
_TAIL = 64 << 10  # one request for the end of a pack brings the footer of any file below 2 GB


@dataclass(frozen=True)
class PackInfo:
    """A pack that is in the bucket: ``bytes`` were sent for it, 0 if it was there; the rest is of the file in it."""

    name: str
    bytes: int
    blake3: str
    size: int


def _no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def hash_file(path: Path) -> tuple[str, int]:
    """Return the BLAKE3 in hex and the size in bytes of a file that nobody writes."""
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = bytearray(CHUNK)
    size = 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(memoryview(buffer)[:count])
            size += count
    return hasher.hexdigest(), size


def pack_file(path: Path, *, expect: str | None = None, progress: Progress = _no_progress) -> Iterator[bytes]:
    """Yield the bytes of a full pack of a file that nobody writes.

    With ``expect``, the file's BLAKE3, TaskFailed is raised before the footer if the file has become another.
    """
    yield HEADER
    hasher = blake3(max_threads=blake3.AUTO)
    frames: list[Frame] = []
    page_size, size, offset = 0, 0, len(HEADER)
    total = path.stat().st_size
    for raw_length, page, packed, digest in _compressed(path, hasher):
        page_size = page if not frames else page_size
        frames.append(Frame(offset, len(packed), raw_length, digest))
        offset += len(packed)
        size += raw_length
        yield packed
        progress(size, max(total, size))
    found = hasher.hexdigest()
    if expect is not None and found != expect:
        raise TaskFailed(what=f"{path} was written while it was packed; nothing was published, run again")
    yield Footer(page_size=page_size, size=size, blake3=found, frames=frames).to_bytes()


def upload_pack(bucket: Bucket, db: str, number: int, path: Path, *, progress: Progress = _no_progress) -> PackInfo:
    """Put a file that nobody writes into the bucket as the full pack of a version.

    A pack of that name which a run left that was cut off is read back in full, and kept if it proves to be whole.
    """
    digest, size = hash_file(path)
    name = pack_name(db, number, digest)
    if _is_whole(bucket, name, digest, size):
        progress(size, size)
        return PackInfo(name=name, bytes=0, blake3=digest, size=size)
    sent = bucket.put(name, pack_file(path, expect=digest, progress=progress))
    return PackInfo(name=name, bytes=sent, blake3=digest, size=size)


def fetch(bucket: Bucket, commit: Commit, target: Path, progress: Progress = _no_progress) -> int:
    """Rebuild a version's file at ``target`` and return the bytes that came down; ObjectMissing, ObjectDamaged."""
    return unpack(bucket, pack_name(commit.db, commit.number, commit.blake3), target, commit, progress)


def unpack(bucket: Bucket, name: str, target: Path, expect: Commit, progress: Progress = _no_progress) -> int:
    """Rebuild at ``target`` the file that a commit describes from a full pack; return the bytes that came down.

    ``target`` appears, durable, only when every frame and the whole were checked; ObjectDamaged names the frame.
    TaskFailed if the file cannot be written.
    """
    footer, down = read_footer(bucket, name)
    if (footer.blake3, footer.size) != (expect.blake3, expect.size):
        raise ObjectDamaged(bucket=bucket.name, name=name, what=f"it is not the pack of v{expect.number}")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with temporary.open("xb", buffering=0) as file:
                done = 0
                hasher = blake3(max_threads=blake3.AUTO)
                for raw in read_frames(bucket, name, footer):
                    hasher.update(raw)
                    _write(file.fileno(), raw)
                    done += len(raw)
                    progress(done, footer.size)
                if hasher.hexdigest() != expect.blake3:
                    raise ObjectDamaged(bucket=bucket.name, name=name, what="the file in it is not the commit's")
                os.fsync(file.fileno())
            replace_durably(temporary, target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TaskFailed(what=f"cannot write {target}: {error.strerror or error}") from error
    return down + sum(frame.packed for frame in footer.frames)


def read_footer(bucket: Bucket, name: str) -> tuple[Footer, int]:
    """Return a pack's footer and how many bytes came down for it; ObjectMissing, ObjectDamaged, UnknownFormat."""
    total = bucket.size(name)
    tail = bucket.get_range(name, max(0, total - _TAIL), _TAIL)
    down = len(tail)
    try:
        if len(tail) < TRAILER_SIZE:
            raise PackDamaged("it is cut off")
        trailer = tail[-TRAILER_SIZE:]
        length = footer_length(trailer)
        if length > total - TRAILER_SIZE - len(HEADER):
            raise PackDamaged("its end is cut off or overwritten")
        body = tail[:-TRAILER_SIZE][-length:] if length else b""
        if len(body) < length:
            body = bucket.get_range(name, total - TRAILER_SIZE - length, length)
            down += len(body)
        footer = parse_footer(body, trailer, total)
    except PackTooNew as error:
        raise UnknownFormat(what=f"{name} in bucket {bucket.name}", found=error.args[0], known=FORMAT) from error
    except PackDamaged as error:
        raise ObjectDamaged(bucket=bucket.name, name=name, what=str(error)) from error
    if footer.kind != "full":
        raise UnknownFormat(what=f"{name} in bucket {bucket.name}", found=footer.kind, known=f"{FORMAT} (full packs)")
    return footer, down


def read_frames(bucket: Bucket, name: str, footer: Footer) -> Iterator[bytes]:
    """Yield the file in a pack frame by frame, each one checked; ObjectDamaged names the frame."""
    chunks = bucket.stream(name)
    buffer = bytearray()
    lengths = chain([len(HEADER)], (frame.packed for frame in footer.frames))
    for number, length in enumerate(lengths):
        while len(buffer) < length and (chunk := next(chunks, b"")):
            buffer += chunk
        piece = bytes(buffer[:length])
        del buffer[:length]
        try:
            if number == 0:
                check_header(piece)
                continue
            yield decompress(piece, footer.frames[number - 1])
        except PackDamaged as error:
            where = f"frame {number} of {len(footer.frames)}: " if number else ""
            raise ObjectDamaged(bucket=bucket.name, name=name, what=f"{where}{error}") from error


def _is_whole(bucket: Bucket, name: str, digest: str, size: int) -> bool:
    """Tell whether a pack is in the bucket and rebuilds the file with this BLAKE3, by reading all of it."""
    try:
        footer, _ = read_footer(bucket, name)
        hasher = blake3(max_threads=blake3.AUTO)
        for raw in read_frames(bucket, name, footer):
            hasher.update(raw)
    except (ObjectMissing, ObjectDamaged, UnknownFormat):
        return False
    return (hasher.hexdigest(), footer.size) == (digest, size)


def _compressed(path: Path, hasher: blake3) -> Iterator[tuple[int, int, bytes, str]]:
    """Yield (raw length, page size, packed, BLAKE3 of raw) of each frame, in order, a few compressed ahead."""
    ahead: deque[tuple[int, int, Future[tuple[bytes, str]]]] = deque()
    with path.open("rb") as file, ThreadPoolExecutor(_THREADS, thread_name_prefix="pack") as threads:
        while raw := file.read(FRAME):
            ahead.append((len(raw), page_size_of(raw[:100]), threads.submit(compress, raw)))
            hasher.update(raw)
            if len(ahead) > _THREADS:
                length, page, done = ahead.popleft()
                yield length, page, *done.result()
        for length, page, done in ahead:
            yield length, page, *done.result()


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
