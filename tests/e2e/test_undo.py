"""Undoing a swap: the old file comes back, with every row that the new one accepted meanwhile."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Copy
from tests.e2e.test_crashes import BACK_WITHIN, assert_converged, keep_its_name, spread
from tests.support.commands import ended, script, stopped_at, wait_for
from tests.support.proof import assert_all_there, assert_in_step
from tests.support.settings import trials
from tests.support.world import Done, World

UNHEALTHY = "prod/state/unhealthy"


def unhealthy_with_the_new_file(world: World, verb: str = "connect") -> None:
    """The server's probe fails while the file that it is given is not the old one; it takes rows all the same."""
    world.change("inventory.yaml", "start_timeout: 10s", "start_timeout: 3s")
    old = world.live().stat().st_ino
    find = "file=prod/dbs/$(sed -n 's/^ipmdb = \"\\(.*\\)\"/\\1/p' prod/dbs/db.toml)"
    sick = f'[ "$(stat -c %i "$file")" = {old} ] && rm -f {UNHEALTHY} || touch {UNHEALTHY}'
    script(world, verb, before=f"{find}; {sick}")


def healthy(world: World) -> None:
    (world.root / UNHEALTHY).unlink(missing_ok=True)
    script(world, "connect")


def anchor(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.prod / ".b2m" / "ipm" / "anchor.json").read_bytes())
    return found


def only_line(done: Done) -> str:
    """Return the text of the one error, which has no traceback with it."""
    assert done.err == "", done.err
    (line,) = [event["text"] for event in done.json if event["type"] == "error"]
    assert "\n" not in line
    return str(line)


def assert_old_file_is_back(world: World, shadow: Path, name: str = "ipm-db-v1.db", number: int = 1) -> None:
    assert world.live().name == name
    assert anchor(world)["number"] == number
    assert world.head() == number + 1
    assert not (world.prod / ".b2m" / "ipm" / "kept.json").exists()
    assert_all_there(world, world.live(), shadow)


@pytest.mark.parametrize("naming", ["versioned", "stable"])
def test_a_server_that_is_unhealthy_with_the_new_file_keeps_every_row(copied: Copy, naming: str) -> None:
    """Without carrying back, what the new file accepted until the probe's time was over would be gone with it."""
    world = copied("behind")
    if naming == "stable":
        keep_its_name(world)
    unhealthy_with_the_new_file(world)
    name, inode = world.live().name, world.live().stat().st_ino
    with world.serving():
        with world.writing() as shadow:
            done = world.sync()
            assert done.code == 6, done
            assert "is not healthy after 3 s" in only_line(done)
            assert done.recap["tasks"]["undone"] > 0
            assert world.serves_within(BACK_WITHIN)
        assert world.live().stat().st_ino == inode
        assert_old_file_is_back(world, shadow, name)
        (failed,) = (world.prod / ".b2m" / "ipm" / "failed").glob("*.db")
        accepted = world.slugs(failed) - world.slugs(world.restored(number=1)) - {"from-ann"}
        assert accepted, "the new file accepted nothing, so nothing was proven"
        assert accepted <= world.slugs(world.live())
        assert world.status()["state"] == "outdated_db"
        healthy(world)
        assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_with_stop_and_start(copied: Copy) -> None:
    """A server that is unhealthy stays up after `start` has given up on it, and takes rows."""
    world = copied("behind")
    text = (world.root / "inventory.yaml").read_text()
    head, tail = text.split("prod-stop:")
    (world.root / "inventory.yaml").write_text(head + "prod-stop:" + tail.replace("}} start", "}} start --timeout 2"))
    unhealthy_with_the_new_file(world, "start")
    with world.serving():
        with world.writing() as shadow:
            done = world.sync("prod-stop")
            assert done.code == 6, done
            assert world.serves_within(BACK_WITHIN)
        assert_old_file_is_back(world, shadow)
        script(world, "start")
        (world.root / UNHEALTHY).unlink(missing_ok=True)
        assert world.sync("prod-stop").code == 0
        assert_converged(world, shadow, "from-ann")


