"""What must hold across files, and what a playbook may not say because a run could lose rows or hang a server.

These are the rules that can be seen by reading; whatever depends on data is refused by the modules themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from b2m.object_names import is_object_name
from b2m.project import templates
from b2m.project.models import ALL, LOCAL, FolderBucket, InventoryFile
from b2m.project.names import check_arguments, check_host_names, check_playbook_names, described
from b2m.project.problems import Problems, suggest
from b2m.project.strict import is_name
from b2m.project.target import Host
from b2m.project.tasks import HOLD, Playbook, Task, walk
from b2m.project.yaml import Document

_IN_HOLD_ONLY = frozenset({"swap", "rename"})
_NOT_IN_HOLD = frozenset({"download", "upload"})
_NEEDS_VERIFY = frozenset({"upload", "swap"})
# A command may wake somebody after a refusal; while another run works, nobody knows what it would meet.
_NOT_WHILE_LOCKED = frozenset({"shell"})
_CHANGING = frozenset({"download", "snapshot", "replay", "swap", "rename", "upload", "hold"})
_REPORT_ONLY = {
    "locked": "another run holds the lease",
    "on_refused": "a refused run changes nothing",
    "on_failed": "a failed run was undone",
    "on_success": "the run is over",
}
VERSION = "{version}"
_KNOWS = "inventory.yaml knows"


def hosts_of(playbook: Playbook, inventory: InventoryFile) -> tuple[str, ...]:
    """The hosts that a playbook may run on: local, and those that it names, groups resolved."""
    hosts = {LOCAL: None}
    for name in playbook.hosts:
        group = inventory.groups.get(name)
        hosts.update(dict.fromkeys(group.hosts if group else (name,)))
    return tuple(hosts)


def check_inventory(inventory: InventoryFile, document: Document, hosts: Iterable[Host], problems: Problems) -> None:
    """Note what the inventory names that it does not have, and names that mean two things."""
    taken: dict[tuple[str, str], str] = {}
    for db, database in inventory.databases.items():
        if db == ALL:
            problems.add(document.key_at(("databases", db)), f"{ALL} means every database: give this one another name")
        if database.bucket not in inventory.buckets:
            at = document.at(("databases", db, "bucket"))
            problems.add(at, f"unknown bucket {database.bucket}{suggest(database.bucket, inventory.buckets)}")
        # Two databases of one key would overwrite each other's entry in db.toml.
        for what, value in (("key", database.key or f"{db}db"), ("file", database.file)):
            if (what, value) in taken:
                problems.add(document.at(("databases", db, what)), f"{what} {value} is {taken[what, value]}'s already")
            taken.setdefault((what, value), db)
        for other, its in inventory.databases.items():
            if other == db:
                break
            if its.file != database.file and may_be_one_name(its.file, database.file):
                what = f"a file of {database.file} may have a name of {other}'s too, which is {its.file}"
                problems.add(document.at(("databases", db, "file")), what)
        if database.plain and not is_object_name(database.file.replace(VERSION, "1")):
            what = f"plain: {database.file} is no name of an object: letters, digits and _ . @ + = ~ - only"
            problems.add(document.at(("databases", db, "plain")), what)
    group_of: dict[str, str] = {}
    for group_name, group in inventory.groups.items():
        for name in group.hosts:
            at = document.key_at(("groups", group_name, "hosts", name))
            if name == ALL:
                problems.add(at, f"{ALL} means every host: give this one another name")
            if name in group_of:
                problems.add(at, f"host {name} is in group {group_of[name]} already")
            if name in inventory.groups:
                problems.add(at, f"{name} is a group too: give the host another name")
            group_of.setdefault(name, group_name)
    for host in hosts:
        _check_host(inventory, host, problems)
    for path, leaf in templates.leaves(document.data):
        if templates.is_template(leaf) and "vars" not in path and "services" not in path:
            problems.add(document.at(path), "no template can stand here: write the value")


def may_be_one_name(first: str, second: str) -> bool:
    """Tell whether two file patterns have a name in common, whatever the numbers: its file would be taken for both's.

    With a number in both, that is so if what one has more than the other, before the number and after it, is digits.
    """
    if VERSION not in first or VERSION not in second:
        pattern, name = (first, second) if VERSION in first else (second, first)
        return re.fullmatch(re.escape(pattern).replace(re.escape(VERSION), r"\d+"), name) is not None
    (before, _, after), (its_before, _, its_after) = first.partition(VERSION), second.partition(VERSION)
    return _differ_by_digits(before, its_before) and _differ_by_digits(after[::-1], its_after[::-1])


def _differ_by_digits(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    more = longer.removeprefix(shorter)
    return longer.startswith(shorter) and (not more or more.isdecimal())


def _check_host(inventory: InventoryFile, host: Host, problems: Problems) -> None:
    services = host.file.services
    for db, own in host.file.databases.items():
        source = host.source.below("databases", db)
        at = source.document.key_at(source.path)
        if db not in inventory.databases:
            problems.add(at, f"unknown database {db}{suggest(db, inventory.databases, label=_KNOWS)}")
        if own.service is not None and own.service not in services:
            problems.add(source.at("service"), f"unknown service {own.service}{suggest(own.service, services)}")
        if host.file.connection == "ssh" and (where := _relative_bucket(inventory, db)):
            what = (
                f"{host.name} is another machine: {db} needs a bucket that it reaches too, and {where} is a folder here"
            )
            problems.add(at, what)
        if services and "service" not in own.model_fields_set:
            choice = " or ".join([*sorted(services), "null if none opens it"])
            problems.add(at, f"{db} does not say which service opens it; service: {choice}")
    check_host_names(host, problems)


def _relative_bucket(inventory: InventoryFile, db: str) -> str | None:
    """The bucket of a database, if it is a folder that is named from the project's."""
    name = inventory.databases[db].bucket if db in inventory.databases else ""
    bucket = inventory.buckets.get(name)
    return name if isinstance(bucket, FolderBucket) and not bucket.path.startswith("/") else None


