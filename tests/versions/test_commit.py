"""A commit reads back as it was written, or not at all."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from b2m.errors import ObjectDamaged, UnknownFormat
from b2m.versions.commit import Commit, seal, unseal
from tests.versions.conftest import make_commit

NAME = "ipm/commits/00000001.json"


def _read(data: bytes, name: str = NAME) -> Commit:
    return Commit.from_bytes(data, bucket="here", name=name)


def test_a_commit_reads_back_as_it_was_written() -> None:
    commit = make_commit(message="späť ✓ \ud800".encode(errors="replace").decode(), revision="0" * 40, dirty_tree=True)
    assert _read(commit.to_bytes()) == commit
    assert commit.name() == NAME


def test_the_bytes_are_the_same_each_time() -> None:
    commit = make_commit(rows={"b": {}, "a": {"deleted": 1}})
    again = make_commit(token=commit.token, rows={"a": {"deleted": 1}, "b": {}})
    assert commit.to_bytes() == again.to_bytes()


def test_every_flipped_bit_is_noticed() -> None:
    data = make_commit().to_bytes()
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(ObjectDamaged, match=r"bucket here: object ipm/commits/00000001\.json is damaged: it"):
                _read(bytes(flipped))


def test_every_cut_is_noticed() -> None:
    data = make_commit().to_bytes()
    for length in range(len(data)):
        with pytest.raises(ObjectDamaged):
            _read(data[:length])


def test_fields_of_a_newer_minor_version_are_ignored() -> None:
    commit = make_commit()
    newer = seal({**commit.model_dump(mode="json"), "colour": "blue"})
    assert _read(newer) == commit


def test_a_newer_format_is_refused_and_not_called_damaged() -> None:
    with pytest.raises(UnknownFormat, match="has format 2, this b2m reads up to 1: install a newer b2m"):
        _read(seal({"format": 2, "anything": "else"}))


def test_a_missing_field_is_named() -> None:
    fields = make_commit().model_dump(mode="json")
    del fields["blake3"]
    with pytest.raises(ObjectDamaged, match="damaged: blake3: Field required"):
        _read(seal(fields))


def test_a_commit_under_another_name_is_damage() -> None:
    with pytest.raises(ObjectDamaged, match=r"it holds ipm/commits/00000001\.json"):
        _read(make_commit().to_bytes(), "ipm/commits/00000002.json")


@pytest.mark.parametrize(
    "fields",
    [
        {"number": 0},
        {"number": 7, "parent": 5, "parent_token": "0" * 32},
        {"number": 6, "parent": 5},
        {"parent_token": "0" * 32},
        {"blake3": "short"},
        {"token": ""},
        {"size": -1},
    ],
)
def test_a_commit_that_contradicts_itself_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_commit(**fields)


def test_the_first_commit_may_have_any_number() -> None:
    assert make_commit(number=5).name() == "ipm/commits/00000005.json"


def test_two_commits_never_have_the_same_token() -> None:
    assert make_commit().token != make_commit().token


def test_sealed_fields_keep_their_types() -> None:
    fields = {"n": 1, "f": 1.5, "t": "ü", "l": [None, True], "d": {"a": {}}}
    assert unseal(seal(fields)) == fields
