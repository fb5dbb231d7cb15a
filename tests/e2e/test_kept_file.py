"""The file that was live before the last swap: what is written to it, when it goes, who believes that it is live."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from b2m.demo.entries import slug_hash
from tests.e2e.conftest import Copy
from tests.e2e.test_full_disk import small_disk
from tests.support.world import ROOT, Done, World


def insert(path: Path, *slugs: str) -> None:
    """Write entries to a file of ipm, as a program does that opens it, writes and closes it."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(5000)
    with connection:
        connection.executemany(
            "INSERT INTO ipm_data(slug_hash, slug, category_hash, name, summary, keywords, readme, updated_at) "
            "SELECT ?1, ?2, (SELECT min(hash) FROM ipm_category), ?2, '', '[]', '', '2026-02-17T00:00:00.000000Z'",
            [(slug_hash(slug), slug) for slug in slugs],
        )
    connection.close()


def with_a_kept_file(world: World) -> Path:
    """Let ben swap ann's version in; return the file that it replaced, in which nothing was written."""
    kept = world.live("ben")
    assert world.sync("ben").code == 0
    assert kept.exists()
    assert kept != world.live("ben")
    return kept


def stopped_at(world: World, host: str, point: str) -> subprocess.Popen[str]:
    process = world.start_b2m("sync", "--json", "--db", "ipm", "--host", host, env={"B2M_FAULT": f"stop:{point}"})
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT) is not None
    return process


def patched(world: World, patch: str, *words: str) -> Done:
    """Run b2m with something changed in it."""
    program = f"{patch}\nfrom b2m.tasks.program import main\nsys.argv = ['b2m', *sys.argv[1:]]\nsys.exit(main())\n"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=world.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_rows_written_to_it_during_a_run_are_carried_over_by_the_next(copied: Copy) -> None:
    world = copied("behind")
    kept = with_a_kept_file(world)
    world.insert("ann", "more-from-ann")
    assert world.sync("ann").code == 0
    process = stopped_at(world, "ben", "after-task:1:download")
    insert(kept, "from-the-stray")
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 8
    assert '"reason": "kept_written"' in out
    assert world.sync("ben").code == 0
    assert {"from-the-stray", "more-from-ann"} <= world.slugs(world.live("ben"))
    assert world.status("ben")["state"] == "up_to_date"
    assert "from-the-stray" in world.slugs(world.restored())


def test_it_goes_once_another_file_is_kept(copied: Copy) -> None:
    world = copied("behind")
    kept = with_a_kept_file(world)
    second = world.live("ben")
    world.insert("ann", "more-from-ann")
    assert world.sync("ann").code == 0
    assert world.sync("ben").code == 0
    assert not kept.exists()
    assert second.exists()
    assert not list((world.folder("ben") / ".b2m" / "ipm" / "backups").glob("*"))


def test_a_db_toml_that_names_it_again_is_refused_and_reverses_nothing(copied: Copy) -> None:
    world = copied("behind")
    kept = with_a_kept_file(world)
    newer = world.live("ben").name
    toml = world.folder("ben") / "db.toml"
    mended = toml.read_text()
    toml.write_text(mended.replace(newer, kept.name))
    insert(kept, "written-meanwhile")
    before = world.head()
    for command in ("sync", "upload", "download", "rollback"):
        done = world.b2m(command, "--db", "ipm", "--host", "ben")
        assert done.code == 8, done
        assert f"{toml} names {kept.name}, which {newer} replaced on this host" in done.err, done
    assert world.status("ben")["reason"] == "replaced_live"
    assert world.head() == before
    toml.write_text(mended)
    assert world.sync("ben").code == 0
    assert {"written-meanwhile", "from-ann"} <= world.slugs(world.live("ben"))
    assert "from-ann" in world.slugs(world.restored())


def test_a_first_fetch_that_was_cut_off_begins_anew_though_db_toml_names_the_file_already(copied: Copy) -> None:
    world = copied("behind")
    folder = world.folder("carl")
    folder.mkdir(parents=True)
    carl = "      carl:\n        folder: carl/dbs\n        databases:\n          ipm: {}\n          emoji: {}\n"
    world.change("inventory.yaml", "      ben:\n", f"{carl}      ben:\n")
    (folder / "db.toml").write_text('[db]\nipmdb = "ipm-db-v2.db"\n')
    cut = world.sync("carl", env={"B2M_FAULT": "after-journal:switch"})
    assert cut.code == -signal.SIGKILL, cut
    done = world.sync("carl")
    assert done.code == 0, done
    assert "from-ann" in world.slugs(world.live("carl"))


