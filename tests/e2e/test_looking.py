"""Tasks that look, or fetch what a start needs: the table, monitors, rehearsals, runs, ensure, fetch-db-toml."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from b2m import records
from b2m.hosts.place import Place
from tests.e2e.conftest import Copy
from tests.e2e.test_refusals import both_changed_a_row, rewrite
from tests.support.commands import ended, started, state_of, wait_for
from tests.support.proof import assert_in_step
from tests.support.settings import slowness
from tests.support.unchanged import picture
from tests.support.world import World

ESCAPE = "\x1b["


def on_terminal(world: World, *args: str, env: Mapping[str, str]) -> str:
    """Run b2m with a terminal for its output, and return what it shows."""
    ours, theirs = pty.openpty()
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        world.command(*args), cwd=world.root, stdout=theirs, stderr=theirs, env={**clean, "TERM": "xterm", **env}
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # how Linux says that the other end is closed
    finally:
        os.close(ours)
        process.wait(60)
    return shown.decode()


# -- status ------------------------------------------------------------------------------------------------------


def test_several_databases_are_a_table_and_one_is_a_line(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "more")
    lines = world.b2m("status", "--host", "ben").out.splitlines()
    starts = [lines[0].index(title) for title in ("DATABASE", "HOST", "STATE", "LIVE", "BUCKET", "LAST SYNC")]
    cells = [
        [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)] for line in lines[1:]
    ]
    assert [row[:5] for row in cells] == [
        ["emoji", "ben", "up_to_date", "v1", "v1"],
        ["ipm", "ben", "outdated_db", "v1*", "v2"],
    ]
    assert cells[1][5].endswith("rows +1 ~0 -0")
    assert all(line[start - 1] == " " for line in lines for start in starts[1:])
    one = world.b2m("status", "--db", "ipm", "--host", "ben").out
    assert one == "ipm@ben  outdated_db  live ipm-db-v1.db v1*  bucket v2  rows +1 ~0 -0\n"


@pytest.mark.parametrize("columns", [60, 40, 20])
def test_a_narrow_terminal_gets_what_fits(columns: int, copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "more")
    why = "the categories of spring are loaded by hand"
    assert world.b2m("pause", "ipm", "--for", "1h", "--reason", why).code == 0
    done = world.b2m("status", "--host", "ann", env={"COLUMNS": str(columns)})
    lines = done.out.splitlines()
    table = [line for line in lines if not line.startswith("    ")]
    assert [line.split()[0] for line in table] == ["DATABASE", "emoji", "ipm"]
    assert "STATE" in table[0]
    assert ("up_to_date" in table[1], "ready_to_upload" in table[2]) == (True, True)
    if columns == 60:
        assert max(map(len, lines)) <= 60
        assert "LAST SYNC" in table[0]
    assert why in " ".join(" ".join(line.split()) for line in lines)


def test_colours_are_for_terminals_that_want_them(copied: Copy) -> None:
    world = copied("team")
    status = ("status", "--host", "ann")
    assert ESCAPE in on_terminal(world, *status, env={})
    assert ESCAPE not in on_terminal(world, *status, env={"NO_COLOR": "1"})
    assert ESCAPE not in on_terminal(world, *status, env={"TERM": "dumb"})
    assert ESCAPE not in world.b2m(*status).out


def test_a_refused_database_is_in_the_table_and_explained_below(copied: Copy) -> None:
    world = copied("team")
    world.live("ann", "emoji").unlink()
    done = world.b2m("status", "--host", "ann")
    assert done.code == 8
    assert "refused (live_missing)" in done.out
    assert "up_to_date" in done.out
    assert done.err.startswith("b2m: emoji: ")


# -- monitors ----------------------------------------------------------------------------------------------------


def age_records(world: World, host: str, hours: float) -> None:
    """Make the runs of a host that much older."""
    for path in (world.folder(host) / ".b2m" / "ipm" / "runs").glob("*.json"):
        old = path.stem
        began = records.began(old) - timedelta(hours=hours)
        new = f"{began:%Y%m%dT%H%M%SZ}-{old.partition('-')[2]}"
        path.with_name(f"{new}.json").write_text(path.read_text().replace(old, new))
        path.unlink()


def test_a_monitor_hears_of_a_host_that_was_not_synced_for_too_long(copied: Copy) -> None:
    world = copied("team")
    check = ("status", "--db", "ipm", "--host", "ann", "--max-age", "26h")
    assert world.b2m(*check).code == 0
    age_records(world, "ann", 25)
    assert world.b2m(*check).code == 0
    age_records(world, "ann", 2)
    done = world.b2m(*check)
    assert done.code == 8
    assert done.err == (
        "b2m: ipm: the last successful sync here was 27h ago, and --max-age allows 26h; see why with: "
        "b2m doctor --db ipm --host ann\n"
    )
    told = world.b2m(*check, "--json").json
    assert [line["type"] for line in told] == ["status", "error"]
    assert told[1]["reason"] == "too_old"
    assert world.sync("ann").code == 0
    assert world.b2m(*check).code == 0


def test_where_no_run_is_remembered_the_age_of_the_newest_version_counts(copied: Copy) -> None:
    world = copied("team")
    for path in (world.folder("ann") / ".b2m" / "ipm" / "runs").glob("*.json"):
        path.unlink()
    check = ("status", "--db", "ipm", "--host", "ann", "--max-age", "1h")
    assert world.b2m(*check).code == 0
    rewrite(world, 1, time=(datetime.now(UTC) - timedelta(hours=2)).isoformat(timespec="seconds"))
    done = world.b2m(*check)
    assert done.code == 8
    assert "no sync is remembered here, and v1 was published 2h ago" in done.err


def test_however_long_it_fails_the_last_success_is_remembered(tmp_path: Path) -> None:
    place = Place("ipm", "ann", tmp_path, "ipm-db-v{version}.db", "ipmdb", "versioned")
    place.state.mkdir(parents=True)

    def save(minute: int, code: int) -> None:
        run = f"20260217T{minute // 60:02}{minute % 60:02}00Z-beef"
        fields = {"db": "ipm", "host": "ann", "before": "outdated_db", "after": "failed", "from_version": 1}
        more = {"to_version": 1, "rows": {}, "downtime_ms": 0, "holds": 0, "total_ms": 1, "exit_code": code}
        records.save(place, run, {"format": 1, "run": run, "command": "sync", **fields, **more})

    save(0, 0)
    save(1, 0)
    for minute in range(2, 150):
        save(minute, 9)
    success = records.last_sync(place)
    assert success is not None
    assert success.began.minute == 1
    assert len(list(records.newest_first(place))) == records.KEEP + 1


def from_the_future(place: Place, count: int, exit_code: int) -> None:
    """Leave what runs leave on a machine whose clock is years ahead."""
    (place.state / "runs").mkdir(exist_ok=True)
    ahead = datetime.now(UTC).year + 4
    for number in range(count):
        run = f"{ahead}0217T{number // 60:02}{number % 60:02}00Z-beef"
        fields = {"db": place.db, "host": place.host, "before": "up_to_date", "after": "up_to_date", "from_version": 1}
        more = {"to_version": 1, "rows": {}, "downtime_ms": 0, "holds": 0, "total_ms": 1, "exit_code": exit_code}
        record = {"format": 1, "run": run, "command": "sync", "started": run, **fields, **more}
        (place.state / "runs" / f"{run}.json").write_text(json.dumps(record))


def test_records_from_the_future_do_not_push_out_what_comes_now(copied: Copy) -> None:
    world = copied("team")
    place = Place("ipm", "ann", world.folder("ann"), "ipm-db-v{version}.db", "ipmdb", "versioned")
    from_the_future(place, records.KEEP, 0)
    done = world.sync("ann")
    assert done.code == 0, done
    runs = {path.stem for path in (place.state / "runs").iterdir()}
    assert done.recap["run"] in runs
    assert len(runs) == records.KEEP
    last = records.last_sync(place)
    assert last is not None
    assert last.run == done.recap["run"], "what ran in the future says nothing about now"
    for _ in range(2):
        assert world.sync("ann").code == 0
    runs = {path.stem for path in (place.state / "runs").iterdir()}
    assert len([run for run in runs if records.began(run) < datetime.now(UTC)]) == 4, "no run of now was forgotten"
    assert len(runs) == records.KEEP


def test_a_monitor_is_not_calmed_by_records_from_the_future(copied: Copy) -> None:
    world = copied("team")
    place = Place("ipm", "ann", world.folder("ann"), "ipm-db-v{version}.db", "ipmdb", "versioned")
    age_records(world, "ann", 30)
    from_the_future(place, records.KEEP, 0)
    done = world.b2m("status", "--db", "ipm", "--host", "ann", "--max-age", "26h")
    assert done.code == 8, done
    assert "the last successful sync here was 30h ago, and --max-age allows 26h" in done.err, done


# -- rehearsals --------------------------------------------------------------------------------------------------

REHEARSE = ("plan", "--rehearse", "--db", "ipm", "--json")


def rehearsed(world: World, host: str, code: int, db: str = "ipm") -> dict[str, object]:
    before = picture(world.root)
    done = world.b2m("plan", "--rehearse", "--db", db, "--host", host, "--json")
    assert done.code == code, done
    assert picture(world.root) == before
    (found,) = [line for line in done.json if line["type"] == "rehearsal"]
    return found


def test_a_rehearsal_says_what_the_run_then_does(copied: Copy) -> None:
    world = copied("behind")
    with world.serving():
        for number in range(3):
            world.post(f"rehearsed-{number}")
        found = rehearsed(world, "prod", 10)
        assert (found["state"], found["work"], found["conflicts"]) == ("outdated_db", True, [])
        assert found["holds"] == 1
        recap = world.sync().recap
        assert found["rows"] == recap["rows"]
        # Beside the pack go its commit and the lease.
        upload = found["upload_bytes"]
        assert isinstance(upload, int)
        assert upload <= recap["bytes_up"] <= upload + 10_000
        assert_in_step(world)


def test_a_rehearsal_of_a_mere_upload_holds_nobody(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "new")
    found = rehearsed(world, "ann", 10)
    assert (found["state"], found["holds"], found["downtime"]) == ("ready_to_upload", 0, None)
    recap = world.sync("ann").recap
    assert found["rows"] == recap["rows"] == {"inserted": 1, "updated": 0, "deleted": 0}


def test_a_rehearsal_with_nothing_to_do(copied: Copy) -> None:
    found = rehearsed(copied("team"), "ann", 0)
    assert (found["work"], found["upload_bytes"]) == (False, None)


def test_a_rehearsal_lists_conflicts(copied: Copy) -> None:
    world = copied("team")
    both_changed_a_row(world)
    found = rehearsed(world, "ann", 8, "emoji")
    assert found["refused"] == "conflict"
    assert isinstance(found["conflicts"], list)
    (conflict,) = found["conflicts"]
    assert "ann's name" in conflict
    assert "ben's name" in conflict
    done = world.b2m("plan", "--rehearse", "--db", "emoji", "--host", "ann")
    assert f"conflict  {conflict}" in done.out
    assert "a sync would be refused" in done.out


def test_at_most_twenty_conflicts_are_listed(copied: Copy) -> None:
    world = copied("team")
    for name in ("ben", "ann"):
        world.edit(name, "emoji", "UPDATE emoji SET name = ? WHERE code IN (SELECT code FROM emoji LIMIT 30)", name)
    assert world.sync("ben", "emoji").code == 0
    found = rehearsed(world, "ann", 8, "emoji")["conflicts"]
    assert isinstance(found, list)
    assert len(found) == 20


def test_a_rehearsal_that_was_killed_leaves_nothing_behind_after_the_next_run(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "rehearsed")
    scratch = world.folder("ben") / ".b2m" / "ipm" / "rehearsals"
    died = world.b2m(*REHEARSE, "--host", "ben", env={"B2M_FAULT": "rehearsing:verify"})
    assert died.code == -signal.SIGKILL
    assert len(list(scratch.iterdir())) == 1
    done = world.b2m("doctor", "--db", "ipm", "--host", "ben")
    assert done.code == 0
    assert "1 work folders" in done.out
    assert world.sync("ben").code == 0
    assert list(scratch.iterdir()) == []


def test_the_next_rehearsal_sweeps_too(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "rehearsed")
    world.b2m(*REHEARSE, "--host", "ben", env={"B2M_FAULT": "rehearsing:verify"})
    assert world.b2m(*REHEARSE, "--host", "ben").code == 10
    assert list((world.folder("ben") / ".b2m" / "ipm" / "rehearsals").iterdir()) == []


def test_a_rehearsal_locks_nobody_out_and_keeps_its_folder(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "rehearsed")
    with started(world, *REHEARSE, "--host", "ben", env={"B2M_FAULT": "stop:rehearsing:verify"}) as process:
        wait_for(lambda: state_of(process.pid) == "T", "the rehearsal reached verify")
        done = world.sync("ben")
        assert done.code == 0, done
        assert len(list((world.folder("ben") / ".b2m" / "ipm" / "rehearsals").iterdir())) == 1
        process.send_signal(signal.SIGCONT)
        ended(process)
    assert_in_step(world, host="ben")
    assert list((world.folder("ben") / ".b2m" / "ipm" / "rehearsals").iterdir()) == []


def test_a_rehearsal_gives_way_to_a_run(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "rehearsed")
    stop = {"B2M_FAULT": "stop:before-task:1:download"}
    with started(world, "sync", "--db", "ipm", "--host", "ben", env=stop) as process:
        wait_for(lambda: state_of(process.pid) == "T", "the run reached its first task")
        done = world.b2m(*REHEARSE, "--host", "ben")
        assert done.code == 4, done


# -- runs --------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_shown_in_full(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "one")
    assert world.sync("ann").code == 0
    world.insert("ann", "two")
    both_changed_a_row(world)
    assert world.sync("ann", "emoji").code == 8
    assert world.b2m("upload", "ipm", "--host", "ann").code == 0
    done = world.b2m("runs", "--host", "ann", "--json")
    assert done.code == 0
    found = done.json
    began = [line["began"] for line in found]
    assert began == sorted(began, reverse=True)
    assert [(line["db"], line["command"], line["exit_code"]) for line in found[:3]] == [
        ("ipm", "upload", 0),
        ("emoji", "sync", 8),
        ("ipm", "sync", 0),
    ]
    assert (found[1]["reason"], found[0]["from_version"], found[0]["to_version"]) == ("conflict", 2, 3)
    assert found[0]["rows"] == {"inserted": 1, "updated": 0, "deleted": 0}
    assert "events" not in found[0]
    lines = world.b2m("runs", "--host", "ann").out.splitlines()
    assert lines[0].split() == ["RUN", "DATABASE", "COMMAND", "STATE", "VERSION", "ROWS", "EXIT", "WHEN"]
    assert [line.split()[0] for line in lines[1:]] == [line["run"] for line in found]
    assert len(world.b2m("runs", "--host", "ann", "--limit", "1").out.splitlines()) == 2
    whole = world.b2m("runs", found[1]["run"], "--host", "ann")
    assert whole.code == 0
    assert "exit code 8" in whole.out
    assert "ann's name" in whole.out
    (full,) = world.b2m("runs", "--id", found[0]["run"][-6:], "--host", "ann", "--json").json
    assert any(event["type"] == "task" and event["status"] == "changed" for event in full["events"])


def test_a_run_that_is_not_there(copied: Copy) -> None:
    done = copied("team").b2m("runs", "--host", "ann", "--id", "20260217T000000Z-dead")
    assert (done.code, done.out) == (1, "")
    assert done.err == "b2m: no run 20260217T000000Z-dead is remembered here; see: b2m runs\n"


def test_a_host_without_runs(copied: Copy) -> None:
    done = copied("team").b2m("runs")
    assert (done.code, done.out, done.err) == (0, "", "no run is remembered here\n")


# -- db.toml -----------------------------------------------------------------------------------------------------


def test_the_bucket_has_a_db_toml_of_its_newest_versions(copied: Copy) -> None:
    world = copied("team")
    assert tomllib.loads(world.bucket.get("db.toml").decode()) == {
        "db": {"emojidb": "emoji-db-v1.db", "ipmdb": "ipm-db-v1.db"}
    }
    world.insert("ann", "more")
    assert world.sync("ann").code == 0
    text = world.bucket.get("db.toml").decode()
    assert tomllib.loads(text)["db"]["ipmdb"] == "ipm-db-v2.db"
    # Whatever became of the copy: it is computed anew.
    world.bucket.delete("db.toml")
    done = world.b2m("fetch-db-toml")
    assert (done.code, done.out) == (0, text)
    assert world.b2m("fetch-db-toml", "ipm").out == '[db]\nipmdb = "ipm-db-v2.db"\n'


def test_a_run_does_not_fail_by_the_courtesy_copy(copied: Copy) -> None:
    world = copied("team")
    (world.root / "bucket" / "db.toml").unlink()
    (world.root / "bucket" / "db.toml").mkdir()
    world.insert("ann", "more")
    done = world.sync("ann")
    assert done.code == 0, done
    assert world.head() == 2


def test_db_toml_is_written_anywhere_but_beside_live_files(copied: Copy) -> None:
    world = copied("behind")
    wanted = world.root / "elsewhere.toml"
    wanted.write_text("old")
    assert world.b2m("fetch-db-toml", "--output", str(wanted)).code == 0
    assert tomllib.loads(wanted.read_text())["db"]["ipmdb"] == "ipm-db-v2.db"
    before = picture(world.root)
    done = world.b2m("fetch-db-toml", "--output", "ben/dbs/db.toml")
    assert done.code == 1
    assert "says which files are live there" in done.err
    assert picture(world.root) == before
    done = world.b2m("fetch-db-toml", "--output", "no/such/folder.toml")
    assert done.code == 6
    assert "Traceback" not in done.err


# -- ensure ------------------------------------------------------------------------------------------------------


def ensured(world: World, host: str, code: int = 0) -> dict[str, str]:
    done = world.b2m("ensure", "--db", "all", "--host", host, "--json")
    assert done.code == code, done
    return {line["db"]: line["did"] for line in done.json if line["type"] == "ensure"}


def test_ensure_fetches_what_is_missing_or_outdated(copied: Copy) -> None:
    world = copied("behind")
    world.live("ben", "emoji").unlink()
    assert ensured(world, "ben") == {"ipm": "fetched", "emoji": "fetched"}
    assert_in_step(world, host="ben")
    assert_in_step(world, host="ben", db="emoji")
    before = picture(world.root)
    assert ensured(world, "ben") == {"ipm": "current", "emoji": "current"}
    assert picture(world.root) == before


def test_ensure_fills_a_new_folder(copied: Copy) -> None:
    world = copied("team")
    folder = world.root / "dbs"
    folder.mkdir()
    done = world.b2m("ensure", "--db", "all")
    assert done.code == 0, done
    assert {path.name for path in folder.glob("*.db")} == {"ipm-db-v1.db", "emoji-db-v1.db"}
    assert tomllib.loads((folder / "db.toml").read_text())["db"]["ipmdb"] == "ipm-db-v1.db"


@pytest.mark.parametrize("template", ["team", "behind"])
def test_ensure_never_touches_rows_of_its_own(template: str, copied: Copy) -> None:
    world = copied(template)
    world.insert("ben", "mine")
    before = picture(world.root)
    done = world.b2m("ensure", "--db", "ipm", "--host", "ben")
    assert done.code == 0
    assert done.out.startswith("ipm@ben  kept  ipm-db-v1.db is v1 with 1 row of its own")
    assert ("and v2 is out" in done.out) == (template == "behind")
    assert picture(world.root) == before


def test_ensure_does_without_a_bucket_where_there_is_a_file(copied: Copy) -> None:
    world = copied("team")
    (world.root / "bucket").rename(world.root / "unmounted")
    assert ensured(world, "ann") == {"ipm": "unchecked", "emoji": "unchecked"}
    world.live("ann").unlink()
    assert ensured(world, "ann", 8) == {"emoji": "unchecked"}


@pytest.mark.alone
def test_ensure_is_instant_when_all_is_current(copied: Copy) -> None:
    world = copied("team")
    assert ensured(world, "ann") == {"ipm": "current", "emoji": "current"}
    times: list[float] = []
    while len(times) < 12 and min(times, default=1.0) >= 0.6:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert world.b2m("ensure", "--db", "all", "--host", "ann").code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: what it takes on a machine that does nothing else, since it waits for nothing.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.6 * slowness(), times


# -- what a new user met -------------------------------------------------------------------------------------------


def test_a_rehearsal_foresees_the_hold_of_a_renaming(copied: Copy) -> None:
    world = copied("team")
    with world.serving():
        world.post("renamed")
        found = rehearsed(world, "prod", 10)
        assert (found["state"], found["holds"]) == ("ready_to_upload", 1)
        assert world.sync().recap["holds"] == 1


def test_a_rehearsal_refuses_what_the_hold_would(copied: Copy) -> None:
    world = copied("behind")
    world.insert("ben", "mine")
    # A condition that only a run knows: the files alone do not tell that the rows stay unproven.
    world.change(
        "playbooks/ipm.yaml",
        "      verify: {file: candidate, checks: [integrity, foreign_keys, rows]}\n",
        "      verify: {file: candidate, checks: [rows]}\n      when: not live.dirty\n"
        "    - verify: {file: candidate}\n",
    )
    done = world.b2m(*REHEARSE, "--host", "ben")
    assert done.code == 8, done
    assert "candidate was not verified in full, rows is missing" in done.out


def test_what_check_refuses_no_sync_runs_and_looking_goes_on(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "waiting")
    secret = "ghp_" + "a1B2c3D4e5" * 3
    shell = f"    - shell: {{run: TOKEN={secret} ./purge.sh, reason: a test}}\n    - name: Publish what"
    world.change("playbooks/ipm.yaml", "    - name: Publish what", shell)
    before = picture(world.root)
    for words in (("sync",), ("sync", "--check"), ("upload",), ("plan",), ("plan", "--rehearse")):
        done = world.b2m(*words, "--db", "ipm", "--host", "ann")
        assert (words, done.code) == (words, 3), done
        assert "this looks like a" in done.err
        assert secret not in done.err + done.out
    assert picture(world.root) == before
    for verb in ("status", "diff", "doctor", "rollback"):
        assert world.b2m(verb, "--db", "ipm", "--host", "ann").code in (0, 8)


def test_a_known_secret_stands_in_no_record(copied: Copy, tmp_path: Path) -> None:
    world = copied("team")
    world.insert("ann", "one")
    shell = "    - shell: {run: 'echo the token is $PURGE_TOKEN; exit 1', reason: a test}\n    - name: Publish what"
    world.change("playbooks/ipm.yaml", "    - name: Publish what", shell)
    secrets = tmp_path / "secrets"
    secrets.write_text("PURGE_TOKEN=tr0ub4dor-and-3\n")
    secrets.chmod(0o600)
    env = {"B2M_SECRETS_FILE": str(secrets), "PURGE_TOKEN": "tr0ub4dor-and-3"}
    done = world.b2m("sync", "--db", "ipm", "--host", "ann", "--json", env=env)
    assert done.code == 6, done
    assert "the token is (secret PURGE_TOKEN)" in done.out
    kept = [
        *(world.folder("ann") / ".b2m" / "ipm" / "runs").glob("*"),
        *(world.root / "bucket" / "ipm" / "runs").glob("*"),
    ]
    assert len(kept) > 2
    assert not any("tr0ub4dor" in path.read_text() for path in kept)


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_known_secret_stands_in_no_error(flags: tuple[str, ...], copied: Copy, tmp_path: Path) -> None:
    world = copied("team")
    world.insert("ann", "one")
    shell = "    - shell: {run: 'echo failed for $PURGE_URL; exit 1', reason: a test}\n    - name: Publish what"
    world.change("playbooks/ipm.yaml", "    - name: Publish what", shell)
    shared = tmp_path / "secrets"
    shared.write_text("PURGE_URL=https://purge.example/tr0ub4dor\n")
    shared.chmod(0o600)
    env = {"B2M_SECRETS_FILE": str(shared), "PURGE_URL": "https://purge.example/tr0ub4dor"}
    done = world.b2m("sync", "--db", "ipm", "--host", "ann", *flags, env=env)
    assert done.code == 6, done
    told = next(line["text"] for line in done.json if line["type"] == "error") if flags else done.err.splitlines()[-1]
    assert told.endswith("ended with exit code 1: failed for (secret PURGE_URL)")
    assert "tr0ub4dor" not in done.out + done.err


def test_vars_hides_what_looks_like_a_secret(copied: Copy) -> None:
    world = copied("team")
    world.change("inventory.yaml", "  production:\n", "  production:\n    vars:\n      purge_token: hunter2hunter2\n")
    for flags in ((), ("--json",)):
        done = world.b2m("vars", "--db", "ipm", "--host", "prod", *flags)
        assert done.code == 0
        assert "(looks like a secret)" in done.out
        assert "hunter2" not in done.out


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("by: updated_at}", "by: updatedat}", "ipm_data has no column updatedat, did you mean updated_at?"),
        ("      ipm_data: {", "      ipmdata: {", "ipm-db-v1.db has no table ipmdata, did you mean ipm_data?"),
    ],
)
def test_a_merge_rule_that_names_nothing_is_told(old: str, new: str, what: str, copied: Copy) -> None:
    world = copied("behind")
    world.change("playbooks/ipm.yaml", old, new)
    done = world.b2m("plan", "--db", "ipm", "--host", "ben")
    assert done.code == 10
    assert re.search(rf"warning  playbooks/ipm.yaml:\d+:\d+: {re.escape(what)}", done.err), done
    doctor = world.b2m("doctor", "--db", "ipm", "--host", "ben")
    assert doctor.code == 8
    assert what in doctor.out
    assert what in world.b2m("sync", "--db", "ipm", "--host", "ben").err


def test_the_first_version_of_a_folder_without_db_toml_writes_it(copied: Copy) -> None:
    world = copied("team")
    folder = world.root / "new" / "dbs"
    folder.mkdir(parents=True)
    shutil.copy(world.live("ann", "emoji"), folder / "notes-v3.db")
    entry = "  notes:\n    file: notes-v{version}.db\n    bucket: main\n  emoji:\n    file:"
    world.change("inventory.yaml", "  emoji:\n    file:", entry)
    with (world.root / "inventory.yaml").open("a") as out:
        out.write("  alone:\n    hosts:\n      carl: {folder: new/dbs, databases: {notes: {}}}\n")
    playbook = (world.root / "playbooks" / "emoji.yaml").read_text()
    (world.root / "playbooks" / "notes.yaml").write_text(
        playbook.replace("db: emoji", "db: notes").replace("hosts: [production, team]", "hosts: [carl]")
    )
    done = world.b2m("sync", "--db", "notes", "--host", "carl")
    assert done.code == 0, done
    assert (folder / "db.toml").read_text() == '[db]\nnotesdb = "notes-v3.db"\n'


def test_a_host_that_lacks_a_variable_is_refused_before_anything_runs(copied: Copy) -> None:
    """The host called local always exists, and has none of the variables of the inventory's hosts."""
    world = copied("team")
    for group in ("production", "team"):
        world.change("inventory.yaml", f"  {group}:\n", f"  {group}:\n    vars: {{greeting: hello}}\n")
    say = "    - message: {text: '{{ greeting }} there'}\n    - name: Finish the renaming"
    world.change("playbooks/ipm.yaml", "    - name: Finish the renaming", say)
    world.change("inventory.yaml", "  ipm:\n    file:", "  ipm:\n    folder: local\n    file:")
    world.folder("ann").rename(world.root / "local")
    assert world.b2m("check").code == 0
    before = picture(world.root)
    for verb in ("sync", "upload", "plan"):
        done = world.b2m(verb, "--db", "ipm")
        assert done.code == 3, done
        assert re.fullmatch(r"b2m: playbooks/ipm.yaml:\d+:\d+: greeting is not defined for host local\n", done.err)
    assert picture(world.root) == before
    done = world.b2m("sync", "--db", "ipm", "-e", "greeting=good morning")
    assert done.code == 0, done
    assert "good morning there" in done.err


