"""What is installed runs as cron and systemd run things: with nothing of ours, in a time zone of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from b2m import errors
from b2m.project import Schedule
from b2m.schedule import Crontab, Entry, Units
from b2m.schedule.cron import LONGEST, with_block
from b2m.schedule.entry import bare_environment
from b2m.schedule.systemd import calendar, unit
from tests.support.listener import listening
from tests.support.world import Done, World

ZONES = Path("/usr/share/zoneinfo")


def entry(**schedule: object) -> Entry:
    made = Schedule.model_validate({"host": "prod", **({} if "every" in schedule else {"at": "18:00"}), **schedule})
    return Entry("ipm", "prod", Path("/srv/our ops/50%"), made, {"PATH": "/usr/bin:/bin"})


def planned(world: World, text: str = "{at: '18:00', host: prod}") -> None:
    world.change("playbooks/ipm.yaml", "scenarios:", f"schedule: {text}\n\nscenarios:")


def line_of(text: str) -> tuple[list[str], str]:
    """Return a crontab line's five fields and its command, as cron reads them."""
    (line,) = [each for each in text.splitlines() if each and not each.startswith("#")]
    *fields, command = line.split(" ", 5)
    assert re.search(r"(?<!\\)%", command) is None, "an unescaped % would end the command"
    return fields, command.replace("\\%", "%")


def as_cron(command: str, env: dict[str, str] | None = None) -> Done:
    """Run a command as cron does: by sh, from the home folder, with nothing but a few variables."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={**bare_environment(), **(env or {})},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_part(command: str) -> str:
    """Return a command without the look at the clock before it."""
    return command.partition("esac; ")[2] or command


# -- the line ------------------------------------------------------------------------------------------------------


def test_the_whole_block_of_a_simple_schedule() -> None:
    python = shlex.quote(sys.executable)
    assert Crontab().text(entry(wait="30m")) == (
        "# b2m ipm@prod of /srv/our ops/50%: begin\n"
        "# 18:00 UTC; written by b2m schedule, which writes over what is changed here\n"
        '0,15,30,45 * * * * case "$(TZ=UTC date +\\%H:\\%M)" in 18:00) ;; *) exit 0;; esac; '
        "cd '/srv/our ops/50\\%' && export PATH=/usr/bin:/bin && "
        f"exec {python} -P -m b2m sync --db ipm --host prod --quiet --wait 1800s\n"
        "# b2m ipm@prod of /srv/our ops/50%: end\n"
    )


def test_what_runs_every_few_minutes_need_not_look_at_the_clock() -> None:
    for every, fields in (("1m", "* * * * *"), ("5m", "*/5 * * * *"), ("15m", "*/15 * * * *")):
        found, command = line_of(Crontab().text(entry(every=every)))
        assert " ".join(found) == fields
        assert command.startswith("cd ")


def fires(text: str, local: ZoneInfo, begin: datetime, hours: int) -> list[datetime]:
    """Return when a block's command is run on a machine in a time zone: minutes as cron counts, hours as sh asks."""
    fields, command = line_of(text)
    assert fields[1:] == ["*"] * 4
    minutes = {int(minute) for minute in fields[0].split(",")}
    asked = re.match(r'case "\$\(TZ=(\S+) date \+%H:%M\)" in (\S+)\) ;;', command)
    assert asked
    zone, wanted = ZoneInfo(asked[1]), asked[2].split("|")
    found = []
    for step in range(hours * 60):
        now = begin + timedelta(minutes=step)
        there = now.astimezone(zone).strftime("%H:%M")
        if now.astimezone(local).minute in minutes and (there in wanted or f"*:{there[3:]}" in wanted):
            found.append(now)
    return found