def check_playbook(playbook: Playbook, inventory: InventoryFile, hosts: Mapping[str, Host], problems: Problems) -> None:
    """Note what a playbook names that does not exist, unless that may be because something in it could not be read."""
    document, db, naming = playbook.document, playbook.db, playbook.policy.naming
    database = inventory.databases.get(db)
    if database is None:
        problems.add(document.at(("db",)), f"unknown database {db}{suggest(db, inventory.databases, label=_KNOWS)}")
    elif "policy" not in playbook.lost and ("{version}" in database.file) != (naming == "versioned"):
        must = "must have {version} in it" if naming == "versioned" else "must have no {version} in it"
        problems.add(document.at(("policy", "naming")), f"with naming: {naming} the file {database.file} {must}")
    for index, name in enumerate(playbook.hosts):
        if name not in hosts and name not in inventory.groups:
            known = suggest(name, [*hosts, *inventory.groups], label=_KNOWS)
            problems.add(document.at(("hosts", index)), f"unknown host or group {name}{known}")
    for path, value in templates.leaves(document.data.get("policy")):
        if templates.is_template(value):
            problems.add(document.at(("policy", *path)), "no template can stand here: write the value")
    there = [hosts[name] for name in hosts_of(playbook, inventory) if name in hosts]
    _check_schedule(playbook, inventory, hosts, problems)
    for host in there:
        named = host.name != LOCAL or LOCAL in playbook.hosts
        if database is not None and named and db not in host.file.databases:
            at = host.source.document.key_at(host.source.path)
            problems.add(at, f"{playbook.file} runs on {host.name}, which has no database {db}")
    for _, tasks in playbook.sections():
        for task, _ in walk(tasks):
            _check_service(task, there, problems)
            _check_addressee(task, inventory, problems)
    everywhere = all(name in hosts or name in inventory.groups for name in playbook.hosts)
    if everywhere and playbook.lost.isdisjoint(("hosts", "vars")):
        check_playbook_names(playbook, described(there), problems)
        check_arguments(playbook, there, problems)


def _check_schedule(
    playbook: Playbook, inventory: InventoryFile, hosts: Mapping[str, Host], problems: Problems
) -> None:
    document, schedule = playbook.document, playbook.schedule
    if schedule is None:
        return
    at = document.at(("schedule", "host"))
    if schedule.host not in hosts:
        problems.add(at, f"unknown host {schedule.host}{suggest(schedule.host, hosts, label=_KNOWS)}")
    elif schedule.host not in (allowed := hosts_of(playbook, inventory)):
        problems.add(at, f"{playbook.file} does not run on {schedule.host}; it runs on: {', '.join(allowed)}")


def check_tasks(playbook: Playbook, problems: Problems) -> None:
    """Note procedures that cannot be right, whatever the inventory says."""
    for section, tasks in playbook.sections():
        check_order(section, tasks, problems)


def check_order(section: str, tasks: tuple[Task, ...], problems: Problems) -> None:
    """Note tasks that stand where they may not: outside or inside a hold, before verify, in a section that reports."""
    verified: list[Any] = []
    for task, around in walk(tasks):
        held = any(outer.module == HOLD for outer in around)
        if section in _REPORT_ONLY:
            if task.module in _CHANGING or (section == "locked" and task.module in _NOT_WHILE_LOCKED):
                problems.add(task.at, f"{task.module} cannot stand under {section}: {_REPORT_ONLY[section]}")
            continue
        if task.module in _IN_HOLD_ONLY and not held:
            problems.add(task.at, f"{task.module} must stand in the block of a hold")
        if task.module in _NOT_IN_HOLD and held:
            problems.add(task.at, f"{task.module} must not stand in a hold: the server would wait for the transfer")
        if task.module == HOLD and held:
            problems.add(task.at, "a hold must not stand in a hold")
        file = _file_of(task)
        if task.module == "verify":
            verified.append(file)
        proven = file is None or any(_may_be_same(file, earlier) for earlier in verified)
        if task.module in _NEEDS_VERIFY and not proven:
            problems.add(task.at, f"{task.module} needs a verify of {file} before it")


def _file_of(task: Task) -> Any:
    """The file that a task is about; None if it names none and its module has no default."""
    field = task.model.model_fields.get("file") if task.model else None
    return task.args.get("file", field.default if field and not field.is_required() else None)


def _may_be_same(one: Any, other: Any) -> bool:
    # What a template gives is not known yet; the module looks again when it is.
    return templates.has_templates(one) or templates.has_templates(other) or bool(one == other)


def _check_service(task: Task, hosts: Iterable[Host], problems: Problems) -> None:
    service = task.args.get("service") if task.module == HOLD else None
    if not isinstance(service, str) or templates.is_template(service):
        return
    for host in hosts:
        if host.group is not None and service not in host.file.services:
            known = suggest(service, host.file.services)
            problems.add(task.source.at(HOLD, "service"), f"host {host.name} has no service {service}{known}")


def _check_addressee(task: Task, inventory: InventoryFile, problems: Problems) -> None:
    to = task.args.get("to") if task.module == "message" else None
    if isinstance(to, str) and is_name(to) and to not in inventory.messages:
        known = suggest(to, inventory.messages, label="messages has")
        problems.add(task.source.at("message", "to"), f"nobody is called {to} under messages of inventory.yaml{known}")
