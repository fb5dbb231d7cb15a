"""An anchor that cannot be used is fetched anew, as the refusal says, and the rows of the server stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.world import World

Harm = Callable[[Path], None]


def _flip_a_byte(state: Path) -> None:
    (anchor,) = state.glob("anchor-*.db")
    content = bytearray(anchor.read_bytes())
    content[5000] ^= 1
    anchor.chmod(0o644)
    anchor.write_bytes(content)


def _lose_the_file(state: Path) -> None:
    (anchor,) = state.glob("anchor-*.db")
    anchor.unlink()


def _tear_the_record(state: Path) -> None:
    (state / "anchor.json").write_text("{")


@pytest.mark.parametrize(
    ("harm", "words"),
    [(_flip_a_byte, ()), (_lose_the_file, ()), (_tear_the_record, ("--version", "1"))],
    ids=["a flipped byte", "a lost file", "a torn record"],
)
def test_a_damaged_anchor_is_fetched_anew_with_rows_of_our_own_in_the_file(
    world: World, harm: Harm, words: tuple[str, ...]
) -> None:
    with world.serving():
        assert world.sync().code == 0
        harm(world.prod / ".b2m" / "ipm")
        assert world.post("late") == 201
        assert world.status()["reason"] == "anchor_damaged"
        done = world.b2m("adopt", "--db", "ipm", "--host", "prod", *words)
        assert done.code == 0, done
        assert done.out.endswith("starts from v1 now  rows +3 ~0 -0\n")
        synced = world.sync()
        assert synced.recap["after"] == "up_to_date"
    assert world.head() == 2
    assert "late" in world.slugs(world.restored())


def test_a_torn_record_alone_is_not_guessed_while_rows_differ(world: World) -> None:
    with world.serving():
        assert world.sync().code == 0
        _tear_the_record(world.prod / ".b2m" / "ipm")
        assert world.post("late") == 201
        done = world.b2m("adopt", "--db", "ipm", "--host", "prod")
        assert done.code == 8, done
        assert "is closest to v1, but differs: +3 ~0 -0." in done.out
        assert world.status()["reason"] == "anchor_damaged"