@pytest.mark.parametrize("local", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"])
@pytest.mark.parametrize("at", ["18:00", "00:07", "23:59"])
def test_once_a_day_at_the_time_that_is_meant_wherever_the_machine_is(local: str, zone: str, at: str) -> None:
    begin = datetime(2026, 6, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = fires(Crontab().text(entry(at=at, tz=zone)), ZoneInfo(local), begin, 72)
    assert [f"{each.astimezone(ZoneInfo(zone)):%d %H:%M}" for each in found] == [f"{day:02} {at}" for day in (1, 2, 3)]


def test_summer_time_moves_it_as_the_zone_says_and_not_as_the_machine() -> None:
    text = Crontab().text(entry(at="18:00", tz="Europe/Berlin"))
    for begin, hour in ((datetime(2026, 3, 28, tzinfo=UTC), 17), (datetime(2026, 3, 29, tzinfo=UTC), 16)):
        (found,) = fires(text, ZoneInfo("America/New_York"), begin, 24)
        assert found.hour == hour


@pytest.mark.parametrize(
    ("every", "count"), [("20m", 72), ("30m", 48), ("1h", 24), ("2h", 12), ("6h", 4), ("12h", 2), ("24h", 1), ("1d", 1)]
)
def test_every_so_often_from_midnight(every: str, count: int) -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    begin = datetime(2026, 6, 1, tzinfo=zone).astimezone(UTC)
    found = fires(Crontab().text(entry(every=every, tz="Asia/Kathmandu")), ZoneInfo("UTC"), begin, 24)
    assert len(found) == count
    assert found[0] == begin


def test_the_clock_is_asked_for_real(tmp_path: Path) -> None:
    """The shell's own part, with the date of this machine: only the minute that is meant goes on."""
    now = datetime.now(UTC)
    if now.second > 55:
        time.sleep(6)
        now = datetime.now(UTC)
    for zone, offset in (("UTC", 0), ("Asia/Kolkata", 330)):
        if zone != "UTC" and not (ZONES / zone).is_file():
            continue
        for minutes, runs in ((0, True), (60, False), (1, False)):
            at = f"{now + timedelta(minutes=offset + minutes):%H:%M}"
            _, command = line_of(Crontab().text(entry(at=at, tz=zone)))
            asks = command.partition("esac; ")[0] + "esac; echo runs"
            assert as_cron(asks) == Done(0, "runs\n" if runs else "", ""), (zone, at)


def test_it_begins_late_by_the_same_share_of_jitter_every_time() -> None:
    late = {entry(jitter="5m").seconds_late for _ in range(3)}
    assert len(late) == 1
    assert 0 <= late.pop() <= 300
    assert entry().seconds_late == 0
    others = {Entry(f"db{n}", "prod", Path("/x"), entry(jitter="5m").schedule, {}).seconds_late for n in range(50)}
    assert len(others) > 30
    assert "sleep 0" not in Crontab().text(entry())


def test_a_line_that_cron_would_cut_is_refused() -> None:
    long = Entry("ipm", "prod", Path("/srv"), entry().schedule, {"PATH": ":".join(f"/opt/{n}" for n in range(200))})
    with pytest.raises(errors.UsageError, match=f"characters, and {LONGEST} is the most: set a shorter PATH"):
        Crontab().text(long)


# -- the crontab ---------------------------------------------------------------------------------------------------

OTHERS = "MAILTO=ops@example.org\n# ours\n0 3 * * * backup\n"


def test_other_lines_stay_as_they_are_and_writing_again_changes_nothing() -> None:
    block = Crontab().text(entry())
    once = with_block(OTHERS, entry(), block)
    assert once == OTHERS + block
    assert with_block(once, entry(), block) == once
    more = once + "5 5 * * * later\n"
    assert with_block(more, entry(), Crontab().text(entry(at="06:30"))) == (
        OTHERS + Crontab().text(entry(at="06:30")) + "5 5 * * * later\n"
    )
    assert with_block(more, entry(), "") == OTHERS + "5 5 * * * later\n"


def test_a_crontab_without_a_last_line_break_loses_nothing() -> None:
    assert with_block("0 3 * * * backup", entry(), "block\n") == "0 3 * * * backup\nblock\n"


def test_blocks_of_other_databases_hosts_and_projects_are_left_alone() -> None:
    schedule = entry().schedule
    others = [
        Entry("ipm2", "prod", Path("/srv/our ops/50%"), schedule, {}),
        Entry("ipm", "prod", Path("/b"), schedule, {}),
    ]
    crontab = "".join(Crontab().text(each) for each in others)
    assert with_block(crontab + Crontab().text(entry()), entry(), "") == crontab


def test_a_block_without_an_end_is_not_guessed() -> None:
    with pytest.raises(errors.TaskFailed, match=r"mend it with crontab -e"):
        with_block("# b2m ipm@prod of /srv/our ops/50%: begin\n0 3 * * * backup\n", entry(), "")


def test_other_peoples_lines_come_back_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = b"# t\xe4glich\r\n0 1 * * * echo \xe2\x80\xa8 \x0c\r\n"
    (tmp_path / "table").write_bytes(others)
    (tmp_path / "crontab").write_text(f'#!/bin/sh\n[ "$1" = -l ] && exec cat {tmp_path}/table\ncat >{tmp_path}/table\n')
    (tmp_path / "crontab").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ours = Crontab()
    assert not ours.installed(entry())
    ours.write(entry())
    assert (tmp_path / "table").read_bytes() == others + ours.text(entry()).encode()
    assert ours.installed(entry())
    assert ours.remove(entry())
    assert (tmp_path / "table").read_bytes() == others


@pytest.fixture
def crontab() -> Iterator[None]:
    """Give the user's crontab back as it was."""
    if os.environ.get("B2M_TEST_SERVICES") != "require":
        pytest.skip("it writes to your crontab; set B2M_TEST_SERVICES=require to let it, with cron installed")
    before = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    subprocess.run(["crontab", "-"], input=OTHERS, text=True, check=True)
    yield
    if before.returncode:
        subprocess.run(["crontab", "-r"], check=True)
    else:
        subprocess.run(["crontab", "-"], input=before.stdout, text=True, check=True)


def installed() -> str:
    return subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=True).stdout


def test_the_line_is_tried_installed_run_and_taken_out(world: World, crontab: None) -> None:
    planned(world, "{every: 5m, host: prod}")
    shown = world.b2m("schedule", "ipm", "--cron").out
    for _ in range(2):
        done = world.b2m("schedule", "ipm", "--write", "--cron")
        assert (done.code, done.out, done.err) == (0, "ipm@prod  every 5m, by cron\n", "")
        assert installed() == OTHERS + shown
    other = world.b2m("schedule", "ipm", "--write", "--systemd")
    assert other.code == 1
    assert "is installed by cron: b2m schedule --db ipm --remove --cron" in other.err
    with world.serving():
        assert as_cron(line_of(shown)[1]) == Done(0, "", "")
    assert world.head() == 1
    world.change("playbooks/ipm.yaml", "schedule: {every: 5m, host: prod}\n", "")
    done = world.b2m("schedule", "ipm", "--host", "prod", "--remove")
    assert (done.code, done.out) == (0, "ipm@prod  no longer run by cron\n")
    assert installed() == OTHERS
    assert world.b2m("schedule", "ipm", "--host", "prod", "--remove").err == "ipm@prod was not installed\n"


# -- what is run ---------------------------------------------------------------------------------------------------


def test_the_line_syncs_with_nothing_but_crons_environment_and_is_silent(world: World) -> None:
    planned(world, "{at: '18:00', host: prod, wait: 1m}")
    _, command = line_of(world.b2m("schedule", "ipm", "--cron").out)
    with world.serving():
        assert as_cron(run_part(command)) == Done(0, "", "")
        world.post("from-the-server")
        assert as_cron(run_part(command)) == Done(0, "", "")
        assert as_cron(run_part(command)) == Done(0, "", "")
    assert world.head() == 2
    assert "from-the-server" in world.slugs(world.restored())


def test_a_run_that_fails_prints_everything(world: World) -> None:
    planned(world)
    _, command = line_of(world.b2m("schedule", "ipm", "--cron").out)
    (world.root / "bucket").rename(world.root / "unmounted")
    done = as_cron(run_part(command))
    loud = world.b2m("sync", "--db", "ipm", "--host", "prod")
    assert done.code == loud.code == 8
    assert without_ids(done.err) == without_ids(loud.err)
    assert without_ids(done.out) == without_ids(loud.out)
    assert "refused" in done.err


def without_ids(text: str) -> str:
    return re.sub(r"run \S+|\d+\.\ds|\d+ ms", "", text)


def test_quiet_prints_a_success_of_one_database_when_another_fails(world: World) -> None:
    world.live("prod", "emoji").unlink()
    done = world.b2m("sync", "--db", "all", "--host", "prod-stop", "--quiet")
    assert done.code == 8
    assert "ipm success" in done.out
    assert "emoji failed" in done.out


def test_an_undelivered_message_is_said_even_of_a_quiet_success(world: World) -> None:
    planned(world, "{at: '18:00', host: prod-stop, ping: $PING}")
    with listening(404) as server:
        done = world.b2m(
            "sync", "ipm", "--host", "prod-stop", "--quiet", env={"PING": server.url, "no_proxy": "127.0.0.1"}
        )
    assert done == Done(
        0, "", "b2m: ping ($PING) was not delivered: it answered 404, its address is wrong or no longer good\n"
    )


def test_the_secrets_of_the_project_are_found(world: World) -> None:
    planned(world, "{at: '18:00', host: prod-stop, ping: $PING}")
    with listening(then=200) as server:
        (world.root / "secrets.env").write_text(f"PING={server.url}/uuid\n")
        (world.root / "secrets.env").chmod(0o600)
        _, command = line_of(world.b2m("schedule", "ipm", "--cron").out)
        assert as_cron(run_part(command), {"no_proxy": "127.0.0.1"}) == Done(0, "", "")
    assert [request.path for request in server.requests] == ["/uuid"]


def test_a_named_file_of_secrets_comes_before_the_projects(world: World, tmp_path: Path) -> None:
    planned(world)
    (world.root / "secrets.env").touch(0o600)
    (tmp_path / "mine.env").touch(0o600)
    shown = world.b2m("schedule", "ipm", "--cron", env={"B2M_SECRETS_FILE": str(tmp_path / "mine.env")}).out
    assert f"B2M_SECRETS_FILE={tmp_path}/mine.env" in shown
    assert "secrets.env" not in shown


# -- trying it -----------------------------------------------------------------------------------------------------


def test_what_would_be_missing_is_told_at_once_and_nothing_is_installed(world: World) -> None:
    """Here it is set in the environment, which cron does not have."""
    planned(world, "{at: '18:00', host: prod, ping: $PING}")
    world.change("inventory.yaml", "databases:\n  ipm:\n", "messages:\n  ops: $DISCORD_OPS\ndatabases:\n  ipm:\n")
    env = {"PING": "http://127.0.0.1:1/", "DISCORD_OPS": "http://127.0.0.1:1/"}
    assert world.b2m("schedule", "ipm", "--check", env=env).code == 0
    done = world.b2m("schedule", "ipm", "--write", "--cron", env=env)
    assert done.code == 6
    first, *said = done.err.splitlines()
    assert first == (
        "b2m: ipm@prod: tried with cron's environment, and it ended with exit code 3; nothing was installed. It said:"
    )
    missing = "it is not set; set it in the environment, {0}_FILE, or a file that B2M_SECRETS_FILE names"
    assert said == [f"b2m: secret {name}: {missing.format(name)}" for name in ("DISCORD_OPS", "PING")]


def test_a_project_that_is_not_valid_is_not_scheduled(world: World) -> None:
    planned(world, "{at: '25:00', host: prod}")
    done = world.b2m("schedule", "ipm", "--write")
    assert done.code == 3
    assert "expected a time of day, as 18:00" in done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ipm"], 'playbooks/ipm.yaml has no schedule: add schedule: {at: "18:00", host: local}'),
        (["all"], "no playbook has a schedule"),
        ([], "name a database: --db emoji or --db ipm, or --db all"),
        (
            ["ipm", "--write", "--remove"],
            "choose one of --write, --remove and --check, and one of --cron and --systemd",
        ),
    ],
)
def test_what_cannot_be_asked_for(world: World, words: list[str], told: str) -> None:
    done = world.b2m("schedule", *words)
    assert (done.code, done.err) == (1, f"b2m: {told}\n")


