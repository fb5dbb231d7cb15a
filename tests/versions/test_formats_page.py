"""docs/formats.md shows real objects: each example is read by the code that reads the bucket."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from b2m.buckets import Bucket
from b2m.buckets.lease_objects import claim_name, read_claim
from b2m.buckets.marker import NAME, read_marker
from b2m.versions import dbtoml, log, pack_format
from b2m.versions.commit import Commit, commit_name

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def _example(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"no example of {kind}"
    return found[1]


def test_the_commit_is_one_byte_for_byte() -> None:
    text = _example("json commit").encode()
    assert Commit.from_bytes(text, bucket="docs", name="ipm/commits/00000006.json").to_bytes() == text


def test_the_marker_is_one(bucket: Bucket) -> None:
    bucket.put(NAME, _example("json marker").encode())
    assert read_marker(bucket).id == "0123456789abcdef0123456789abcdef"


def test_the_claim_is_one_byte_for_byte(bucket: Bucket) -> None:
    text = _example("json claim").encode()
    bucket.put(claim_name("ipm", 12), text)
    assert read_claim(bucket, "ipm", 12).to_bytes() == text


def test_the_first_number_is_one_byte_for_byte(bucket: Bucket) -> None:
    text = _example("json first").encode()
    bucket.create(commit_name("ipm", 0), text)
    assert log.first_number(bucket, "ipm", 1) == 5
    assert log.first_number(bucket, "emoji", 5) == 5
    assert bucket.get(commit_name("emoji", 0)) == text
    assert "`<db>/commits/00000000.json`" in PAGE.read_text(encoding="utf-8")


def test_the_footer_is_one() -> None:
    body = _example("json footer").encode()
    sealed = pack_format.seal_footer(body)
    total = 12 + 1315911 + 65536 + len(sealed)
    footer = pack_format.parse_footer(body, sealed[-pack_format.TRAILER_SIZE :], total)
    assert footer.size == 4325376
    assert pack_format.TRAILER_SIZE == 48
    assert len(pack_format.HEADER) == 12
    assert pack_format.FRAME == 4 << 20


def test_the_db_toml_is_what_the_bucket_gets(tmp_path: Path) -> None:
    text = _example("toml")
    (tmp_path / "db.toml").write_text(text)
    assert dbtoml.render(dbtoml.read(tmp_path / "db.toml")) == text


@pytest.mark.parametrize("field", sorted(Commit.model_fields))
def test_every_field_of_a_commit_is_shown(field: str) -> None:
    assert f'"{field}"' in _example("json commit")
