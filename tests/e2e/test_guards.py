"""The guards of DESIGN.md, each against what would lose rows without it.

Every docstring says what is lost when the guard it names is taken away.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from b2m.demo.entries import slug_hash
from b2m.versions.commit import Commit, commit_name, new_token
from tests.e2e.conftest import Copy
from tests.support.rights import ORDINARY
from tests.support.settings import trials
from tests.support.unchanged import picture
from tests.support.world import Done, World

INSERT = (
    "INSERT INTO ipm_data(slug_hash, slug, category_hash, name, summary, keywords, readme, updated_at) SELECT {hash}, "
    "'{slug}', (SELECT min(hash) FROM ipm_category), 'n', '', '[]', '', '2026-02-17T00:00:00.000000Z'"
)

# A process of its own with the standard library's SQLite: opens the file, reads nothing, and obeys its standard input.
STRAY = """\
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute('PRAGMA busy_timeout')  # opens the file without reading from it
print('open', flush=True)
for line in sys.stdin:
    try:
        connection.execute(line)
        print('done', flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
"""


@contextmanager
def running(world: World, host: str = "prod", under: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """Sync a host meanwhile; whatever comes, the process is gone afterwards."""
    command = [*under, *world.command("sync", "--db", "ipm", "--host", host, "--json")]
    run = subprocess.Popen(command, cwd=world.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def finished(run: subprocess.Popen[str]) -> Done:
    """Wait for the end of a run."""
    out, err = run.communicate(timeout=60)
    return Done(run.returncode, out, err)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return when a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)


def health(world: World, command: str) -> str:
    """Give production's server another health probe; return the inventory as it was."""
    path = world.root / "inventory.yaml"
    text = path.read_text()
    path.write_text(re.sub(r'command: ".*"', lambda found: f'command: "{command}"', text, count=1))
    return text


class Stray:
    """A connection to a file that b2m knows nothing of."""

    def __init__(self, path: Path) -> None:
        words = [sys.executable, "-c", STRAY, str(path)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._answer() == "open"

    def insert(self, slug: str) -> str:
        """Insert an entry; return "done", or why SQLite refused."""
        assert self.process.stdin is not None
        self.process.stdin.write(INSERT.format(hash=slug_hash(slug), slug=slug) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Stray:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def reason_of(done: Done) -> str | None:
    """Return the reason of the refusal among the JSON lines."""
    return next((line["reason"] for line in done.json if line["type"] == "error"), None)


def error_of(done: Done) -> str:
    return str(next(line["text"] for line in done.json if line["type"] == "error"))


# b2m without its check of the files: a value that only a run knows gets past that, and the modules must hold alone.
UNCHECKED = """\
import sys
from b2m import api
from b2m.tasks.program import main
checked = api.project
api.project = lambda folder=None, **_: checked(folder)
sys.argv[0] = "b2m"
main()
"""


def unchecked(world: World, host: str = "prod") -> Done:
    command = [sys.executable, "-c", UNCHECKED, "sync", "--db", "ipm", "--host", host, "--json"]
    done = subprocess.run(command, cwd=world.root, capture_output=True, text=True, timeout=120, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def warnings_of(done: Done) -> list[str]:
    return [line["text"] for line in done.json if line["type"] == "warning"]


def playbook(world: World, old: str, new: str) -> None:
    """Change a text that stands once in the playbook of ipm."""
    path = world.root / "playbooks" / "ipm.yaml"
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def converges(world: World, slugs: set[str], host: str = "prod") -> None:
    """The next run ends well, and these entries are live and in the newest version, once each."""
    for _ in range(2):
        done = world.sync(host)
        assert done.code == 0, done
    assert slugs <= world.slugs(world.live(host))
    assert slugs <= world.slugs(world.restored())


@contextmanager
def outdated(copied: Copy, served: bool = True) -> Iterator[World]:
    """A served production host on v1 with a row of its own, while the bucket has v2."""
    world = copied("behind")
    with world.serving():
        assert world.post("from-the-server") in (200, 201, 202)
        yield world


# -- nobody else has the file open ---------------------------------------------------------------------------------


def test_a_connection_that_was_opened_and_not_read_yet_is_found(copied: Copy) -> None:
    """Without ``who_has_open`` the swap goes through, and what the stray writes then lands in the replaced file."""
    with outdated(copied) as world:
        with Stray(world.live()) as stray:
            done = world.sync()
            assert (done.code, reason_of(done)) == (8, "still_open"), done
            assert f"process {stray.process.pid} " in error_of(done)
            assert world.serves_within(5)
            assert world.live().name == "ipm-db-v1.db"
            assert stray.insert("from-the-stray") == "done"
            assert world.post("after-the-refusal") in (200, 201, 202)
        converges(world, {"from-the-server", "from-ann", "from-the-stray", "after-the-refusal"})


@pytest.mark.skipif(not ORDINARY, reason="only root has processes that an ordinary user cannot look into")
@pytest.mark.parametrize("when", ["before the run ends", "after the run"])
def test_rows_of_a_connection_that_nobody_can_see_are_brought_home(when: str, copied: Copy) -> None:
    """A connection of a process that b2m may not look into outlives the swap: without the check of the kept file its

    rows stay in a file that nobody reads any more.
    """
    with outdated(copied) as world:
        with Stray(world.live()) as stray:
            if when == "before the run ends":
                # After the swap the probe waits until the stray wrote: the run then goes on, publishes and looks again.
                there, written = world.root / "there", world.root / "written"
                probe = "grep -q ipm-db-v1.db prod/dbs/db.toml && exit 0; "
                probe += (
                    f"touch '{there}'; for i in $(seq 40); do test -e '{written}' && exit 0; sleep 0.1; done; false"
                )
                health(world, probe)
                with running(world, under=ORDINARY) as run:
                    wait_for(there.exists)
                    assert stray.insert("from-the-stray") == "done"
                    written.touch()
                    done = finished(run)
            else:
                ordinary = world.b2m("sync", "--db", "ipm", "--host", "prod", "--json", under=ORDINARY)
                assert ordinary.code == 0, ordinary
                assert stray.insert("from-the-stray") == "done"
                done = world.sync()
            assert done.code == 0, done
            said = warnings_of(done)
            assert any("1 rows were written to" in text and "ipm-db-v1.db" in text for text in said), done
        converges(world, {"from-the-server", "from-ann", "from-the-stray"})


def test_rows_written_to_the_replaced_file_are_brought_home(copied: Copy) -> None:
    """A program that still uses the old name: without the check of the kept file its rows are in no version ever."""
    with outdated(copied) as world:
        old = world.live()
        assert world.sync().code == 0
        assert world.live() != old
        with Stray(old) as stray:
            assert stray.insert("to-the-old-name") == "done"
        assert "1 rows written to the replaced file" in world.b2m("status", "--db", "ipm", "--host", "prod").out
        done = world.sync()
        assert any("1 rows were written to" in text for text in warnings_of(done)), done
        converges(world, {"from-the-server", "from-ann", "to-the-old-name"})


def test_a_stale_wal_beside_the_new_file_is_not_played_into_it(copied: Copy) -> None:
    """Without the look for a log of that name, SQLite plays the stale one back into the new file: rows turn old."""
    with outdated(copied) as world:
        new = world.prod / "ipm-db-v3.db"
        make_log_of(world.live(), new)
        done = world.sync()
        assert (done.code, reason_of(done)) == (8, "in_the_way"), done
        assert world.serves_within(5)
        assert world.live().name == "ipm-db-v1.db"
        Path(f"{new}-wal").unlink()
        converges(world, {"from-the-server", "from-ann"})


def make_log_of(source: Path, name: Path) -> None:
    """Leave a -wal for a file ``name`` that does not exist: the log of an older copy of it, whole and valid."""
    program = (
        "import os, signal, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA journal_mode = WAL'); "
        "c.execute('DELETE FROM ipm_data'); c.commit(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    copy = name.with_name("copy.db")
    shutil.copy(source, copy)
    subprocess.run([sys.executable, "-c", program, str(copy)], check=False)
    Path(f"{copy}-wal").rename(f"{name}-wal")
    Path(f"{copy}-shm").unlink()
    copy.unlink()


# -- what the YAML cannot leave out --------------------------------------------------------------------------------

LATE = """\
        - name: Take the late rows
          replay: {from: live, onto: candidate}
"""
CATCH_UP = """\
    - name: Catch up
      replay: {from: live, since: ours, onto: candidate}
"""
REPLAY = """\
    - name: Replay the server's rows
      replay: {from: ours, onto: candidate}
"""
CHECKS = "checks: [integrity, foreign_keys, rows]"


def test_a_playbook_that_does_not_take_the_late_rows_is_refused(copied: Copy) -> None:
    """Without the comparison of live's identity, every row that came after the last replay is gone with the swap."""
    with outdated(copied) as world:
        original = (world.root / "playbooks" / "ipm.yaml").read_text()
        playbook(world, LATE, "")
        playbook(world, CATCH_UP, "")
        # Rows come in while the candidate is verified and the server is still there: a writer that never pauses.
        assert world.sync().code == 3
        with world.writing(pause=0.0) as shadow:
            done = unchecked(world)
        assert (done.code, reason_of(done)) == (8, "live_changed"), done
        assert world.serves_within(5)
        assert world.live().name == "ipm-db-v1.db"
        (world.root / "playbooks" / "ipm.yaml").write_text(original)
        converges(world, {"from-the-server", "from-ann", *world.acknowledged(shadow)})


@pytest.mark.parametrize(
    ("without", "reason", "line"),
    [
        (
            [REPLAY],
            "not_replayed",
            "ipm: candidate lacks the rows of the snapshot ours; add a replay from it, before the replay from live",
        ),
        (
            [REPLAY, CATCH_UP, LATE],
            "live_changed",
            "ipm: {live} was written after the last replay; add a replay from live inside the hold, before the swap",
        ),
    ],
)
def test_a_playbook_that_does_not_replay_the_snapshot_is_refused(
    without: list[str], reason: str, line: str, copied: Copy
) -> None:
    """Without the chain from snapshot to swap, a candidate that has only the late rows goes live without ours."""
    with outdated(copied) as world:
        original = (world.root / "playbooks" / "ipm.yaml").read_text()
        for text in without:
            playbook(world, text, "")
        done = unchecked(world)
        assert (done.code, reason_of(done)) == (8, reason), done
        assert error_of(done) == line.format(live=world.live())
        assert world.serves_within(5)
        (world.root / "playbooks" / "ipm.yaml").write_text(original)
        converges(world, {"from-the-server", "from-ann"})


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (CATCH_UP, CATCH_UP.replace("since: ours", "since: candidate"), "candidate"),
        (REPLAY, REPLAY.replace("from: ours", "from: head"), "head"),
    ],
)
def test_a_replay_from_a_file_that_is_no_snapshot_is_a_plain_failure(
    old: str, new: str, name: str, copied: Copy
) -> None:
    with outdated(copied, served=False) as world:
        playbook(world, old, new)
        done = unchecked(world)
        assert done.code == 6, done
        assert error_of(done).endswith(f"{name} is no snapshot of live; there are: ours"), done
        playbook(world, new, old)
        converges(world, {"from-the-server", "from-ann"})


def test_the_rows_that_a_replay_since_a_second_snapshot_took_are_kept_with_the_old_file(copied: Copy) -> None:
    """Without them in the base of the kept file, they would look like rows that somebody wrote to it since."""
    world = copied("behind")
    world.insert("ben", "mine")
    playbook(world, CATCH_UP, "    - snapshot: {as: later}\n")
    playbook(world, LATE, LATE.replace("from: live", "from: live, since: later"))
    assert world.b2m("check").code == 0
    process = world.start_b2m("sync", "--db", "ipm", "--host", "ben", env={"B2M_FAULT": "stop:before-task:6:hold"})
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT) is not None
    world.insert("ben", "late")
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 0, process.communicate()
    assert {"mine", "late"} <= world.slugs(world.restored())
    (base,) = (world.root / "ben").rglob("*.base.db")
    assert {"mine", "late"} <= world.slugs(base)


@pytest.mark.parametrize("checks", ["[integrity, foreign_keys]", "[rows]", "[foreign_keys, rows]"])
def test_a_candidate_that_was_not_verified_in_full_does_not_go_live(checks: str, copied: Copy) -> None:
    """Without it, ``checks: [integrity]`` in a playbook lets a candidate go live that may lack rows of either side."""
    with outdated(copied) as world:
        original = (world.root / "playbooks" / "ipm.yaml").read_text()
        playbook(world, CHECKS, f"checks: {checks}")
        assert world.sync().code == 3
        done = unchecked(world)
        assert (done.code, reason_of(done)) == (8, "not_verified"), done
        lacks = ", ".join(sorted({"integrity", "foreign_keys", "rows"} - set(checks.strip("[]").split(", "))))
        assert error_of(done) == (
            f"ipm: candidate was not verified in full, {lacks} is missing; "
            "add it to the checks of a verify before this task"
        )
        assert world.serves_within(5)
        (world.root / "playbooks" / "ipm.yaml").write_text(original)
        converges(world, {"from-the-server", "from-ann"})


def test_a_candidate_that_changed_after_it_was_verified_does_not_go_live(copied: Copy) -> None:
    """Without forgetting the verdict, a candidate that was downloaded anew, without our rows, counts as verified."""
    with outdated(copied) as world:
        original = (world.root / "playbooks" / "ipm.yaml").read_text()
        again = "    - name: Once more\n      download: {version: head, as: candidate}\n"
        playbook(world, CATCH_UP + "    - name: Swap", again + "    - name: Swap")
        assert world.sync().code == 3
        done = unchecked(world)
        assert done.code == 8, done
        assert reason_of(done) in ("not_replayed", "not_verified")
        assert world.serves_within(5)
        (world.root / "playbooks" / "ipm.yaml").write_text(original)
        converges(world, {"from-the-server", "from-ann"})


def test_a_file_that_was_not_verified_is_not_published(copied: Copy) -> None:
    """Without it a damaged snapshot becomes everybody's next version."""
    world = copied("team")
    world.insert("ann", "one more")
    path = world.root / "roles" / "publish" / "role.yaml"
    text = path.read_text()
    path.write_text(re.sub(r"verify: \{file: ours, .*\}", "verify: {file: ours, checks: [rows]}", text))
    assert world.sync("ann").code == 3
    done = unchecked(world, "ann")
    assert (done.code, reason_of(done)) == (8, "not_verified"), done
    assert world.head() == 1


def test_a_file_that_does_not_start_from_the_head_is_not_published(copied: Copy) -> None:
    """Without the comparison of anchor and head, v3 lacks what v2 brought: somebody else's version is overwritten."""
    with outdated(copied) as world:
        path = world.root / "playbooks" / "ipm.yaml"
        text = path.read_text()
        start, end = text.index("  outdated_db:\n"), text.index("on_refused:")
        path.write_text(text[:start] + "  outdated_db:\n    - role: publish\n\n" + text[end:])
        done = world.sync()
        assert (done.code, reason_of(done)) == (8, "not_on_head"), done
        assert world.head() == 2
        path.write_text(text)
        converges(world, {"from-the-server", "from-ann"})


# -- the bucket ----------------------------------------------------------------------------------------------------


def elsewhere(world: World) -> Path:
    return world.root / "elsewhere"


@pytest.mark.parametrize("bucket", ["gone", "empty", "another"])
def test_a_bucket_that_is_not_mounted_is_neither_believed_nor_made_anew(bucket: str, copied: Copy) -> None:
    """Without marker and id, an empty mount point looks like a database without versions: the next run publishes v1

    there, and two histories exist.
    """
    world = copied("team")
    world.insert("ann", "one more")
    mount = world.root / "bucket"
    mount.rename(elsewhere(world))
    if bucket == "empty":
        mount.mkdir()
    elif bucket == "another":
        assert world.b2m("bucket.init").code == 0
    before = picture(world.root)
    for words in (["sync"], ["upload"], ["download"], ["status"], ["adopt"]):
        done = world.b2m(*words, "--db", "ipm", "--host", "ann", "--json")
        assert done.code == 8, (words, done)
        if words[0] != "adopt":
            assert "bucket_lost" in done.out
        assert picture(world.root) == before, words
    if mount.exists():
        shutil.rmtree(mount)
    elsewhere(world).rename(mount)
    converges(world, {"one more"}, "ann")


def test_a_commit_whose_parent_is_no_longer_the_head_is_not_created(copied: Copy) -> None:
    """Somebody publishes between our look and our commit, as if there were no lease: without the check of the parent

    one of the two versions would not contain the other's rows.
    """
    with outdated(copied) as world:
        name = commit_name("ipm", 2)
        head = Commit.from_bytes(world.bucket.get(name), bucket="", name=name)
        theirs = head.model_copy(update={"number": 3, "parent": 2, "parent_token": head.token, "token": new_token()})
        staged = world.root / "theirs.json"
        staged.write_bytes(theirs.to_bytes())
        # The server's health probe, after the swap and before our commit, is when the other one publishes.
        target = world.root / "bucket" / commit_name("ipm", 3)
        health(world, f"cp '{staged}' '{target}'")
        done = world.sync()
        assert done.code == 9, done
        assert "the head is v3, v3 was made from v2" in error_of(done) or "published by" in error_of(done)
        assert world.head() == 3
        assert world.bucket.get(commit_name("ipm", 3)) == staged.read_bytes()
        assert world.serves_within(5)
        assert {"from-the-server", "from-ann"} <= world.slugs(world.live())


@pytest.mark.parametrize("at", ["disconnect", "connect"])
def test_a_run_that_slept_longer_than_its_lease_stops_before_it_changes_anything(at: str, copied: Copy) -> None:
    """Stopped in the hold before the swap, or after it before publishing, while ben takes over and publishes: without

    asking the lease again it would go on with what is history by now.
    """
    with outdated(copied) as world:
        world.insert("ben", "from-ben")
        for path in (world.root / "playbooks").glob("ipm.yaml"):
            path.write_text(path.read_text().replace("  max_downtime: 5s", "  max_downtime: 60s\n  lease_ttl: 2s"))
        path = world.root / "inventory.yaml"
        text = path.read_text()
        marker = world.root / "asleep"
        sleep = f"test -e '{marker}' || {{ touch '{marker}'; kill -STOP $PPID; }}"
        path.write_text(re.sub(rf'(\b{at}: ".*?)"\n', rf'\1 && {{ {sleep}; }}"\n', text, count=1))
        with running(world) as run:
            wait_for(lambda: stopped(run.pid))
            taken = world.sync("ben", "ipm", "--wait", "60s")
            assert taken.code == 0, taken
            os.kill(run.pid, signal.SIGCONT)
            done = finished(run)
        assert done.code == 9, done
        assert "the lease on ipm was lost" in error_of(done)
        assert world.serves_within(5)
        assert world.live().name == ("ipm-db-v1.db" if at == "disconnect" else "ipm-db-v3.db")
        assert world.head() == 3, "only ben published"
        if at == "disconnect":
            path.write_text(text)
            converges(world, {"from-the-server", "from-ann", "from-ben"})


def stopped(pid: int) -> bool:
    """Tell whether a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


# -- mass deletions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["the tables are empty", "there are other tables"])
@pytest.mark.parametrize("template", ["team", "behind"])
def test_a_server_that_opened_a_wrong_name_does_not_delete_everybodys_rows(
    template: str, how: str, copied: Copy
) -> None:
    """db.toml names a file that the server just made: without the limit, all rows are deleted in the next version."""
    world = copied(template)
    fresh = world.prod / "ipm-db-v1a.db"
    schema = world.query(world.live(), "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    statements = [sql for (sql,) in schema] if how == "the tables are empty" else ["CREATE TABLE other(a PRIMARY KEY)"]
    program = "import json, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); [c.execute(s) for s in sys.argv[2:]]"
    subprocess.run([sys.executable, "-c", program, str(fresh), *statements], check=True)
    toml = world.prod / "db.toml"
    right = toml.read_text()
    toml.write_text(right.replace("ipm-db-v1.db", fresh.name))
    versions = world.head()
    # A server that finds none of its tables does not even start.
    with world.serving() if how == "the tables are empty" else nullcontext():
        for command in ("sync", "upload"):
            done = world.b2m(command, "--db", "ipm", "--host", "prod", "--json")
            assert done.code == 8, done
            expected = {"mass_deletion"} if template == "team" else {"mass_deletion", "cannot_replay", "not_on_head"}
            assert reason_of(done) in expected, done
    assert world.head() == versions
    toml.write_text(right)
    with world.serving():
        assert world.sync().code == 0


def test_a_deletion_that_the_policy_allows_is_published(copied: Copy) -> None:
    world = copied("team")
    playbook(world, "  max_downtime: 5s", "  max_downtime: 5s\n  max_deletes: {rows: 100000, share: 1.0}")
    world.edit("ann", "ipm", "DELETE FROM ipm_data")
    done = world.sync("ann")
    assert done.code == 0, done
    assert done.recap["rows"]["deleted"] > 100


def test_deletions_that_a_swap_took_over_hinder_no_rollback(copied: Copy) -> None:
    """The limit was raised for once, and taken back: what the swap accepted is not judged again."""
    world = copied("behind")
    kept = world.live()
    playbook(world, "  max_downtime: 5s", "  max_downtime: 5s\n  max_deletes: {rows: 100000, share: 1.0}")
    world.edit("prod", "ipm", "DELETE FROM ipm_data WHERE slug_hash % 2")
    with world.serving():
        done = world.sync()
        assert done.code == 0, done
        playbook(world, "\n  max_deletes: {rows: 100000, share: 1.0}", "")
        assert world.post("after-the-swap") == 201
        done = world.b2m("rollback", "--db", "ipm", "--host", "prod")
        assert done.code == 0, done
        assert world.serves_within(5)
    assert world.live() == kept
    assert "after-the-swap" in world.slugs(kept)


# -- the anchor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["team", "behind"])
def test_a_rotten_anchor_is_found_before_it_decides_anything(template: str, copied: Copy) -> None:
    """Without its hash, a row that rotted in the anchor looks like one that the server changed, and wins."""
    world = copied(template)
    world.insert("ben", "from-ben")
    anchor = next((world.folder("ben") / ".b2m" / "ipm").glob("anchor-*.db"))
    data = bytearray(anchor.read_bytes())
    spot = data.rindex(b"awkward-")
    data[spot] ^= 1
    anchor.chmod(0o644)
    anchor.write_bytes(data)
    for command in ("sync", "status", "diff"):
        done = world.b2m(command, "--db", "ipm", "--host", "ben")
        assert (command, done.code) == (command, 8), done
        assert done.err.splitlines()[-1] == (
            f"b2m: ipm: the anchor {anchor} is not what it was when it was written; fetch it anew with: "
            "b2m adopt --db ipm --host ben"
        )
    adopted = world.b2m("adopt", "--db", "ipm", "--host", "ben")
    assert adopted.code == 0, adopted
    converges(world, {"from-ben"}, "ben")


# -- db.toml -------------------------------------------------------------------------------------------------------


def test_a_run_waits_while_another_database_s_run_writes_db_toml(copied: Copy) -> None:
    """We are the other run, between reading db.toml and replacing it: without the lock, ipm's new entry, made in

    between, is lost, and the server goes on with a name that is no file any more.
    """
    world = copied("team")
    world.insert("ann", "one more")
    toml = world.folder("ann") / "db.toml"
    with running(world, "ann") as run:
        with (world.folder("ann") / ".b2m" / "db.toml.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text = toml.read_text()
            assert run.stdout is not None
            for line in run.stdout:
                event = json.loads(line)
                if event.get("module") == "rename":
                    break
            time.sleep(2)  # without the lock, ipm's entry is written by now
            toml.write_text(text.replace("emoji-db-v1.db", "emoji-db-v2.db"))
        done = finished(run)
    assert done.code == 0, done
    assert tomllib.loads(toml.read_text())["db"] == {"ipmdb": "ipm-db-v2.db", "emojidb": "emoji-db-v2.db"}
    assert world.live("ann").exists()


def test_runs_of_two_databases_never_lose_each_others_entry_in_db_toml(copied: Copy) -> None:
    """Without its lock, one run writes db.toml back as it read it before the other's switch: a server then opens a

    replaced file.
    """
    world = copied("team")
    for number in range(trials(4, 40)):
        world.insert("ann", f"round {number}")
        code = "UPDATE emoji SET name = name || ? WHERE code = (SELECT min(code) FROM emoji)"
        world.edit("ann", "emoji", code, str(number))
        runs = [world.start_b2m("sync", "--db", db, "--host", "ann") for db in ("ipm", "emoji")]
        for run in runs:
            _, err = run.communicate(timeout=60)
            assert run.returncode == 0, err
        assert world.live("ann", "ipm").name == f"ipm-db-v{number + 2}.db"
        assert world.live("ann", "emoji").name == f"emoji-db-v{number + 2}.db"
        assert world.live("ann", "ipm").exists()
        assert world.live("ann", "emoji").exists()
    converges(world, {"round 0"}, "ann")


# -- health --------------------------------------------------------------------------------------------------------


def test_rows_that_an_unhealthy_server_accepted_survive_the_way_back(copied: Copy) -> None:
    """The new file is live, the server takes rows and says that it is ill: without carrying them over, putting the

    old file back loses what was acknowledged meanwhile.
    """
    with outdated(copied) as world, world.writing() as shadow:
        path = world.root / "inventory.yaml"
        text = health(world, "grep -q ipm-db-v1.db prod/dbs/db.toml")
        path.write_text(path.read_text().replace("start_timeout: 10s", "start_timeout: 2s"))
        before = len(world.acknowledged(shadow))
        done = world.sync()
        assert done.code == 6, done
        assert world.live().name == "ipm-db-v1.db"
        assert world.serves_within(5)
        assert len(world.acknowledged(shadow)) > before
        path.write_text(text)
    with world.serving():
        converges(world, {"from-the-server", "from-ann", *world.acknowledged(shadow)})