def test_a_row_that_comes_just_before_the_server_is_held_again(copied: Copy) -> None:
    """Nobody has written when the undo looks; then somebody does, before the server lets go."""
    world = copied("behind")
    unhealthy_with_the_new_file(world)
    post = (
        "import json, sys, urllib.request as u; port = json.load(open('prod/state/server.json'))['port']; "
        "u.urlopen(u.Request(f'http://127.0.0.1:{port}/ipm', b'{\\\"slug\\\": \\\"last-minute\\\"}')).read()"
    )
    script(world, "disconnect", before=f'[ $calls = 2 ] && python3 -c "{post}"')
    with world.serving():
        done = world.sync()
        assert done.code == 6, done
        assert "last-minute" in world.slugs(world.live())
        healthy(world)
        assert world.sync().code == 0
    assert "last-minute" in world.slugs(world.restored())


def test_killed_while_it_undoes(copied: Copy) -> None:
    """The guard gives the server what is live then, and the next run finds every row, counters included."""
    world = copied("behind")
    world.change("inventory.yaml", "start_timeout: 10s", "start_timeout: 2s")
    # Well again at the second connect, whichever file it gets: the guard's, or that of the undo.
    script(world, "connect", before=f"[ $calls = 1 ] && touch {UNHEALTHY} || rm -f {UNHEALTHY}")
    world.save()
    log = world.root / "points"
    with world.serving(), world.writing():
        assert world.sync(env={"B2M_FAULT": "none", "B2M_FAULT_LOG": str(log)}).code == 6
    passed = log.read_text().split()
    undoing = [f"{name}#2" for index, name in enumerate(passed) if name in passed[:index] and "journal:" in name]
    undoing += [f"{name}#2" for index, name in enumerate(passed) if name in passed[:index] and "switch:" in name]
    assert "before-journal:switch#2" in undoing
    for point in spread(undoing, trials(4, len(undoing))):
        world.server("stop")
        world.restore()
        with world.serving():
            with world.writing() as shadow:
                killed = world.sync(env={"B2M_FAULT": point})
                assert killed.code == -signal.SIGKILL, (point, killed)
                assert world.serves_within(BACK_WITHIN), point
                done = world.sync()
                assert done.code == 0, (point, done)
            try:
                assert_converged(world, shadow, "from-ann")
            except AssertionError as error:
                raise AssertionError(f"killed at {point}: {error}") from error


def test_a_connect_that_fails_once(copied: Copy) -> None:
    world = copied("behind")
    script(world, "connect", before="[ $calls = 1 ] && { echo no such file >&2; exit 1; }")
    with world.serving():
        with world.writing() as shadow:
            done = world.sync()
            assert done.code == 6, done
            assert "ended with exit code 1: no such file" in only_line(done)
            assert world.serves_within(BACK_WITHIN)
        assert_old_file_is_back(world, shadow)
        assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_a_disconnect_that_fails(copied: Copy) -> None:
    world = copied("behind")
    script(world, "disconnect", before="echo busy >&2; exit 3")
    with world.serving():
        with world.writing() as shadow:
            done = world.sync()
            assert done.code == 6, done
            assert "ended with exit code 3: busy" in only_line(done)
            assert world.serves_within(BACK_WITHIN)
        assert_old_file_is_back(world, shadow)
        script(world, "disconnect")
        assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_an_undo_that_cannot_work_says_what_is_in_which_state(copied: Copy) -> None:
    """The server refuses every file: exit 7, nothing deleted, and the run after the mending converges."""
    world = copied("behind")
    script(world, "connect", before="echo out of order >&2; exit 1")
    with world.serving():
        with world.writing() as shadow:
            done = world.sync()
            assert done.code == 7, done
            line = only_line(done)
            assert "ended with exit code 1: out of order" in line
            assert "undoing it failed" in line
            assert f"{world.live()} is live, nothing was deleted" in line
            assert "b2m sync --db ipm --host prod" in line
            wait_for(lambda: world.status()["state"] != "locked", "the guard, which tries as well, ended")
            assert world.status()["reason"] == "unfinished"
            again = world.sync()
            assert again.code == 7, again
            assert "settling it failed" in only_line(again)
            script(world, "connect")
            assert world.sync().code == 0
            assert world.serves_within(BACK_WITHIN)
        assert_converged(world, shadow, "from-ann")


