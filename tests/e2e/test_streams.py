"""What b2m prints to: closed streams, a full disk, a reader that has gone; and what never comes there as it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.conftest import Copy
from tests.support.commands import script
from tests.support.rights import ORDINARY
from tests.support.world import World

SECRET = "hunter2-very-secret"
BOTH = ("sync", "--db", "ipm", "--db", "emoji", "--host", "ann")


def in_shell(world: World, words: Sequence[str], redirected: str) -> subprocess.CompletedProcess[str]:
    """Run b2m with streams as a shell's words say."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirected}', "bash", *world.command(*words)],
        cwd=world.root,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def both_changed(copied: Copy) -> World:
    world = copied("team")
    world.insert("ann", "from-ann")
    world.edit("ann", "emoji", "UPDATE emoji SET name = 'ann' WHERE code = '1F600'")
    return world


@pytest.mark.parametrize("flag", [[], ["--json"]], ids=["people", "json"])
@pytest.mark.parametrize("where", [">/dev/full", "| true; exit ${PIPESTATUS[0]}"], ids=["full", "gone"])
def test_output_that_nobody_gets_keeps_no_database_from_being_synced(copied: Copy, where: str, flag: list[str]) -> None:
    world = both_changed(copied)
    done = in_shell(world, [*BOTH, *flag], where)
    assert (world.head("ipm"), world.head("emoji")) == (2, 2)
    assert done.returncode == 1, "somebody wanted to read it"
    assert ("b2m: standard output: No space left on device\n" in done.stderr) == ("full" in where)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("flag", [[], ["--json"], ["--quiet"]], ids=["people", "json", "quiet"])
def test_a_stream_that_is_closed_stops_nothing(copied: Copy, closed: str, flag: list[str]) -> None:
    world = both_changed(copied)
    done = in_shell(world, [*BOTH, *flag], closed)
    assert (world.head("ipm"), world.head("emoji")) == (2, 2)
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    (found,) = world.query(world.restored("ipm"), "PRAGMA integrity_check")
    assert found == ("ok",), "nothing was printed into a file that got a stream's number"


@pytest.mark.parametrize("words", [["--list"], ["--help", "sync"], ["history", "ipm", "--limit", "0"], ["vars", "ipm"]])
def test_a_reader_that_has_gone_away_is_told_nothing(copied: Copy, words: list[str]) -> None:
    done = in_shell(copied("team"), words, "| true")
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["contract", "doctor"])
def test_what_a_service_prints_shows_no_secret(copied: Copy, tmp_path: Path, command: str) -> None:
    world = copied("team")
    verb = {"contract": "disconnect", "doctor": "command"}[command]
    script(world, verb, before=f"echo using {SECRET} >&2; exit 1")
    secrets = tmp_path / "secrets.env"
    secrets.write_text(f"HOOK={SECRET}\n")
    secrets.chmod(0o600)
    with world.serving():
        done = world.b2m(command, "--db", "ipm", "--host", "prod", env={"B2M_SECRETS_FILE": str(secrets)})
    assert done.code != 0
    assert "using (secret HOOK)" in done.out + done.err
    assert SECRET not in done.out + done.err


def test_a_message_of_several_lines_is_one_line_of_the_history(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "from-ann")
    message = "\x1b[2Jnew words\nand \x07more"
    assert world.b2m("sync", "ipm", "--host", "ann", "--message", message).code == 0
    newest, first = world.b2m("history", "ipm").out.splitlines()
    assert newest.endswith(r"  \x1b[2Jnew words and \x07more")
    assert first.startswith("ipm v1 ")


def test_a_db_toml_may_go_into_a_pipe_or_a_device(copied: Copy) -> None:
    world = copied("team")
    done = in_shell(world, ["fetch-db-toml", "ipm", "--output", "/dev/stdout"], "| cat")
    assert done.stdout == '[db]\nipmdb = "ipm-db-v1.db"\n'
    fifo = world.root / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE, text=True) as reader:
        assert world.b2m("fetch-db-toml", "ipm", "--output", str(fifo)).code == 0
        assert reader.communicate(timeout=30)[0] == done.stdout
    assert fifo.is_fifo()
    done = in_shell(world, ["fetch-db-toml", "ipm", "--output", str(world.root)], "")
    assert (done.returncode, done.stderr) == (6, f"b2m: cannot write {world.root}: Is a directory\n")


def test_settings_of_invoke_that_belong_to_another_user_are_named(copied: Copy, tmp_path: Path) -> None:
    world = copied("team")
    (tmp_path / ".invoke.yaml").write_text("{}")
    (tmp_path / ".invoke.yaml").chmod(0)
    done = world.b2m("check", env={"HOME": str(tmp_path)}, under=ORDINARY)
    assert (done.code, done.err) == (
        1,
        f"b2m: {tmp_path}/.invoke.yaml: permission denied; mend that, or set HOME to your own folder\n",
    )