def test_a_lone_message_is_said_and_is_no_work(copied: Copy) -> None:
    world = copied("team")
    say = "    - message: {text: all is well}\n    - name: Finish the renaming"
    world.change("playbooks/ipm.yaml", "    - name: Finish the renaming", say)
    assert world.b2m("plan", "--db", "ipm", "--host", "ann").code == 0
    assert world.b2m("sync", "--check", "--db", "ipm", "--host", "ann").code == 0
    assert "all is well" in world.b2m("sync", "--db", "ipm", "--host", "ann").err


def test_a_refusal_ends_the_recap_as_refused_and_settled_conflicts_are_named(copied: Copy) -> None:
    world = copied("team")
    both_changed_a_row(world)
    done = world.b2m("sync", "--db", "emoji", "--host", "ann")
    assert "outdated_db -> refused" in done.out
    world.change("playbooks/emoji.yaml", "default: {on_conflict: fail}", "default: {on_conflict: theirs}")
    done = world.b2m("sync", "--db", "emoji", "--host", "ann")
    assert done.code == 0, done
    assert re.search(r"1 conflicts settled by theirs, emoji\[code='.*'\]: ours name=.*, theirs name=.*", done.err)


def test_rows_that_a_diff_does_not_show_are_counted(copied: Copy) -> None:
    world = copied("team")
    for number in range(7):
        world.insert("ann", f"row-{number}")
    lines = world.b2m("diff", "--db", "ipm", "--host", "ann").out.splitlines()
    assert lines[-1] == "    2 more; all: --rows 7"
    assert "more" not in world.b2m("diff", "--db", "ipm", "--host", "ann", "--rows", "7").out


def test_the_end_of_a_runs_id_will_do_and_a_message_is_shown_once(copied: Copy) -> None:
    world = copied("team")
    both_changed_a_row(world)
    world.sync("ann", "emoji")
    (newest, *_) = world.b2m("runs", "--host", "ann", "--json").json
    done = world.b2m("runs", newest["run"][-4:], "--host", "ann")
    assert done.code == 0, done
    assert done.out.count("emoji on ann refused:") == 1


def test_a_flag_of_a_command_is_explained() -> None:
    done = subprocess.run([sys.executable, "-m", "b2m", "sync", "--help"], capture_output=True, text=True, check=True)
    assert "change nothing; exit 10 if there is work" in done.stdout
    assert "set a variable, above every level" in done.stdout
