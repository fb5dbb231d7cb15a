"""Holes that a sceptical reader found: each test fails without the few lines that close it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from b2m.buckets import open_bucket
from b2m.buckets.marker import init_bucket
from b2m.versions import log
from tests.e2e.conftest import Copy
from tests.e2e.test_guards import error_of
from tests.support.world import World


def swapped(world: World) -> None:
    """The server runs; a swap has put ann's version live on prod, and prod's own rows are published."""
    assert world.sync("prod").code == 0
    assert world.status("prod")["state"] == "up_to_date"


def held_server_is_back(world: World) -> None:
    assert world.serves_within(5)


def test_a_rollback_cut_off_brings_no_deleted_row_back(copied: Copy) -> None:
    world = copied("behind")
    world.insert("prod", "mine")
    with world.serving():
        swapped(world)
        assert world.post("short-lived") in (200, 201)
        cut = world.b2m("rollback", "--db", "ipm", "--host", "prod", env={"B2M_FAULT": "before-journal:switch"})
        assert cut.code == -signal.SIGKILL, cut
        held_server_is_back(world)
        world.edit("prod", "ipm", "DELETE FROM ipm_data WHERE slug = 'short-lived'")
        done = world.sync("prod")
        assert done.code == 0, done
    assert "short-lived" not in world.slugs(world.live("prod"))
    assert "short-lived" not in world.slugs(world.restored())


FAILS_ONCE = """
import errno, sys
from b2m.hosts import switch
from b2m.tasks.program import main
finish, failed = switch.finish, []
def once(place, made):
    if not failed and made.how != "rename":
        failed.append(1)
        raise OSError(errno.EIO, "Input/output error")
    finish(place, made)
switch.finish = once
sys.argv = ["b2m", *sys.argv[1:]]
sys.exit(main())
"""


def test_a_switch_whose_completion_fails_is_really_undone(copied: Copy) -> None:
    world = copied("behind")
    world.insert("prod", "mine")
    with world.serving():
        before = world.live("prod").name
        command = [sys.executable, "-c", FAILS_ONCE, "sync", "--db", "ipm", "--host", "prod", "--json"]
        done = subprocess.run(command, cwd=world.root, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 6, done
        assert world.live("prod").name == before
        assert world.status("prod")["anchor"]["version"] == 1
        assert world.sync("prod").code == 0
    assert {"mine", "from-ann"} <= world.slugs(world.restored())


def test_a_host_that_only_receives_never_publishes_rows_that_came_during_the_run(copied: Copy) -> None:
    world = copied("behind")
    world.change("inventory.yaml", "    key: ipmdb\n", "    key: ipmdb\n    direction: bucket_to_host\n")
    process = world.start_b2m(
        "sync", "--json", "--db", "ipm", "--host", "ben", env={"B2M_FAULT": "stop:before-task:2:snapshot"}
    )
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT) is not None
    world.insert("ben", "written-where-nobody-should")
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert world.head() == 2
    assert process.returncode == 8
    assert "written-where-nobody-should" in world.slugs(world.live("ben"))


LOOKS = "import sys; file = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"


def test_somebody_who_only_looks_does_not_make_a_swap_fail(copied: Copy) -> None:
    world = copied("behind")
    world.insert("prod", "mine")
    with world.serving():
        command = [sys.executable, "-c", LOOKS, str(world.live("prod"))]
        looking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert looking.stdout is not None
        assert looking.stdout.readline() == b"open\n"
        log = world.root / "passed"
        run = world.start_b2m(
            "sync", "--json", "--db", "ipm", "--host", "prod", env={"B2M_FAULT": "none", "B2M_FAULT_LOG": str(log)}
        )
        while run.poll() is None and not (log.exists() and "after-journal:hold" in log.read_text()):
            time.sleep(0.01)
        time.sleep(0.5)  # the server has been told to let go, and we have not
        looking.communicate()
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, (out, err)


def test_looking_during_a_run_does_not_open_the_live_file(copied: Copy) -> None:
    world = copied("behind")
    world.insert("prod", "mine")
    with world.serving():
        run = world.start_b2m(
            "sync", "--json", "--db", "ipm", "--host", "prod", env={"B2M_FAULT": "stop:before-task:2:snapshot"}
        )
        os.waitid(os.P_PID, run.pid, os.WSTOPPED | os.WNOWAIT)
        world.insert("prod", "newer-than-what-is-remembered")
        text = LOOKING.format(what="b2m.hosts.live_view.LiveFile")
        command = [sys.executable, "-c", text, "status", "--db", "ipm", "--host", "prod", "--json"]
        status = subprocess.run(command, cwd=world.root, capture_output=True, text=True, timeout=60, check=False)
        assert json.loads(status.stdout.splitlines()[-1])["state"] == "locked", status
        assert "called" not in status.stderr
        run.send_signal(signal.SIGCONT)
        run.communicate(timeout=60)
        assert run.returncode == 0


LOOKING = """
import sys
import b2m.hosts.live_view, b2m.hosts.session, b2m.hosts.hold
from b2m.tasks.program import main
usual, held = {what}, []
def watched(*arguments, **named):
    if not HOLD or held:
        print("called", file=sys.stderr)
    return usual(*arguments, **named)
{what} = watched
HOLD = "status" not in sys.argv
take, end = b2m.hosts.hold.Hold.take_away, b2m.hosts.hold.Hold.end
b2m.hosts.hold.Hold.take_away = lambda hold, *rest: (held.append(hold), take(hold, *rest))[1]
b2m.hosts.hold.Hold.end = lambda hold: (held.clear(), end(hold))[1]
sys.argv = ["b2m", *sys.argv[1:]]
sys.exit(main())
"""


def kept(world: World) -> Path:
    return world.prod / ".b2m" / "ipm" / "kept.json"


def test_looking_writes_nothing_about_the_kept_file(copied: Copy) -> None:
    world = copied("behind")
    with world.serving():
        assert world.sync("prod").code == 0
    text = json.loads(kept(world).read_text())
    kept(world).write_text(json.dumps({**text, "signature": None}))
    before = kept(world).read_bytes()
    world.status("prod")
    assert kept(world).read_bytes() == before


def test_a_cut_off_publication_is_settled_with_its_own_bucket_only(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "mine")
    assert world.sync("ann", "ipm", env={"B2M_FAULT": "commit-created"}).code == -signal.SIGKILL
    init_bucket(open_bucket({"type": "folder", "path": str(world.root / "other")}))
    world.change("inventory.yaml", "path: bucket", "path: other")
    wrong = world.sync("ann")
    assert wrong.code == 8, wrong
    world.change("inventory.yaml", "path: other", "path: bucket")
    done = world.sync("ann")
    assert done.code == 0
    assert "download" not in {event.get("module") for event in done.json}, "our own version is merged once more"
    assert world.head() == 2


FIRST = "ipm/commits/00000000.json"


@pytest.fixture
def begun(world: World) -> World:
    """Nothing is published. ann, whose file is v5, died when she was about to; prod's file is v1."""
    shutil.copytree(world.prod, world.folder("ann"))
    (world.folder("ann") / "ipm-db-v1.db").rename(world.folder("ann") / "ipm-db-v5.db")
    world.change("ann/dbs/db.toml", "ipm-db-v1.db", "ipm-db-v5.db")
    world.insert("ann", "from-ann")
    killed = world.sync("ann", env={"B2M_FAULT": "after-journal:publish"})
    assert killed.code == -signal.SIGKILL, killed
    assert world.head() == 0
    assert world.b2m("unlock", "--db", "ipm", "--force").code == 0
    return world


