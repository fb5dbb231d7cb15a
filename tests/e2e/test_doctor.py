"""The doctor against staged incidents: it names what is wrong, and the command that it prints solves it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets.lease import acquire
from tests.e2e.conftest import Copy
from tests.e2e.test_full_disk import MB, fill, small_disk
from tests.e2e.test_refusals import (
    clock_ahead,
    damage,
    history_cut,
    number_taken_twice,
    rewrite,
    row_without_its_category,
)
from tests.support.commands import guard_of, script, stopped_at, wait_for
from tests.support.unchanged import picture
from tests.support.world import World


def examine(world: World, host: str, *flags: str) -> dict[str, Any]:
    """Run the doctor, which must change nothing, and return what it says of ipm."""
    before = picture(world.root)
    done = world.b2m("doctor", "ipm", "--host", host, "--json", *flags)
    assert picture(world.root) == before
    (found,) = [line for line in done.json if line["type"] == "doctor"]
    assert done.code == (0 if found["healthy"] else 8), done
    return found


def bad(found: dict[str, Any]) -> list[str]:
    return [each["name"] for each in found["findings"] if each["level"] == "bad"]


def type_in(world: World, command: str) -> None:
    """Run a command line that the doctor printed, in the project's folder."""
    words = shlex.split(command)
    if words[0] == "b2m":
        done = world.b2m(*words[1:])
        assert done.code == 0, (command, done)
    else:
        subprocess.run(command, shell=True, check=True, cwd=world.root, timeout=60, capture_output=True)


def solve(world: World, host: str, first: str, *flags: str) -> None:
    """Do what the doctor says until it is content; ``first`` is the finding that it must act on, at once."""
    found = examine(world, host, *flags)
    assert not found["healthy"]
    assert bad(found)[0] == first, found
    for _ in range(3):
        type_in(world, found["next"])
        found = examine(world, host, *flags)
        if found["healthy"]:
            return
    raise AssertionError(found)


def test_a_host_in_order_is_healthy(copied: Copy) -> None:
    world = copied("team")
    with world.serving():
        done = world.b2m("doctor", "--host", "prod", "--deep")
        assert done.code == 0, done
        assert "emoji@prod  healthy" in done.out
        assert "ipm@prod  healthy" in done.out
        assert "next:" not in done.out


def test_work_to_do_is_no_illness_but_has_a_command(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "more")
    found = examine(world, "ann")
    assert found["healthy"]
    assert found["next"] == "b2m sync --db ipm --host ann"


def test_a_run_that_was_killed_with_its_guard(copied: Copy) -> None:
    world = copied("behind")
    with world.serving():
        with stopped_at(world, "after-journal:hold") as process:
            os.kill(guard_of(process.pid), signal.SIGKILL)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        found = examine(world, "prod")
        assert bad(found)[0] == "lock"
        assert "its hold must be settled" in found["findings"][0]["text"]
        solve(world, "prod", "lock")
        assert world.serves_within(10)
        assert world.live("prod").name == "ipm-db-v2.db"


def test_a_run_under_way_is_told_and_no_illness(copied: Copy) -> None:
    world = copied("behind")
    with stopped_at(world, "before-task:1:download", host="ben"):
        found = examine(world, "ben")
        assert found["healthy"], found
        assert "is at work since" in found["findings"][0]["text"]


def test_a_lease_of_a_run_elsewhere_that_died(copied: Copy, tmp_path: Path) -> None:
    world = copied("team")
    world.insert("ann", "waiting")
    dead = acquire(
        world.bucket, "ipm", owner="cron@gone", host="gone", work="f" * 32, reason="sync", ttl=1.0, seen=tmp_path / "s"
    )
    dead._stop.set()  # as if its process were dead: nothing renews it, nothing gives it back
    wait_for(lambda: not examine(world, "ann")["healthy"], "the lease looked dead")
    found = examine(world, "ann")
    (lease,) = [each for each in found["findings"] if each["name"] == "lease"]
    assert "held by cron@gone on gone" in lease["text"]
    solve(world, "ann", "lease")
    assert world.head() == 2


def test_a_server_that_is_down(copied: Copy) -> None:
    world = copied("team")
    with world.serving():
        assert examine(world, "prod-stop")["healthy"]
        world.server("stop")
        solve(world, "prod-stop", "service")
        assert world.serves_within(10)


def test_a_server_that_lost_only_the_database(copied: Copy) -> None:
    world = copied("team")
    with world.serving():
        world.server("--disconnect", "ipm")
        solve(world, "prod", "service")
        assert world.serves_within(10)


def test_a_bucket_that_is_gone(copied: Copy) -> None:
    world = copied("team")
    (world.root / "bucket").rename(world.root / "unmounted")
    found = examine(world, "ann")
    assert bad(found)[0] == "bucket"
    assert "bring the bucket back" in found["first"]
    (world.root / "unmounted").rename(world.root / "bucket")
    type_in(world, found["next"])
    assert examine(world, "ann")["healthy"]


def test_a_bucket_that_was_never_set_up(copied: Copy) -> None:
    world = copied("team")
    for path in (world.root / "bucket", world.folder("ann") / ".b2m"):
        path.rename(world.root / f"old {path.name}")
    found = examine(world, "ann")
    assert (bad(found)[0], found["next"]) == ("bucket", "b2m bucket init")
    type_in(world, found["next"])
    assert examine(world, "ann")["healthy"]


