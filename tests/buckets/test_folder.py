"""What only a folder can get wrong: mounts, permissions, full disks, leftovers, power losses."""

from __future__ import annotations

import os
import resource
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2m.buckets import open_bucket
from b2m.buckets.folder import FolderBucket
from b2m.errors import BucketError, InvalidProject, ObjectExists
from tests.support.processes import alone

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "bucket"
    found.mkdir()
    return found


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_root_that_is_not_there_is_never_made_by_a_write(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "unmounted" / "bucket")
    for attempt in (lambda: bucket.put("a", b""), lambda: bucket.create("a", b"")):
        with pytest.raises(BucketError, match="there is no such folder; mount it, or set up a new bucket"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_prepare_makes_the_root(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "new" / "bucket")
    bucket.prepare()
    bucket.prepare()
    assert bucket.list("") == []


def test_a_root_that_is_replaced_while_it_is_open_is_an_error(root: Path) -> None:
    bucket = FolderBucket(root)
    bucket.put("ipm/a", b"")
    root.rename(root.with_name("unmounted"))
    root.mkdir()
    for attempt in (lambda: bucket.list(""), lambda: bucket.get("ipm/a"), lambda: bucket.put("ipm/b", b"")):
        with pytest.raises(BucketError, match="replaced by another one; is the disk mounted"):
            attempt()
    assert not list(root.rglob("b"))


def test_a_root_that_is_a_file_is_an_error(root: Path) -> None:
    (root / "file").write_bytes(b"")
    with pytest.raises(BucketError, match="it is not a folder"):
        FolderBucket(root / "file").list("")


def _listing_as_nobody(root: Path, name: str) -> list[str]:
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    errors = []
    bucket = FolderBucket(root)
    for attempt in (
        lambda: bucket.list("ipm"),
        lambda: bucket.get(name),
        lambda: bucket.put(name, b""),
        lambda: bucket.create(name, b""),
        lambda: bucket.delete(name),
    ):
        try:
            attempt()
        except BucketError as error:
            errors.append(f"{type(error).__name__}: {error.fields['what']}")
    return errors


def test_missing_permission_is_an_error_that_says_so(open_folder: Path) -> None:
    FolderBucket(open_folder).put("ipm/a", b"")
    (open_folder / "ipm").chmod(0)
    errors = alone(_listing_as_nobody, open_folder, "ipm/a")
    (open_folder / "ipm").chmod(0o755)
    doing = ("list ipm", "read ipm/a", "write ipm/a", "create ipm/a", "delete ipm/a")
    assert errors == [f"BucketError: cannot {what}: Permission denied" for what in doing]


def _put_past_the_limit(root: Path) -> str:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        FolderBucket(root).put("large", (b"x" * 65_536 for _ in range(100)))
    except BucketError as error:
        return str(error)
    return "no error"


def test_a_write_that_the_disk_refuses_is_an_error_and_leaves_nothing(root: Path) -> None:
    assert alone(_put_past_the_limit, root) == f"bucket {root}: cannot write large: File too large"
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_leftovers_are_never_listed_and_old_ones_go(root: Path) -> None:
    leftovers = root / ".tmp"
    leftovers.mkdir()
    for name, days in (("old", 2.0), ("young", 0.5)):
        (leftovers / name).write_bytes(b"half")
        moment = time.time() - days * 86_400
        os.utime(leftovers / name, (moment, moment))
    bucket = FolderBucket(root)
    assert bucket.list("") == []
    bucket.put("a", b"")
    assert [path.name for path in leftovers.iterdir()] == ["young"]


def test_files_that_b2m_cannot_have_written_are_not_listed(root: Path) -> None:
    (root / ".hidden").write_bytes(b"")
    (root / "a copy.json").write_bytes(b"")
    (root / "lost+found").mkdir()
    assert FolderBucket(root).list("") == []


def test_a_failed_create_leaves_no_temporary_file(root: Path) -> None:
    bucket = FolderBucket(root)
    bucket.create("a", b"")
    with pytest.raises(ObjectExists):
        bucket.create("a", b"")
    assert list((root / ".tmp").iterdir()) == []


def test_content_is_on_the_disk_before_its_name_and_its_name_before_the_return(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss cannot be had in a test; the order of the system calls can."""
    calls: list[str] = []
    real_fsync, real_link, real_replace = os.fsync, os.link, Path.replace

    def fsync(handle: int) -> None:
        calls.append("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        real_fsync(handle)

    def link(source: Path, target: Path) -> None:
        calls.append("name")
        real_link(source, target)

    def replace(self: Path, target: Path) -> Path:
        calls.append("name")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Path, "replace", replace)
    bucket = FolderBucket(root)
    for write in (bucket.create, bucket.put):
        calls.clear()
        write(f"ipm/{write.__name__}/a", b"x")
        # Two new folders above the object: the root and ipm get a new name in them.
        assert calls[0] == "fsync file"
        assert calls[calls.index("name") :] == ["name", "fsync folder"]
        assert calls.count("fsync folder") >= 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "buckets: type None is not known; known: folder, s3, b2"),
        ({"type": "ftp", "path": "/x"}, "buckets: type 'ftp' is not known; known: folder, s3, b2"),
        ({"type": "folder"}, "buckets: the path of a folder bucket must be absolute, not None"),
        ({"type": "folder", "path": "x"}, "buckets: the path of a folder bucket must be absolute, not 'x'"),
        ({"type": "folder", "path": "/x", "key": "k"}, "buckets: a folder bucket has no key 'key'"),
    ],
)
def test_a_wrong_entry_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidProject) as caught:
        open_bucket(config)
    assert caught.value.problems == [message]
