"""``b2m check``: everything that loading refuses, and what a run would refuse or a reviewer should see.

Loading lets these pass, so that looking, downloading and rolling back go on; what runs a playbook refuses its errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from b2m.project.load import INVENTORY, Project, Reading, read_project
from b2m.project.models import InventoryFile
from b2m.project.names import check_playbook_names
from b2m.project.problems import Position, Problems, suggest
from b2m.project.proofs import check_proofs
from b2m.project.rules import hosts_of
from b2m.project.scope import Layer
from b2m.project.secrets import note_secrets
from b2m.project.target import Host
from b2m.project.tasks import HOLD, Modules, Task, walk
from b2m.project.templates import has_templates
from b2m.project.usage import note_unused, variables


@dataclass(frozen=True)
class Finding:
    """One line of a check."""

    at: Position
    what: str

    def __str__(self) -> str:
        return f"{self.at}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What a check found; warnings are no errors."""

    files: tuple[str, ...]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def check_project(root: Path, modules: Modules, overrides: tuple[Layer, ...] = ()) -> Report:
    """Check a project, all of it; ``overrides`` are what ``-e`` would set in a run."""
    wrong, odd = Problems(), Problems()
    read = read_project(root, modules, wrong)
    unread = len(wrong) > 0
    _check(root, read, wrong, odd, whole=not unread)
    if not unread:  # what could not be read may be what reads them
        note_unused(read.playbooks.values(), read.hosts.values(), read.roles, read.role_tasks, odd)
    _check_overrides(read, overrides, wrong)
    return Report(tuple(sorted(read.documents)), _findings(wrong), _findings(odd))


def require_checked(project: Project) -> None:
    """Raise InvalidProject for what ``check`` calls an error and loading lets pass."""
    wrong = Problems()
    _check(project.root, project, wrong, Problems(), whole=True)
    wrong.raise_any()


def require_names(project: Project, db: str, host: str, overrides: tuple[Layer, ...] = ()) -> None:
    """Raise InvalidProject for a name that a playbook needs and this host has not.

    ``check`` looks at the hosts of the inventory; the implicit local one may lack variables that those have.
    """
    found, wrong = project.hosts[host], Problems()
    if found.group is None:
        found = replace(found, layers=(*found.layers, *overrides))
        others = [project.hosts[name] for name in project.hosts_of(db) if name != host]
        check_playbook_names(project.playbooks[db], [found, *others], wrong)
        wrong.raise_any()


def _check(root: Path, read: Reading | Project, wrong: Problems, odd: Problems, *, whole: bool) -> None:
    """Note what loading lets pass; ``whole``: no task was left out because it could not be understood."""
    for shown, document in read.documents.items():
        note_secrets(document, (root / shown).read_text("utf-8", errors="replace").splitlines(), wrong)
    for playbook in read.playbooks.values():
        for _, tasks in playbook.sections():
            _check_late_rows(tasks, wrong)
            if whole:
                check_proofs(tasks, wrong, odd)
    if read.inventory is not None:
        _check_hosts(root, read.inventory, read, wrong, odd)


def _findings(problems: Problems) -> tuple[Finding, ...]:
    return tuple(Finding(at, what) for at, what in problems.found())


def _check_late_rows(tasks: Iterable[Task], problems: Problems) -> None:
    """A swap whose hold does not first take the rows written until then would be refused by the module, in the hold."""
    taken: dict[int, list[object]] = {}
    for task, around in walk(tasks):
        hold = next((outer for outer in around if outer.module == HOLD), None)
        if hold is None:
            continue
        onto = taken.setdefault(id(hold), [])
        if task.module == "replay" and (task.args.get("from") == "live" or has_templates(task.args.get("from"))):
            onto.append(task.args.get("onto", "candidate"))
        file = task.args.get("file", "candidate")
        if task.module == "swap" and not any(known == file or has_templates((known, file)) for known in onto):
            problems.add(task.at, f"swap needs the late rows first: a replay from live onto {file}, in the same hold")


def _check_hosts(root: Path, inventory: InventoryFile, read: Reading | Project, wrong: Problems, odd: Problems) -> None:
    document = read.documents[INVENTORY]
    for db in inventory.databases:
        if db not in read.playbooks and not _broken(root, read, db):
            wrong.add(document.key_at(("databases", db)), f"{db} has no playbook: write playbooks/{db}.yaml")
    for bucket in inventory.buckets.keys() - {database.bucket for database in inventory.databases.values()}:
        odd.add(document.key_at(("buckets", bucket)), f"no database is kept in bucket {bucket}")
    for playbook in read.playbooks.values():
        there = [read.hosts[name] for name in hosts_of(playbook, inventory) if name in read.hosts]
        here = [(host, host.file.databases.get(playbook.db)) for host in there]
        served = [(host, own.service) for host, own in here if own is not None and own.service]
        for _, tasks in playbook.sections():
            for task, _ in walk(tasks):
                if task.module == HOLD and task.args.get("service") is None and served:
                    host, service = served[0]
                    what = f"this holds nothing, but {service} opens {playbook.db} on {host.name}"
                    wrong.add(task.at, f'{what}: write service: "{{{{ db.service }}}}"')
    for host in read.hosts.values():
        _check_host(host, read, inventory, odd)


def _check_host(host: Host, read: Reading | Project, inventory: InventoryFile, odd: Problems) -> None:
    if host.group is None:
        return
    for name, service in host.file.services.items():
        source = host.source.below("services", name)
        at = source.document.key_at(source.path)
        if service.health is None:
            odd.add(at, f"service {name} has no health probe: nobody would notice that it did not come back")
        if all(own.service != name for own in host.file.databases.values()):
            odd.add(at, f"no database of {host.name} is opened by service {name}")
    for db in host.file.databases:
        playbook = read.playbooks.get(db)
        if playbook is not None and host.name not in hosts_of(playbook, inventory):
            source = host.source.below("databases", db)
            odd.add(source.document.key_at(source.path), f"{playbook.file} does not run on {host.name}")


def _broken(root: Path, read: Reading | Project, db: str) -> bool:
    """Whether a playbook could not be read that may be the one of this database."""
    known = {playbook.file for playbook in read.playbooks.values()}
    if (root / "playbooks" / f"{db}.yaml").exists() and f"playbooks/{db}.yaml" not in known:
        return True
    unread = [one for file, one in read.documents.items() if file.startswith("playbooks/") and file not in known]
    return any(not isinstance(one.data, dict) or one.data.get("db", db) == db for one in unread)


def _check_overrides(read: Reading, overrides: tuple[Layer, ...], wrong: Problems) -> None:
    known: set[str] = set()
    for playbook in read.playbooks.values():
        known |= variables(playbook, read.hosts.values())
        allowed = hosts_of(playbook, read.inventory) if read.inventory else ()
        for host in (read.hosts[name] for name in allowed if name in read.hosts):
            for arguments in playbook.includes() if overrides else ():
                arguments.check_overrides(overrides, (*host.layers, playbook.layer), wrong)
    for layer in overrides:
        for name in layer.values.keys() - known:
            wrong.add(layer.of(name).at(), f"no playbook has a variable {name}{suggest(name, known)}")
