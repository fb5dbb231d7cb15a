"""What is known to be secret stands in no text: its name does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from b2m import secrets
from b2m.events import Event, Events


@pytest.fixture(autouse=True)
def _known_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with no secret, whatever other tests of this process have read."""
    monkeypatch.delenv(secrets.FILE, raising=False)
    for known in ("_given", "_read", "_files"):
        monkeypatch.setattr(secrets, known, {})
    monkeypatch.setattr(secrets, "_mentioned", set())


def test_each_value_is_replaced_by_its_name_at_any_depth() -> None:
    secrets.give({"TOKEN": "tr0ub4dor"})
    told = {"text": "it is tr0ub4dor, tr0ub4dor", "list": ["tr0ub4dor", 5, ("tr0ub4dor",)], "none": None}
    assert secrets.redacted(told) == {
        "text": "it is (secret TOKEN), (secret TOKEN)",
        "list": ["(secret TOKEN)", 5, ["(secret TOKEN)"]],
        "none": None,
    }


def test_a_short_value_stands_in_texts_by_chance_and_stays() -> None:
    secrets.give({"PIN": "12345", "TOKEN": "123456"})
    assert secrets.redacted("12345 of 123456") == "12345 of (secret TOKEN)"


@pytest.mark.parametrize("order", [1, -1])
def test_a_secret_that_is_a_part_of_another_leaves_nothing_of_it(order: int) -> None:
    values = [("HOST", "https://x.example"), ("HOOK", "https://x.example/to-Ken"), ("TAIL", "to-Ken")]
    secrets.give(dict(values[::order]))
    told = secrets.redacted("https://x.example/to-Ken https://x.example/other to-Ken")
    assert told == "(secret HOOK) (secret HOST)/other (secret TAIL)"


def test_a_name_that_looks_like_the_value_of_another_secret_stays_whole() -> None:
    secrets.give({"A": "my-value", "B": "secret"})
    assert secrets.redacted("my-value") == "(secret A)"


def test_the_lines_of_a_secret_do_not_show_when_they_are_joined() -> None:
    secrets.give({"KEY": "-----BEGIN-----\n  first-line\r\nsecond-line\nend\n-----END-----"})
    assert secrets.redacted("1: -----BEGIN----- / first-line / second-line / end") == (
        "1: (secret KEY) / (secret KEY) / (secret KEY) / end"
    )
    assert secrets.redacted("-----BEGIN-----\n  first-line\r\nsecond-line\nend\n-----END-----.") == "(secret KEY)."


def test_a_value_of_the_shared_file_is_known_beside_another_one_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "secrets"
    shared.write_text("TOKEN=of-the-file\n")
    shared.chmod(0o600)
    monkeypatch.setenv(secrets.FILE, str(shared))
    monkeypatch.setenv("TOKEN", "of-the-environment")
    assert secrets.read("TOKEN") == "of-the-environment"
    assert secrets.redacted("of-the-file, of-the-environment") == "(secret TOKEN), (secret TOKEN)"


def test_a_secret_that_is_mentioned_is_known_before_anybody_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text("of-its-own-file\n")
    monkeypatch.setenv("IN_FILE_FILE", str(tmp_path / "own"))
    monkeypatch.setenv("IN_ENVIRONMENT", "of-the-environment")
    assert secrets.redacted("of-the-environment") == "of-the-environment"
    secrets.mention(["IN_ENVIRONMENT", "IN_FILE", "NOT_SET"])
    assert secrets.redacted("of-the-environment, of-its-own-file") == "(secret IN_ENVIRONMENT), (secret IN_FILE)"


def test_a_secret_that_is_mentioned_and_cannot_be_read_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latin").write_bytes("Übung".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for name, file in (("LATIN", "latin"), ("PIPE", "pipe"), ("FOLDER", "."), ("GONE", "gone")):
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / file))
    secrets.mention(["LATIN", "PIPE", "FOLDER", "GONE"])
    assert secrets.redacted("nothing of it") == "nothing of it"


def test_an_event_of_elsewhere_shows_no_secret_that_is_known_here() -> None:
    secrets.give({"HOOK": "to-Ken_5ecret"})
    seen: list[Event] = []
    events = Events(seen.append)
    events.relay({"type": "warning", "text": "no answer from to-Ken_5ecret"})
    assert seen == events.kept == [{"type": "warning", "text": "no answer from (secret HOOK)"}]


def test_a_shared_file_that_is_a_pipe_is_read_once_for_all_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"ONE=value-of-one\nTWO=value-of-two\n")
    os.close(writing)
    monkeypatch.setenv(secrets.FILE, f"/dev/fd/{reading}")
    assert secrets.collect(["ONE", "TWO"]) == {"ONE": "value-of-one", "TWO": "value-of-two"}
    assert secrets.redacted("value-of-two") == "(secret TWO)"
    os.close(reading)


def test_a_shared_file_that_was_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "secrets.env"
    monkeypatch.setenv(secrets.FILE, str(shared))
    for value in ("first", "another"):
        shared.write_text(f"ONE={value}\n")
        shared.chmod(0o600)
        assert secrets.read("ONE") == value
