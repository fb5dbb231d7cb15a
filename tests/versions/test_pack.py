"""What goes up as a pack comes back as the same bytes, or not at all."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from b2m.buckets import Bucket, open_bucket
from b2m.errors import BucketError, ObjectDamaged, ObjectMissing, TaskFailed, UnknownFormat
from b2m.versions import pack, pack_format
from b2m.versions.commit import Commit
from tests.support.processes import alone, peak_memory
from tests.support.settings import trials
from tests.versions.conftest import make_commit

MB = 1 << 20


def _database(path: Path, page_size: int, rows: int = 300) -> Path:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA page_size = {page_size}")
    with connection:
        connection.execute("CREATE TABLE ipm_data (id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO ipm_data (text) VALUES (?)", [(f"row {n} " * 20,) for n in range(rows)])
    connection.close()
    return path


def _uploaded(bucket: Bucket, path: Path, number: int = 1) -> Commit:
    info = pack.upload_pack(bucket, "ipm", number, path)
    return make_commit(number=number, blake3=info.blake3, size=info.size)


@pytest.fixture
def frames_of_4k(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a small file have many frames."""
    monkeypatch.setattr(pack, "FRAME", 4096)


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
def test_a_database_of_any_page_size_comes_back(bucket: Bucket, tmp_path: Path, page_size: int) -> None:
    source = _database(tmp_path / "a.db", page_size)
    commit = _uploaded(bucket, source)
    footer, _ = pack.read_footer(bucket, pack_format.pack_name("ipm", 1, commit.blake3))
    assert footer.page_size == page_size
    assert pack_format.FRAME % page_size == 0
    pack.fetch(bucket, commit, tmp_path / "b.db")
    assert (tmp_path / "b.db").read_bytes() == source.read_bytes()
    connection = apsw.Connection(str(tmp_path / "b.db"))
    assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)]
    connection.close()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3 * 4096, 10 * 4096 + 7])
@pytest.mark.usefixtures("frames_of_4k")
def test_a_file_of_any_length_comes_back(bucket: Bucket, tmp_path: Path, size: int) -> None:
    source = tmp_path / "a"
    source.write_bytes(random.Random(size).randbytes(size))
    commit = _uploaded(bucket, source)
    pack.fetch(bucket, commit, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == source.read_bytes()


def test_a_pack_is_named_by_number_and_content(bucket: Bucket, tmp_path: Path) -> None:
    source = _database(tmp_path / "a.db", 4096)
    digest, size = pack.hash_file(source)
    told: list[tuple[int, int]] = []
    info = pack.upload_pack(bucket, "ipm", 6, source, progress=lambda done, total: told.append((done, total)))
    assert info.name == f"ipm/packs/00000006-full-{digest[:32]}.pack"
    assert bucket.list("ipm/packs") == [info.name]
    assert (info.size, info.blake3, info.bytes) == (size, digest, bucket.size(info.name))
    assert info.bytes < size / 2
    assert told[-1] == (size, size)


def test_fetching_tells_what_came_down(bucket: Bucket, tmp_path: Path) -> None:
    commit = _uploaded(bucket, _database(tmp_path / "a.db", 4096))
    before = bucket.counters.bytes_down
    told: list[tuple[int, int]] = []
    down = pack.fetch(bucket, commit, tmp_path / "b.db", lambda done, total: told.append((done, total)))
    assert told[-1] == (commit.size, commit.size)
    assert down <= bucket.counters.bytes_down - before


def test_the_same_file_is_packed_to_the_same_bytes(tmp_path: Path) -> None:
    source = _database(tmp_path / "a.db", 4096, rows=3000)
    assert b"".join(pack.pack_file(source)) == b"".join(pack.pack_file(source))


def test_a_whole_pack_of_a_run_that_was_cut_off_is_not_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    source = _database(tmp_path / "a.db", 4096)
    first = pack.upload_pack(bucket, "ipm", 6, source)
    up = bucket.counters.bytes_up
    again = pack.upload_pack(bucket, "ipm", 6, source)
    assert bucket.counters.bytes_up == up
    assert (again.name, again.bytes) == (first.name, 0)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "another's"])
def test_a_pack_that_is_not_whole_is_sent_again(bucket: Bucket, tmp_path: Path, damage: str) -> None:
    source = _database(tmp_path / "a.db", 4096)
    name = pack.upload_pack(bucket, "ipm", 6, source).name
    whole = bucket.get(name)
    other = pack.pack_file(_database(tmp_path / "other.db", 4096, rows=7))
    damaged = {
        "flipped": whole[:500] + bytes([whole[500] ^ 1]) + whole[501:],
        "cut": whole[:-1],
        "empty": b"",
        "another's": b"".join(other),
    }
    bucket.put(name, damaged[damage])
    assert pack.upload_pack(bucket, "ipm", 6, source).bytes == len(whole)
    assert bucket.get(name) == whole