def test_another_host_than_the_schedules_is_refused(world: World) -> None:
    planned(world)
    done = world.b2m("schedule", "ipm", "--host", "prod-stop")
    assert (done.code, done.err) == (1, "b2m: playbooks/ipm.yaml schedules ipm on prod\n")


def test_all_are_those_that_have_a_schedule(world: World) -> None:
    planned(world)
    world.change("playbooks/emoji.yaml", "scenarios:", "schedule: {every: 6h, host: ann}\n\nscenarios:")
    both = world.b2m("schedule", "--db", "all", "--cron").out
    assert re.findall(r"# b2m (\S+) of .*: begin", both) == ["emoji@ann", "ipm@prod"]
    one = world.b2m("schedule", "--db", "all", "--host", "prod", "--cron").out
    assert re.findall(r"# b2m (\S+) of .*: begin", one) == ["ipm@prod"]


# -- git pull ------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True)


def test_the_project_is_pulled_before_the_run_and_a_pull_that_fails_is_told_and_keeps_nothing_from_running(
    world: World, tmp_path: Path
) -> None:
    planned(world, "{at: '18:00', host: prod-stop, pull: ff_only}")
    (world.root / ".gitignore").write_text("*\n!playbooks\n!playbooks/*\n")
    git(world.root, "init")
    assert "is on no branch that follows another" in world.b2m("schedule", "ipm", "--check").err
    git(world.root, "add", "-A")
    git(world.root, "commit", "-m", "first")
    upstream = tmp_path / "upstream"
    git(tmp_path, "clone", str(world.root), str(upstream))
    git(world.root, "remote", "add", "origin", str(upstream))
    git(world.root, "fetch")
    git(world.root, "branch", "--set-upstream-to=origin/main")
    assert world.b2m("schedule", "ipm", "--check").code == 0
    playbook = upstream / "playbooks" / "ipm.yaml"
    playbook.write_text(playbook.read_text().replace("about: ", "about: Pulled. "))
    git(upstream, "commit", "-am", "second")
    _, command = line_of(world.b2m("schedule", "ipm", "--cron").out)
    assert as_cron(run_part(command)) == Done(0, "", "")
    assert "about: Pulled. " in (world.root / "playbooks/ipm.yaml").read_text()
    assert world.head() == 1
    shutil.rmtree(upstream)
    done = as_cron(run_part(command))
    assert done.code == 0
    assert done.err.splitlines()[-1] == "b2m: git pull --ff-only did not work, the project stays as it is"