@pytest.mark.parametrize("stage", [history_cut, number_taken_twice])
def test_a_host_whose_version_is_not_in_the_history(stage: Any, copied: Copy) -> None:
    world = copied("behind" if stage is history_cut else "team")
    stage(world)
    host = "ben" if stage is history_cut else "ann"
    solve(world, host, "state")
    assert world.status(host)["anchor"]["version"] == world.head()


def test_a_database_that_is_gone(copied: Copy) -> None:
    world = copied("team")
    path = world.live("ann")
    path.unlink()
    solve(world, "ann", "state")
    assert path.exists()


def test_an_anchor_that_rotted_is_found_by_a_deep_look(copied: Copy) -> None:
    world = copied("team")
    damage(next((world.folder("ann") / ".b2m" / "ipm").glob("anchor-*.db")))
    solve(world, "ann", "anchor", "--deep")


def test_an_anchor_that_is_gone(copied: Copy) -> None:
    world = copied("team")
    next((world.folder("ann") / ".b2m" / "ipm").glob("anchor-*.db")).unlink()
    solve(world, "ann", "anchor")


def test_a_pause(copied: Copy) -> None:
    world = copied("team")
    assert world.b2m("pause", "ipm", "--for", "1h", "--reason", "somebody loads data").code == 0
    found = examine(world, "ann")
    assert "somebody loads data" in str(found)
    solve(world, "ann", "pause")


def test_rows_that_fail_verification(copied: Copy) -> None:
    world = copied("team")
    row_without_its_category(world)
    assert world.sync("ann").code == 8
    found = examine(world, "ann")
    assert bad(found) == ["runs"]
    assert "has no parent in ipm_category" in str(found["findings"])
    look = found["first"].partition("with: ")[2].partition(";")[0]
    assert look == "b2m diff --db ipm --host ann"
    assert "ipm_data  +0 ~1 -0" in world.b2m(*shlex.split(look)[1:]).out
    known = "(SELECT min(hash) FROM ipm_category)"
    world.edit("ann", "ipm", f"UPDATE ipm_data SET category_hash = {known} WHERE slug = '1.0'")
    solve(world, "ann", "runs")


def test_a_clock_that_is_wrong(copied: Copy) -> None:
    world = copied("team")
    clock_ahead(world)
    found = examine(world, "ann")
    assert (bad(found)[0], found["next"]) == ("clock", "timedatectl set-ntp true")
    # A test does not set the machine's clock: the time of the version becomes the past, as it would by the command.
    rewrite(world, 1, time="2026-02-17T00:00:00+00:00")
    assert "clock" not in bad(examine(world, "ann"))


def test_a_disk_that_is_full(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "no room")
    with small_disk(world.folder("ann"), 64 * MB):
        fill(world.folder("ann"), 2 * MB)
        assert world.sync("ann").code == 8
        found = examine(world, "ann")
        assert bad(found)[0] == "disk"
        assert "make room" in found["first"]
        (world.folder("ann") / "filler").unlink()
        type_in(world, found["next"])
        assert examine(world, "ann")["healthy"]


def test_what_cannot_be_looked_at_is_a_finding(copied: Copy) -> None:
    world = copied("team")
    world.bucket.put("ipm/pause.json", b"{")
    (world.folder("ann") / "db.toml").write_text("[db\n")
    done = world.b2m("doctor", "ipm", "--host", "ann")
    assert done.code == 8
    assert "db.toml:1" in done.out
    assert "Traceback" not in done.err + done.out


def test_one_sick_database_makes_the_whole_exit_code(copied: Copy) -> None:
    world = copied("team")
    world.live("ann", "emoji").unlink()
    done = world.b2m("doctor", "--host", "ann")
    assert done.code == 8
    assert "emoji@ann  needs attention" in done.out
    assert "ipm@ann  healthy" in done.out


def test_rows_that_cannot_be_replayed_are_not_answered_with_another_sync(copied: Copy) -> None:
    world = copied("behind")
    world.edit("ben", "ipm", "ALTER TABLE ipm_data ADD COLUMN more")
    assert world.sync("ben").code == 8
    found = examine(world, "ben")
    assert found["next"] == "b2m download --db ipm --host ben --discard"
    assert found["first"].startswith("put what b2m diff --db ipm --host ben shows into the newest version by hand")


def test_the_guards_last_line_is_never_blank(copied: Copy) -> None:
    world = copied("team")
    (world.folder("ann") / ".b2m" / "ipm" / "guard.log").write_text("2026-01-01T00:00:00Z it broke\nand said so\n\n")
    (guard,) = [each for each in examine(world, "ann")["findings"] if each["name"] == "guard"]
    assert guard["text"] == "it last had to act: 2026-01-01T00:00:00Z it broke"


def test_a_server_that_was_dead_has_a_moment_to_get_well(copied: Copy) -> None:
    world = copied("behind")
    script(world, "connect", before="true")
    world.change("inventory.yaml", "sh connect.sh {{ db.name }}", "sh late.sh {{ db.name }}")
    (world.root / "late.sh").write_text("setsid sh -c 'sleep 0.5; sh connect.sh ipm' >/dev/null 2>&1 &\n")
    with world.serving():
        world.server("--disconnect", "ipm")
        done = world.sync()
        assert done.code == 0, done
        assert "was not well before it was held" not in done.out
        assert world.serves_within(10)