def test_a_file_that_changes_while_it_is_packed_is_not_published(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _database(tmp_path / "a.db", 4096)
    digest, size = pack.hash_file(source)
    monkeypatch.setattr(pack, "hash_file", lambda path: (digest, size))
    with source.open("r+b") as file:
        file.seek(size - 1)
        file.write(b"!")
    with pytest.raises(TaskFailed, match="was written while it was packed; nothing was published, run again"):
        pack.upload_pack(bucket, "ipm", 6, source)
    assert bucket.list("") == []


def test_a_missing_pack_is_missing(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="there is no object ipm/packs/00000001-full-abab"):
        pack.fetch(bucket, make_commit(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_another_version_s_pack_is_damage(bucket: Bucket, tmp_path: Path) -> None:
    commit = _uploaded(bucket, _database(tmp_path / "a.db", 4096))
    other = b"".join(pack.pack_file(_database(tmp_path / "other.db", 4096, rows=7)))
    bucket.put(pack_format.pack_name("ipm", 1, commit.blake3), other)
    with pytest.raises(ObjectDamaged, match="it is not the pack of v1"):
        pack.fetch(bucket, commit, tmp_path / "b.db")


@pytest.mark.usefixtures("frames_of_4k")
def test_a_damaged_frame_is_named(bucket: Bucket, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(random.Random(1).randbytes(5 * 4096))
    commit = _uploaded(bucket, source)
    name = pack_format.pack_name("ipm", 1, commit.blake3)
    frame = pack.read_footer(bucket, name)[0].frames[2]
    data = bytearray(bucket.get(name))
    data[frame.offset + frame.packed // 2] ^= 1
    bucket.put(name, bytes(data))
    with pytest.raises(ObjectDamaged, match="damaged: frame 3 of 5: it does not fit its checksum"):
        pack.fetch(bucket, commit, tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "bucket"]


@pytest.fixture
def whole(bucket: Bucket, tmp_path: Path, frames_of_4k: None) -> tuple[Commit, str, bytes, bytes]:
    """A pack of a few frames in the bucket: its commit, its name, its bytes, the file in it."""
    source = _database(tmp_path / "a.db", 1024, rows=60)
    commit = _uploaded(bucket, source)
    name = pack_format.pack_name("ipm", 1, commit.blake3)
    return commit, name, bucket.get(name), source.read_bytes()


def _fetched(bucket: Bucket, commit: Commit, target: Path) -> bytes | None:
    """Return the file that was rebuilt, None if the pack was called damaged; nothing else may happen."""
    target.unlink(missing_ok=True)
    before = set(target.parent.iterdir())
    try:
        pack.fetch(bucket, commit, target)
    except ObjectDamaged:
        assert set(target.parent.iterdir()) == before
        return None
    return target.read_bytes()


@settings(
    max_examples=trials(ci=300, full=5000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.0, bit=0)
def test_one_flipped_bit_anywhere_never_gives_wrong_data(
    bucket: Bucket, tmp_path: Path, whole: tuple[Commit, str, bytes, bytes], place: float, bit: int
) -> None:
    commit, name, data, content = whole
    flipped = bytearray(data)
    flipped[int(place * len(data))] ^= 1 << bit
    bucket.put(name, bytes(flipped))
    assert _fetched(bucket, commit, tmp_path / "b.db") in (None, content)


@settings(
    max_examples=trials(ci=100, full=2000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(start=st.floats(0, 1), end=st.floats(0, 1), filling=st.binary(max_size=40))
@example(start=0.0, end=1.0, filling=b"")
@example(start=0.999, end=1.0, filling=b"")
def test_a_pack_with_a_part_cut_out_or_replaced_never_gives_wrong_data(
    bucket: Bucket, tmp_path: Path, whole: tuple[Commit, str, bytes, bytes], start: float, end: float, filling: bytes
) -> None:
    commit, name, data, content = whole
    first, last = sorted((int(start * len(data)), int(end * len(data))))
    changed = data[:first] + filling + data[last:]
    bucket.put(name, changed)
    assert _fetched(bucket, commit, tmp_path / "b.db") == (content if changed == data else None)


def test_a_frame_that_claims_a_gigantic_content_costs_no_memory(bucket: Bucket, tmp_path: Path) -> None:
    import zstandard

    packed = zstandard.ZstdCompressor().compress(b"x" * (64 * MB))
    with pytest.raises(pack_format.PackDamaged, match="its length is another than it was"):
        pack_format.decompress(packed, pack_format.Frame(12, len(packed), 4096, "0" * 64))


def _footer(**fields: object) -> pack_format.Footer:
    frames = [pack_format.Frame(12, 100, 4096, "0" * 64), pack_format.Frame(112, 50, 10, "0" * 64)]
    given: dict[str, object] = {"page_size": 4096, "size": 4106, "blake3": "0" * 64, "frames": frames, **fields}
    return pack_format.Footer.model_validate(given)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 4107},
        {"frames": []},
        {"frames": [pack_format.Frame(12, 150, 4106, "")], "size": 4105},
        {"frames": [pack_format.Frame(13, 149, 4106, "")]},
        {"frames": [pack_format.Frame(12, 149, 4106, "")]},
        {"frames": [pack_format.Frame(12, 151, 4106, "")]},
        {"frames": [pack_format.Frame(12, 150, 5 * MB, "")], "size": 5 * MB},
        {"frames": [pack_format.Frame(12, 150, 0, "")], "size": 0},
    ],
)
def test_a_footer_that_does_not_describe_its_pack_is_damage(fields: dict[str, object]) -> None:
    closing = _footer(**fields).to_bytes()
    body, trailer = closing[: -pack_format.TRAILER_SIZE], closing[-pack_format.TRAILER_SIZE :]
    with pytest.raises(pack_format.PackDamaged, match="its footer does not describe it"):
        pack_format.parse_footer(body, trailer, 162 + len(closing))


def test_a_footer_of_which_any_byte_changed_is_damage() -> None:
    closing = _footer().to_bytes()
    body, trailer = closing[: -pack_format.TRAILER_SIZE], closing[-pack_format.TRAILER_SIZE :]
    assert pack_format.parse_footer(body, trailer, 162 + len(closing)) == _footer()
    for changed in (body.replace(b":4096,", b":4097,"), body.replace(b'"full"', b'"fuul"'), body + b" "):
        assert changed != body
        with pytest.raises(pack_format.PackDamaged, match="its footer does not fit its checksum"):
            pack_format.parse_footer(changed, trailer, 162 + len(closing))


@pytest.mark.parametrize(("change", "found"), [({"format": 2}, "2"), ({"kind": "delta"}, "delta")])
def test_a_pack_of_a_newer_b2m_is_refused_and_not_called_damaged(
    bucket: Bucket, tmp_path: Path, change: dict[str, object], found: str
) -> None:
    commit = _uploaded(bucket, _database(tmp_path / "a.db", 4096))
    name = pack_format.pack_name("ipm", 1, commit.blake3)
    footer, _ = pack.read_footer(bucket, name)
    last = footer.frames[-1]
    newer = footer.model_copy(update=change)
    bucket.put(name, bucket.get(name)[: last.offset + last.packed] + newer.to_bytes())
    with pytest.raises(UnknownFormat, match=f"has format {found}, this b2m reads up to 1"):
        pack.fetch(bucket, commit, tmp_path / "b.db")


def test_a_footer_that_needs_a_request_of_its_own_is_read(bucket: Bucket, tmp_path: Path, frames_of_4k: None) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x" * (4096 * 1500))
    commit = _uploaded(bucket, source)
    name = pack_format.pack_name("ipm", 1, commit.blake3)
    assert pack.read_footer(bucket, name)[1] > 64 << 10
    pack.fetch(bucket, commit, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == source.read_bytes()


def test_a_file_that_was_there_stays_if_fetching_fails(bucket: Bucket, tmp_path: Path) -> None:
    commit = _uploaded(bucket, _database(tmp_path / "a.db", 4096))
    name = pack_format.pack_name("ipm", 1, commit.blake3)
    bucket.put(name, bucket.get(name)[:-40])
    (tmp_path / "b.db").write_bytes(b"old")
    with pytest.raises(ObjectDamaged):
        pack.fetch(bucket, commit, tmp_path / "b.db")
    assert (tmp_path / "b.db").read_bytes() == b"old"


def test_a_bucket_that_fails_half_way_leaves_no_file(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = _uploaded(bucket, _database(tmp_path / "a.db", 4096))
    real = bucket.stream

    def breaks(name: str) -> Iterator[bytes]:
        yield next(real(name))[:1000]
        raise BucketError(bucket="b", what="the connection was reset")

    monkeypatch.setattr(bucket, "stream", breaks)
    with pytest.raises(BucketError, match="connection was reset"):
        pack.fetch(bucket, commit, tmp_path / "b.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "bucket"]


def _fetch_past_the_limit(config: dict[str, str], commit: Commit, target: Path) -> str:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        pack.fetch(open_bucket(config), commit, target)
    except TaskFailed as error:
        return str(error)
    return "no error"


def test_a_disk_that_refuses_the_file_is_an_error_that_says_so(
    bucket: Bucket, config: dict[str, str], tmp_path: Path
) -> None:
    commit = _uploaded(bucket, _database(tmp_path / "a.db", 4096))
    target = tmp_path / "b.db"
    assert alone(_fetch_past_the_limit, config, commit, target) == f"cannot write {target}: File too large"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "bucket"]


def _up_and_down(config: dict[str, str], folder: Path, megabytes: int) -> tuple[bool, int]:
    """Send a file up and fetch it; tell whether it is the same, and the memory in bytes that this took."""
    source, target, small = folder / "a", folder / "b", folder / "small"
    block = os.urandom(MB // 2).hex().encode()
    with source.open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "big") + block[8:])
    bucket = open_bucket(config)
    small.write_bytes(b"x")
    pack.fetch(bucket, _uploaded(bucket, small, 1), target)
    before = peak_memory()
    pack.fetch(bucket, _uploaded(bucket, source, 2), target)
    return pack.hash_file(source) == pack.hash_file(target), peak_memory() - before


def test_two_hundred_megabytes_pass_in_bounded_memory(config: dict[str, str], tmp_path: Path) -> None:
    same, grown = alone(_up_and_down, config, tmp_path, 200)
    assert same
    assert grown < 45 * MB
