"""The task that lets databases be synced without anybody asking."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from b2m import errors
from b2m.tasks.frame import DBS, events, for_each, help_of, reported, say, tell, the_project

if TYPE_CHECKING:
    from b2m.project import Project, Target
    from b2m.schedule import Installer


@task(
    **DBS,
    help=help_of(
        "db",
        "project",
        host="a host of inventory.yaml; without it, the one that the playbook's schedule names",
        write="try it with cron's environment, and install it if that goes well",
        remove="take it out again",
        check="try it here and now: secrets, host and bucket; installs nothing",
        cron="as a line of your crontab, which is the default if there is one",
        systemd="as a timer of systemd: the system's if you are root, else your own",
    ),
)
def schedule(
    c: Context,
    db: list[str],
    host: str = "",
    project: str = "",
    write: bool = False,
    remove: bool = False,
    check: bool = False,
    cron: bool = False,
    systemd: bool = False,
) -> None:
    """Print what would make databases sync by themselves, as their playbooks' schedules say; install or remove it."""
    with reported(c):
        from b2m import api

        if write + remove + check > 1 or cron + systemd > 1:
            raise errors.UsageError(what="choose one of --write, --remove and --check, and one of --cron and --systemd")
        found = the_project(project or None)
        targets = api.scheduled(found, db, host or None)
        ours, other = _installers(cron, systemd)

        def act(target: Target) -> int:
            if check:
                return _check(target)
            if write:
                _write(target, ours, other)
            elif remove:
                _remove(found, target, [ours] if cron or systemd else [ours, other], [ours, other])
            else:
                tell(ours.text(api.schedule_entry(target)), end="")
            return 0

        for_each(targets, False, act)


def _installers(cron: bool, systemd: bool) -> tuple[Installer, Installer]:
    """Return the one that is asked for, or else fits this machine, and the other one."""
    from b2m.schedule import Crontab, Units

    timers = shutil.which("crontab") is None and Path("/run/systemd/system").is_dir()
    return (Units(), Crontab()) if systemd or (timers and not cron) else (Crontab(), Units())


def _check(target: Target) -> int:
    from b2m import api
    from b2m.schedule import missing

    lacking = missing(target)
    for what in lacking:
        say(f"b2m: {what}")
    if lacking:
        return errors.SecretMissing.exit_code
    _, verdict = api.status(target, events(False))
    tell(f"{target.db}@{target.host}  secrets, host and bucket are there; it is {verdict.state}")
    return 0


def _write(target: Target, ours: Installer, other: Installer) -> None:
    from b2m import api
    from b2m.schedule import try_out

    entry = api.schedule_entry(target)
    if other.installed(entry):
        what = f"{entry.name} is installed by {other.name}: b2m schedule --db {entry.db} --remove --{other.name}"
        raise errors.UsageError(what=what)
    ours.text(entry)  # what cannot be written need not be tried
    try_out(entry)
    ours.write(entry)
    tell(f"{entry.db}@{entry.host}  {entry.schedule.words}, by {ours.name}")
    if ours.note:
        say(f"b2m: {ours.note}")
    if target.remote:
        from b2m.remote import boot

        if boot.install(target):
            tell(f"{entry.db}@{entry.host}  settles at boot what a run left that died with the machine")
        else:
            say(f"b2m: {entry.host} has no crontab: after a reboot the next run settles what a dead one left")


def _remove(found: Project, target: Target, installers: list[Installer], known: list[Installer]) -> None:
    from b2m import api

    entry = api.schedule_entry(target, to_remove=True)
    for installer in installers:
        if installer.remove(entry):
            tell(f"{entry.db}@{entry.host}  no longer run by {installer.name}")
            break
    else:
        say(f"{entry.db}@{entry.host} was not installed")
    if target.remote and not _folder_needed(found, target, known):
        from b2m.remote import boot

        boot.remove(target)


def _folder_needed(found: Project, target: Target, known: list[Installer]) -> bool:
    """Tell whether another database in the same folder of the same host is scheduled still."""
    from b2m import api

    for db in found.databases:
        if db == target.db or target.host not in found.hosts_of(db):
            continue
        other = found.target(db, target.host)
        entry = api.schedule_entry(other, to_remove=True)
        if other.folder == target.folder and any(each.installed(entry) for each in known):
            return True
    return False


TASKS = (schedule,)