# -- systemd -------------------------------------------------------------------------------------------------------


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    return found


@pytest.mark.parametrize(
    ("schedule", "found"),
    [
        ({"at": "18:00"}, "*-*-* 18:00:00 UTC"),
        ({"at": "06:30", "tz": "Europe/Berlin"}, "*-*-* 06:30:00 Europe/Berlin"),
        ({"every": "15m"}, "*-*-* *:00/15:00 UTC"),
        ({"every": "1m"}, "*-*-* *:00/1:00 UTC"),
        ({"every": "1h"}, "*-*-* *:00:00 UTC"),
        ({"every": "6h", "tz": "Asia/Kolkata"}, "*-*-* 00/6:00:00 Asia/Kolkata"),
        ({"every": "1d"}, "*-*-* 00:00:00 UTC"),
    ],
)
def test_a_calendar_is_what_systemd_understands(analyze: str, schedule: dict[str, str], found: str) -> None:
    made = entry(**schedule)
    assert calendar(made) == found
    count = 3
    done = subprocess.run(
        [analyze, "calendar", f"--iterations={count}", "--base-time=2026-06-01 00:00:00 UTC", calendar(made)],
        capture_output=True,
        text=True,
        env={"TZ": "UTC", "PATH": os.defpath, "LC_ALL": "C"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    zone = ZoneInfo(made.schedule.tz)
    elapsed = re.findall(r"(?:Next elapse|Iteration #\d+|Iter\. #\d+): \w+ (\S+ \S+) UTC", done.stdout)
    times = [datetime.fromisoformat(each).replace(tzinfo=UTC).astimezone(zone) for each in elapsed]
    assert len(times) == count, done.stdout
    assert {(each.hour, each.minute) for each in times} <= set(made.schedule.times)


def test_the_units_are_what_systemd_accepts(analyze: str, tmp_path: Path) -> None:
    (tmp_path / 'our "ops" $HOME 50%').mkdir()
    made = Entry(
        "ipm",
        "prod",
        tmp_path / 'our "ops" $HOME 50%',
        entry(jitter="5m", pull="ff_only").schedule,
        {"PATH": "/usr/bin:/bin", "B2M_SECRETS_FILE": str(tmp_path / "a b%.env")},
    )
    files = Units().files(made)
    assert list(files) == [f"{unit(made)}.service", f"{unit(made)}.timer"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", *(str(tmp_path / name) for name in files)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "b2m-" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_units_of_a_simple_schedule() -> None:
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    service, timer = Units().files(entry(wait="30m", jitter="5m")).values()
    assert "[Service]\nType=oneshot\n" in service
    assert "WorkingDirectory=/srv/our ops/50%%\nEnvironment=PATH=/usr/bin:/bin\n" in service
    assert f"ExecStart={python} -P -m b2m sync --db ipm --host prod --quiet --wait 1800s\n" in service
    assert "KillMode=process\n" in service
    assert "OnCalendar=*-*-* 18:00:00 UTC\nRandomizedDelaySec=300\n" in timer
    assert "Persistent=true\n" in timer


def test_where_systemd_does_not_run_nothing_is_left_behind(world: World, tmp_path: Path) -> None:
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd runs here, and would take it")
    planned(world)
    shown = world.b2m("schedule", "ipm", "--systemd").out
    paths = [Path(line.removeprefix("# ")) for line in shown.splitlines() if line.startswith("# /")]
    assert [path.suffix for path in paths] == [".service", ".timer"]
    done = world.b2m("schedule", "ipm", "--systemd", "--write")
    assert done.code == 6
    assert done.err.startswith("b2m: systemctl")
    assert done.err.endswith("; nothing was installed\n")
    assert [path for path in paths if path.exists()] == []