def test_what_cannot_be_carried_over_is_named_and_set_aside_on_request(copied: Copy) -> None:
    world = copied("behind")
    kept = with_a_kept_file(world)
    connection = apsw.Connection(str(kept))
    connection.execute("ALTER TABLE ipm_data ADD COLUMN stray TEXT")
    connection.close()
    for command in ("sync", "upload", "rollback", "download"):
        done = world.b2m(command, "--db", "ipm", "--host", "ben")
        assert done.code == 8, done
        assert (
            f"{kept} was written to after another file replaced it, and its rows cannot be carried over: " in done.err
        )
    done = world.b2m("download", "--db", "ipm", "--host", "ben", "--discard")
    assert done.code == 0, done
    (aside,) = (world.folder("ben") / ".b2m" / "ipm" / "backups").glob(f"*{kept.name}")
    assert "stray" in [row[1] for row in world.query(aside, "PRAGMA table_info(ipm_data)")]
    assert world.sync("ben").code == 0
    assert world.status("ben")["state"] == "up_to_date"


DIES_BETWEEN = """
import os, signal, sys
from b2m.hosts import kept
kept.replace_file = lambda src, dst: os.kill(os.getpid(), signal.SIGKILL)
"""
DIES_BEFORE = """
import os, signal, sys
from b2m.hosts import kept
write = kept.write_json
def dies(path, data):
    write(path, data)
    if data.get("carrying") is not None:
        os.kill(os.getpid(), signal.SIGKILL)
kept.write_json = dies
"""

DIES_WHILE_COPYING = """
import os, signal, sys
from b2m.hosts import kept
def dies(source, target):
    target.write_bytes(b"SQLite format 3")
    os.kill(os.getpid(), signal.SIGKILL)
kept.snapshot = dies
"""
DIES_AFTERWARDS = """
import os, signal, sys
from b2m.hosts import kept
put = kept.replace_file
def dies(src, dst):
    put(src, dst)
    os.kill(os.getpid(), signal.SIGKILL)
kept.replace_file = dies
"""
DEATHS = {
    "while-copying": DIES_WHILE_COPYING,
    "before-the-commit": DIES_BEFORE,
    "after-the-commit": DIES_BETWEEN,
    "afterwards": DIES_AFTERWARDS,
}
COMMITTED = ("after-the-commit", "afterwards")


@pytest.mark.parametrize("death", DEATHS)
def test_a_run_that_dies_while_it_carries_rows_over_neither_loses_nor_repeats_them(copied: Copy, death: str) -> None:
    world = copied("behind")
    kept = with_a_kept_file(world)
    insert(kept, "stays", "is-deleted")
    cut = patched(world, DEATHS[death], "sync", "--db", "ipm", "--host", "ben")
    assert cut.code == -signal.SIGKILL, cut
    carried = "stays" in world.slugs(world.live("ben"))
    assert carried == (death in COMMITTED)
    if carried:
        world.edit("ben", "ipm", "DELETE FROM ipm_data WHERE slug = 'is-deleted'")
    done = world.sync("ben")
    assert done.code == 0, done
    for file in (world.live("ben"), world.restored()):
        assert {"stays", "is-deleted"} & world.slugs(file) == ({"stays"} if carried else {"stays", "is-deleted"})
    assert world.sync("ben").json[-1]["before"] == "up_to_date"


@pytest.mark.parametrize("death", DEATHS)
def test_more_rows_after_a_run_that_died_while_it_carried_some_over_come_too(copied: Copy, death: str) -> None:
    """They must neither pass for carried, nor bring back what became of those that were."""
    world = copied("behind")
    kept = with_a_kept_file(world)
    insert(kept, "first", "is-deleted")
    assert patched(world, DEATHS[death], "sync", "--db", "ipm", "--host", "ben").code == -signal.SIGKILL
    carried = "first" in world.slugs(world.live("ben"))
    assert carried == (death in COMMITTED)
    if carried:
        world.edit("ben", "ipm", "DELETE FROM ipm_data WHERE slug = 'is-deleted'")
    insert(kept, "later")
    done = world.b2m("sync", "--db", "ipm", "--host", "ben")
    assert done.code == 0, done
    wanted = {"first", "later"} if carried else {"first", "is-deleted", "later"}
    assert world.slugs(world.live("ben")) & {"first", "is-deleted", "later"} == wanted
    assert world.sync("ben").json[-1]["before"] == "up_to_date"


FAILS_TO_COMMIT = """
import sys
from b2m import errors
from b2m.hosts import kept
replay = kept.replay
def refused(db, base, ours, onto, rules, *, about_to, **options):
    def fails(already):
        about_to(already)
        raise errors.Unreadable(db=db, path=onto, what="is locked by another process")
    return replay(db, base, ours, onto, rules, about_to=fails, **options)
kept.replay = refused
"""


def test_rows_that_a_busy_live_file_refused_are_not_taken_for_carried_later(copied: Copy) -> None:
    world = copied("behind")
    kept = with_a_kept_file(world)
    insert(kept, "both", "only-here")
    assert patched(world, FAILS_TO_COMMIT, "sync", "--db", "ipm", "--host", "ben").code == 8
    insert(world.live("ben"), "both")
    assert world.sync("ben").code == 0
    assert {"both", "only-here"} <= world.slugs(world.live("ben"))