def test_more_than_the_allowed_downtime(copied: Copy) -> None:
    world = copied("behind")
    world.change("playbooks/ipm.yaml", "max_downtime: 5s", "max_downtime: 1ms")
    with world.serving():
        with world.writing() as shadow:
            done = world.sync()
            assert done.code == 6, done
            assert "took longer than max_downtime (0.001 s)" in only_line(done)
            assert world.serves_within(BACK_WITHIN)
        assert_old_file_is_back(world, shadow)
        world.change("playbooks/ipm.yaml", "max_downtime: 1ms", "max_downtime: 5s")
        assert world.sync().code == 0
        assert_converged(world, shadow, "from-ann")


def test_discarded_rows_come_back_with_the_old_file(copied: Copy) -> None:
    """`download --discard` drops unsaved rows with the old file; undone, or rolled back, they must be in it still."""
    world = copied("behind")
    with world.serving():
        assert world.post("w-first") == 201  # the category of what the writer inserts is in a version then
        assert world.sync().code == 0
    assert world.sync("ann").code == 0
    world.insert("ann", "more-from-ann")
    assert world.sync("ann").code == 0
    world.insert("prod", "unsaved")
    unhealthy_with_the_new_file(world)
    download = ("download", "--db", "ipm", "--host", "prod", "--discard", "--json")
    with world.serving():
        with world.writing() as shadow:
            done = world.b2m(*download)
            assert done.code == 6, done
        assert_old_file_is_back(world, shadow, "ipm-db-v3.db", 3)
        assert "unsaved" in world.slugs(world.live())
        healthy(world)
        assert world.sync().code == 0
        assert world.sync("ann").code == 0
        world.insert("ann", "last-from-ann")
        assert world.sync("ann").code == 0
        world.insert("prod", "unsaved too")
        with world.writing() as more:
            done = world.b2m(*download)
            assert done.code == 0, done
            assert "unsaved too" not in world.slugs(world.live())
            assert world.sync().code == 0
            rolled = world.b2m("rollback", "--db", "ipm", "--host", "prod", "--json")
            assert rolled.code == 0, rolled
            assert "unsaved too" in world.slugs(world.live())
            assert "last-from-ann" not in world.slugs(world.live())
            assert world.sync().code == 0
        shadow.write_text(shadow.read_text() + more.read_text())
        assert_converged(world, shadow, "from-ann", "more-from-ann", "last-from-ann", "unsaved", "unsaved too")


def test_a_command_that_was_mended_in_the_inventory_gives_the_server_back(copied: Copy) -> None:
    """The journal has the command that failed; the doctor says which ones are tried, and a sync tries the new one."""
    world = copied("behind")
    script(world, "connect")
    world.change("inventory.yaml", "sh connect.sh", "sh konnect.sh")
    with world.serving():
        assert world.sync().code == 7
        again = world.sync()
        assert again.code == 7
        assert "`sh konnect.sh ipm` is what the run that was cut off noted in its journal" in only_line(again)
        world.change("inventory.yaml", "sh konnect.sh", "sh conect.sh")
        third = only_line(world.sync())
        assert "`sh konnect.sh ipm` is what the run that was cut off noted in its journal" in third
        assert "as inventory.yaml has it now: `sh conect.sh ipm` ended with exit code" in third
        world.change("inventory.yaml", "sh conect.sh", "sh connect.sh")
        said = world.b2m("doctor", "--db", "ipm", "--host", "prod").out
        assert "tries `sh konnect.sh ipm` of the journal, then `sh connect.sh ipm` of inventory.yaml" in said
        done = world.sync()
        assert done.code == 0, done
        assert world.serves_within(BACK_WITHIN)
    assert_in_step(world)


PROD = "      prod:\n        folder: prod/dbs\n"


def test_a_workdir_that_is_not_there(copied: Copy) -> None:
    world = copied("behind")
    world.change("inventory.yaml", PROD, f"{PROD}        workdir: nowhere\n")
    with world.serving():
        with world.writing() as shadow:
            done = world.sync()
            assert done.code == 7, (
                "whether the server lets go, or has its database, nobody can say without its commands"
            )
            assert f"cannot be run in {world.root / 'nowhere'}: No such file or directory" in only_line(done)
            assert world.serves_within(BACK_WITHIN)
            assert world.live().name == "ipm-db-v1.db"
            assert world.head() == 2
            world.change("inventory.yaml", "        workdir: nowhere\n", "")
            again = world.sync()
            assert again.code == 0, again
            assert world.serves_within(BACK_WITHIN)
        assert_converged(world, shadow, "from-ann")