def settled_as_not_published(world: World, number: int) -> None:
    """ann's next sync is no failure of the bucket: it says what is so, and what to do, which helps."""
    done = world.sync("ann")
    assert done.code == 8, done
    assert "v5 was not published" in done.out
    advice = error_of(done)
    assert "b2m adopt" in advice or "--discard" in advice, advice
    assert world.status("ann")["reason"] != "unfinished"
    assert log.numbers(world.bucket, "ipm") == [number]
    assert "from-ann" in world.slugs(world.live("ann"))
    done = world.b2m("download", "--db", "ipm", "--host", "ann", "--discard")
    assert done.code == 0, done
    world.insert("ann", "later-from-ann")
    assert world.sync("ann").recap["to_version"] == number + 1
    assert {"from-prod", "later-from-ann"} <= world.slugs(world.restored())


def test_two_hosts_that_believe_to_be_the_first_publish_one_number(begun: World) -> None:
    begun.insert("prod", "from-prod")
    with begun.serving():
        done = begun.sync("prod")
        assert done.code == 0, done
        assert done.recap["to_version"] == 5, "ann's number was decided for all"
        assert log.numbers(begun.bucket, "ipm") == [5]
        settled_as_not_published(begun, 5)


def test_a_cut_off_first_publication_that_nobody_else_waited_for_is_settled(begun: World) -> None:
    """As with a bucket that was set back: others' versions leave out the number that was to be published."""
    begun.bucket.delete(FIRST)
    begun.insert("prod", "from-prod")
    with begun.serving():
        assert begun.sync("prod").recap["to_version"] == 1
        settled_as_not_published(begun, 1)


def test_a_cut_off_first_publication_is_made_by_the_next_run(begun: World) -> None:
    done = begun.sync("ann")
    assert done.code == 0, done
    assert log.numbers(begun.bucket, "ipm") == [5]
    assert "from-ann" in begun.slugs(begun.restored())


def test_a_healed_file_is_known_to_be_clean(copied: Copy) -> None:
    world = copied("team")
    (world.folder("ann") / ".b2m" / "ipm" / "anchor.json").unlink()
    done = world.sync("ann")
    assert done.code == 0, done
    assert (done.recap["after"], done.recap["tasks"]["changed"]) == ("up_to_date", 0), done.recap