WRITES_WHILE = """
import os, subprocess, sys
from pathlib import Path
from b2m.hosts import kept
{function} = kept.{function}
def writes(*args, **options):
    done = {function}(*args, **options)
    if os.environ.pop("STRAY", ""):
        inserts = "import sys; from pathlib import Path; from tests.e2e.test_kept_file import insert; "
        inserts += "insert(Path(sys.argv[1]), 'at-this-moment')"
        subprocess.run([sys.executable, "-c", inserts, {path!r}], check=True)
    return done
kept.{function} = writes
"""


@pytest.mark.parametrize("function", ["snapshot", "replay", "fsync_file"])
def test_a_row_that_comes_while_others_are_carried_over_is_carried_over_next(copied: Copy, function: str) -> None:
    """What the file looks like must be noted before it is read: later, this row would belong to what was read."""
    world = copied("behind")
    kept = with_a_kept_file(world)
    insert(kept, "first")
    patch = WRITES_WHILE.format(function=function, path=str(kept))
    done = patched(world, f"import os\nos.environ['STRAY'] = 'yes'\n{patch}", "sync", "--db", "ipm", "--host", "ben")
    assert done.code == 0, done
    assert "at-this-moment" in world.slugs(kept)
    assert world.sync("ben").code == 0
    assert {"first", "at-this-moment"} <= world.slugs(world.live("ben"))
    assert {"first", "at-this-moment"} <= world.slugs(world.restored())


WAITS_FOR_THE_LOCK = """
import subprocess, sys
from b2m import faults
point, live = faults.point, {path!r}
def writes(name):
    if name == "switch:unlocked":
        inserts = "import sys; from pathlib import Path; from tests.e2e.test_kept_file import insert; "
        inserts += "insert(Path(sys.argv[1]), 'waited')"
        subprocess.run([sys.executable, "-c", inserts, live], check=True)
    point(name)
faults.point = writes
"""


def test_a_row_that_waited_for_the_lock_of_the_swap_is_carried_over(copied: Copy) -> None:
    world = copied("behind")
    kept = world.live("ben")
    done = patched(world, WAITS_FOR_THE_LOCK.format(path=str(kept)), "sync", "--db", "ipm", "--host", "ben")
    assert done.code == 0, done
    assert "waited" in world.slugs(kept)
    assert world.sync("ben").code == 0
    assert "waited" in world.slugs(world.live("ben"))


def test_what_a_link_to_another_disk_kept_is_set_aside_here(copied: Copy) -> None:
    world = copied("behind")
    live, store = world.live(), world.prod.parent / "store"
    store.mkdir()
    with small_disk(store, 64 << 20):
        shutil.move(live, store / live.name)
        live.symlink_to(f"../store/{live.name}")
        assert world.sync().code == 0
        kept = store / live.name
        connection = apsw.Connection(str(kept))
        connection.execute("ALTER TABLE ipm_data ADD COLUMN stray TEXT")
        connection.close()
        assert world.sync().code == 8
        assert world.b2m("download", "--db", "ipm", "--host", "prod", "--discard").code == 0
        assert not kept.exists()
        (aside,) = (world.prod / ".b2m" / "ipm" / "backups").glob(f"*{live.name}")
        assert "stray" in [row[1] for row in world.query(aside, "PRAGMA table_info(ipm_data)")]
        assert world.sync().code == 0


OTHERS_COME_IN_BETWEEN = """
import subprocess, sys
from b2m.hosts import switch
make = switch.make
old_file = []
def made(place, switch_):
    make(place, switch_)
    if switch_.how == "versioned":
        inserts = "import sys; from pathlib import Path; from tests.e2e.test_kept_file import insert; "
        inserts += "insert(Path(sys.argv[1]), 'to-the-new')"
        subprocess.run([sys.executable, "-c", inserts, switch_.new], check=True)
        waits = "import sys, time; file = open(sys.argv[1]); print('open', flush=True); time.sleep(3)"
        old_file.append(subprocess.Popen([sys.executable, "-c", waits, switch_.old], stdout=subprocess.PIPE))
        old_file[0].stdout.readline()
switch.make = made
"""


def test_rows_that_somebody_put_into_the_new_file_at_once_stay_there(copied: Copy) -> None:
    world = copied("behind")
    done = patched(world, OTHERS_COME_IN_BETWEEN, "sync", "--db", "ipm", "--host", "ben", "--json")
    assert done.code == 0, done
    assert {"to-the-new", "from-ann"} <= world.slugs(world.live("ben"))
    assert world.sync("ben").code == 0
    assert "to-the-new" in world.slugs(world.restored())