def test_a_workdir_that_vanishes_in_a_hold(copied: Copy) -> None:
    """Nobody can give the server back from there; the inventory's workdir, mended, is where the next run does it."""
    world = copied("behind")
    site = world.root / "site"
    site.symlink_to(".")
    world.change("inventory.yaml", PROD, f"{PROD}        workdir: site\n")
    with world.serving():
        with world.writing() as shadow:
            with stopped_at(world, "switch:made") as process:
                site.unlink()
                process.send_signal(signal.SIGCONT)
                done = ended(process)
            assert done.code == 7, done
            assert f"cannot be run in {site}: No such file or directory" in only_line(done)
            again = world.sync()
            assert again.code == 7, again
            assert f"cannot be run in {site}: No such file or directory" in only_line(again)
            assert world.server("health", "--db", "ipm", check=False).returncode != 0
            world.change("inventory.yaml", "        workdir: site\n", "")
            mended = world.sync()
            assert mended.code == 0, mended
            assert world.serves_within(BACK_WITHIN)
        assert_converged(world, shadow, "from-ann")


def test_after_exit_code_7_the_recap_counts_the_downtime(copied: Copy) -> None:
    world = copied("behind")
    script(world, "connect", before="sleep 0.3; exit 1")
    with world.serving():
        done = world.b2m("sync", "--db", "ipm", "--host", "prod")
        assert done.code == 7
        recap = re.search(r"outdated_db -> failed .* downtime ([\d.]+)s and counting", done.out)
        assert recap, done
        assert float(recap[1]) >= 0.6  # both attempts
        script(world, "connect")
        assert world.sync().code == 0


def test_a_probe_that_always_fails_is_told_by_a_quiet_success_too(copied: Copy) -> None:
    """It lets no swap be undone: whoever mistyped it must hear of that from cron."""
    world = copied("behind")
    world.change("inventory.yaml", "state health --db", "state helth --db")
    with world.serving():
        done = world.b2m("sync", "ipm", "--host", "prod", "--quiet")
    assert (done.code, done.out) == (0, "")
    said = r"b2m: web was not well before it was held, and is not now: `.* helth .*` ended with exit code 2: .*"
    assert re.fullmatch(f"{said}; nobody could tell .*\n", done.err)


def test_rows_that_a_stray_deleted_from_the_old_file_hinder_no_undo(copied: Copy) -> None:
    """They are many more than policy.max_deletes lets through, and nothing that the undo could refuse."""
    world = copied("behind")
    unhealthy_with_the_new_file(world)
    old = world.live()
    deletes = "DELETE FROM ipm_data WHERE slug_hash % 2 AND NOT slug GLOB 'w-*'"
    program = "import apsw, sys; apsw.Connection(sys.argv[1]).execute(sys.argv[2])"
    stray = shlex.join([sys.executable, "-c", program, str(old), deletes])
    connect = world.root / "connect.sh"
    connect.write_text(f"[ -e strayed ] || {{ touch strayed; {stray}; }}\n{connect.read_text()}")
    before = world.slugs(old)
    with world.serving(), world.writing() as shadow:
        done = world.sync()
        assert done.code == 6, done
        assert world.serves_within(BACK_WITHIN)
    assert world.live() == old
    assert len(before - world.slugs(old)) > 20
    assert_all_there(world, old, shadow)


def test_doctor_says_why_the_guard_failed(copied: Copy) -> None:
    world = copied("behind")
    script(world, "connect", before="echo no route >&2; exit 3")
    log = world.prod / ".b2m" / "ipm" / "guard.log"
    with world.serving():
        assert world.sync(env={"B2M_FAULT": "switch:made"}).code == -signal.SIGKILL
        wait_for(lambda: log.exists() and "ServiceError: " in log.read_text(), "the guard told why it failed")
        told = world.b2m("doctor", "--db", "ipm", "--host", "prod", "--json").out
        why = r"ServiceError: `sh connect.sh ipm` ended with exit code 3: no route"
        assert re.search(rf"it last had to act: \S+Z {why}", told)
        script(world, "connect")
        wait_for(lambda: world.sync().code == 0, "a sync went well again")
