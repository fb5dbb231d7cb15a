"""What two b2m tell one another survives the way, and nothing else is made of it."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from b2m import errors
from b2m.facts import Live
from b2m.remote import wire
from b2m.remote.channel import SLICE, Channel, Closed
from b2m.report import Recap


def there_and_back(value: Any) -> Any:
    return wire.decode(json.loads(json.dumps(wire.encode(value))))


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.5,
        "é\n",
        [1, (2, "x")],
        {"a": {"$": 1}},
        {1: "a", (2, 3): "b"},
        b"\0\xff",
        Path("/srv/a b"),
        datetime(2026, 2, 17, 18, tzinfo=UTC),
        frozenset({"a"}),
        Live("/srv/ipm.db", "ipm.db", exists=True, rows={"ipm_data": (1, 2, 3)}),
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)


def test_an_error_keeps_its_class_text_fields_and_recap() -> None:
    error = errors.StillOpen(db="ipm", path=Path("/srv/ipm.db"), who="cat (pid 7)")
    error.recap = Recap("ipm", "prod", "r", "a", "b", 1, 2, {}, {}, 0, 0, 0, 0, 0, 0, 8)  # type: ignore[attr-defined]
    found = there_and_back(error)
    assert type(found) is errors.StillOpen
    assert (str(found), vars(found)) == (str(error), vars(error))
    assert (found.exit_code, found.reason) == (8, "still_open")
    stop = there_and_back(errors.Interrupted(15))
    assert (stop.exit_code, stop.outcome) == (143, "what was done is undone")


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "b2m.faults:point",
        "b2m.remote.wire:Path",
        "b2mx:Y",
        "b2m.report:Console",
        "b2m.__main__:x",
    ],
)
def test_nothing_else_is_ever_made(name: str) -> None:
    with pytest.raises(ValueError, match="is nothing that b2m sends"):
        wire.decode({"$": name, "fields": {}, "items": []})


def pair(**more: Any) -> tuple[Channel, Channel]:
    """Two ends of a conversation over pipes."""
    here_in, there_out = os.pipe()
    there_in, here_out = os.pipe()

    def end(*handles: int) -> Any:
        def close() -> None:
            for handle in handles:
                try:
                    os.close(handle)
                except OSError:
                    continue

        return close

    def writer(handle: int) -> Any:
        def write(data: bytes) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]

        return write

    here = Channel(lambda size: os.read(here_in, size), writer(here_out), end(here_out))
    there = Channel(lambda size: os.read(there_in, size), writer(there_out), end(there_out))
    for each in (here, there):
        each.start(lambda message: False)
    return here, there


def test_a_message_of_any_length_arrives_in_one_piece() -> None:
    here, there = pair()
    for size in (0, 1, SLICE - 20, SLICE, 3 * SLICE + 7, 5_000_000):
        here.send({"type": "x", "text": "é" * size})
        found = there.inbox.get(timeout=10)
        assert found is not None
        assert len(found["text"]) == size
    here.close()
    assert there.inbox.get(timeout=10) is None


def test_many_threads_do_not_mix_their_messages() -> None:
    here, there = pair()

    def talk(at: int) -> None:
        for _ in range(9):
            here.send({"type": "x", "at": at, "text": "y" * 40_000})

    threads = [threading.Thread(target=talk, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    found = [there.inbox.get(timeout=10) for _ in range(72)]
    assert sorted(message["at"] for message in found if message) == sorted([*range(8)] * 9)
    assert all(message and len(message["text"]) == 40_000 for message in found)
    here.close()


def test_silence_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2M_FAULT_SILENCE", "0.4")
    silent_in, _ = os.pipe()
    ended = threading.Event()
    alone = Channel(lambda size: os.read(silent_in, size), lambda data: None, ended.set)
    alone.start(lambda message: False)
    assert ended.wait(5)
    assert alone.inbox.get(timeout=5) is None
    with pytest.raises(Closed):
        alone.send({"type": "x"})


def test_two_sides_that_say_nothing_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2M_FAULT_PING", "0.1")
    monkeypatch.setenv("B2M_FAULT_SILENCE", "0.5")
    here, there = pair()
    threading.Event().wait(1.5)
    assert not here.closed
    assert not there.closed
    here.close()