def test_two_databases_behind_one_server_that_is_stopped(copied: Copy) -> None:
    world = copied("behind")
    with world.serving():
        for number in range(3):
            for db in ("ipm", "emoji"):
                world.edit("prod", db, "INSERT INTO overview VALUES (?, ?, 1)", f"mine-{number}", "a test")
            runs = [world.start_b2m("sync", "--json", "--db", db, "--host", "prod-stop") for db in ("ipm", "emoji")]
            for run in runs:
                out, err = run.communicate(timeout=120)
                assert run.returncode == 0, (out[-3000:], err)


def test_the_guard_tries_again_if_the_server_does_not_come_back_at_once(copied: Copy) -> None:
    world = copied("behind")
    world.insert("prod", "mine")
    flag = world.root / "fails-once"
    text = (world.root / "inventory.yaml").read_text()
    connect = re.search(r'connect: "(.*--connect .*)"', text)
    assert connect is not None
    new = text.replace(connect[1], f"if [ -e {flag.name} ]; then rm {flag.name}; exit 1; fi; {connect[1]}")
    (world.root / "inventory.yaml").write_text(new)
    with world.serving():
        flag.touch()
        assert world.sync("prod", env={"B2M_FAULT": "switch:locked"}).code == -signal.SIGKILL
        assert world.serves_within(15)
        assert not flag.exists()


def test_undone_is_said_only_of_what_is_undone(copied: Copy) -> None:
    """A signal after the swap: the new file stays live, and the line says so."""
    world = copied("behind")
    world.insert("prod", "mine")
    with world.serving():
        process = world.start_b2m("sync", "--db", "ipm", "--host", "prod", env={"B2M_FAULT": "stop:after-task:6:hold"})
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 143, err
        assert world.status("prod")["anchor"]["version"] == 2
        assert "is undone" not in err, err


def test_discard_helps_when_the_anchor_is_damaged(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "to-be-saved")
    (anchor,) = (world.folder("ann") / ".b2m" / "ipm").glob("anchor-*.db")
    anchor.chmod(0o644)
    data = bytearray(anchor.read_bytes())
    data[5000] ^= 1
    anchor.write_bytes(data)
    plain = world.b2m("download", "--db", "ipm", "--host", "ann")
    assert plain.code == 8, plain
    assert "in no version" in plain.err, plain
    done = world.b2m("download", "--db", "ipm", "--host", "ann", "--discard")
    assert done.code == 0, done
    assert world.status("ann")["state"] == "up_to_date"
    (backup,) = (world.folder("ann") / ".b2m" / "ipm" / "backups").glob("*.db")
    assert "to-be-saved" in world.slugs(backup)


@pytest.mark.parametrize(
    ("command", "template"), [("sync", "team"), ("sync", "behind"), ("rollback", "behind")], ids=str
)
def test_nothing_is_compared_while_the_server_is_away(copied: Copy, command: str, template: str) -> None:
    world = copied(template)
    text = LOOKING.format(what="b2m.hosts.live_view.compare")
    with world.serving(), world.writing():
        if command == "rollback":
            assert world.sync("prod").code == 0
        arguments = [sys.executable, "-c", text, command, "--db", "ipm", "--host", "prod"]
        done = subprocess.run(arguments, cwd=world.root, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done
    assert "called" not in done.stderr, "whole versions were compared while the server was away"


def test_a_version_that_was_published_is_not_called_undone(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "published")
    publish = "      role: publish\n\n  outdated_db"
    after = "      role: publish\n    - shell: {run: exit 1, reason: a test}\n\n  outdated_db"
    world.change("playbooks/ipm.yaml", publish, after)
    done = world.b2m("sync", "--db", "ipm", "--host", "ann")
    assert done.code == 6, done
    assert "kept     v2 is published" in done.err
    assert "undone" not in done.err + done.out, "what only works in the run's own folder needs no undoing"
    assert world.head() == 2
    shown = world.b2m("runs", world.b2m("runs", "--host", "ann", "--json").json[0]["run"], "--host", "ann").out
    assert "kept      v2 is published" in shown


def test_a_counter_that_moved_without_rows_is_published_by_the_run_that_carries_it(copied: Copy) -> None:
    world = copied("team")
    world.edit("ann", "ipm", "CREATE TABLE note(id INTEGER PRIMARY KEY AUTOINCREMENT, text)")
    assert world.sync("ann").code == 0
    assert world.sync("ben").code == 0
    world.edit("ben", "ipm", "INSERT INTO note(id, text) VALUES (7, 'short-lived')")
    world.edit("ben", "ipm", "DELETE FROM note")
    world.insert("ann", "from-ann")
    assert world.sync("ann").code == 0
    before = world.head()
    done = world.sync("ben")
    assert done.code == 0, done
    assert done.recap["after"] == "up_to_date"
    assert world.head() == before + 1
    assert world.query(world.restored(), "SELECT name, seq FROM sqlite_sequence") == [("note", 7)]
    status = world.status("ben")
    assert (status["state"], status["dirty"]) == ("up_to_date", False)
