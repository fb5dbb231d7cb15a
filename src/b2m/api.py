"""The verbs of b2m, as functions: everything that a command line, a cron job or a dashboard may ask for.

Knows nothing of Invoke. Heavy libraries are imported where they are used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from b2m import errors
from b2m.events import Events
from b2m.project import LOCAL, Project, Target, find_project, load_project
from b2m.project.overrides import check_known, read_overrides
from b2m.project.words import database_of, folder_of

if TYPE_CHECKING:
    from b2m.adoption import Adoption
    from b2m.buckets.checking import Checked
    from b2m.buckets.lease import LeaseView
    from b2m.buckets.pause import Pause
    from b2m.contract import Contract, Tell
    from b2m.doctor import Diagnosis
    from b2m.ensuring import Ensured
    from b2m.facts import Facts
    from b2m.importing import Imported
    from b2m.looking import Difference
    from b2m.overview import Seen
    from b2m.plan import Step
    from b2m.project.checks import Report
    from b2m.project.create import NewService
    from b2m.project.origins import Origin
    from b2m.records import Record
    from b2m.rehearsal import Rehearsed
    from b2m.report import Recap
    from b2m.schedule import Entry
    from b2m.state import Verdict
    from b2m.versions.commit import Commit

Result = TypeVar("Result")

ALL = "all"
"""In place of a host: every host that has the database."""

# The worst outcome of several databases decides the exit code.
SEVERITY = (7, 6, 9, 5, 8, 4, 10)


def project(folder: str | None = None, *, checked: bool = False) -> Project:
    """Return the project in ``folder``, or the nearest one upwards; InvalidProject, UsageError.

    ``checked``, for what runs playbooks, refuses what ``check`` calls an error, too.
    """
    from b2m.modules import MODULES
    from b2m.project.checks import require_checked

    found = load_project(find_project(folder or None), MODULES)
    if checked:
        require_checked(found)
    return found


def targets(found: Project, dbs: Iterable[str], host: str = LOCAL, variables: Iterable[str] = ()) -> list[Target]:
    """Return the databases as ``named`` does; the demo host is made on first use."""
    chosen = named(found, dbs, host, variables)
    if any(target.demo for target in chosen):
        from b2m.demo.host import ensure

        ensure(chosen[0])
    return chosen


def named(found: Project, dbs: Iterable[str], host: str = LOCAL, variables: Iterable[str] = ()) -> list[Target]:
    """Return the named databases on a host, all of the project's for ``all``, from its files alone.

    ``variables`` are ``name=value`` texts, the topmost level; UsageError for a name that no playbook in question has.
    """
    words = list(dbs)
    if not words:
        raise errors.UsageError(what=f"name a database: --db {' or --db '.join(found.databases)}, or --db all")
    found.host(host)
    names = list(dict.fromkeys(database_of(found, word, host) for word in words))
    if names == ["all"]:
        names = [db for db in found.databases if host in found.hosts_of(db)]
        if not names:
            raise errors.UsageError(what=f"no playbook runs on {host}: it has no database of this project")
    overrides = read_overrides(variables)
    chosen = [found.target(db, host, overrides) for db in names]
    if overrides:
        check_known(overrides, set().union(*(found.variables(db) for db in names)))
    return chosen


def fleet(found: Project, dbs: Iterable[str], variables: Iterable[str] = ()) -> list[Target]:
    """Return the named databases on all hosts that have them, except ``local``: first where rows come from.

    A host that only receives a database is brought to what the others have just published.
    """
    words = list(dbs)
    chosen: list[Target] = []
    for host in found.hosts:
        there = [db for db in found.databases if host in found.hosts_of(db)]
        wanted = there if words == ["all"] else [db for db in words if db in there or db not in found.databases]
        if host != LOCAL and wanted:
            chosen += targets(found, wanted, host, variables)
    missed = [db for db in words if db in found.databases and all(target.db != db for target in chosen)]
    if missed or not chosen:
        what = " or ".join(missed or words) or "a database that is named: add --db"
        raise errors.UsageError(what=f"no host has {what}")
    return sorted(chosen, key=lambda target: target.direction == "bucket_to_host")


@dataclass(frozen=True)
class Failure:
    """What went wrong with one of several databases."""

    target: Target
    error: errors.B2mError


def each(
    chosen: Iterable[Target], act: Callable[[Target], Result], *, stop: bool = False
) -> tuple[list[Result], list[Failure]]:
    """Do something with each database; one failing does not stop the rest, unless ``stop`` says so."""
    done: list[Result] = []
    failed: list[Failure] = []
    for target in chosen:
        try:
            done.append(act(target))
        except errors.B2mError as error:
            failed.append(Failure(target, error))
            if stop:
                break
    return done, failed


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several outcomes."""
    seen = set(codes)
    for code in SEVERITY:
        if code in seen:
            return code
    return max(seen, default=0)


# -- the project itself ------------------------------------------------------------------------------------------


def check(folder: str | None = None, variables: Iterable[str] = ()) -> Report:
    """Check a project, all of it and all at once; UsageError if there is none."""
    from b2m.modules import MODULES
    from b2m.project.checks import check_project

    return check_project(find_project(folder), MODULES, read_overrides(variables))


def variables(found: Project, target: Target) -> list[Origin]:
    """Return what the expressions of a target may name, and which level decides it."""
    from b2m.project.origins import origins

    return origins(found, target)


def init(
    folder: Path, dbs: Iterable[str], host: str, bucket: str, service: NewService | None = None
) -> tuple[str, ...]:
    """Write a new project, and return the names of its files; UsageError if something is in the folder."""
    from b2m.project.create import new_project, write_project

    return write_project(folder, new_project(dbs, host, bucket, service))


# -- on a database's host ----------------------------------------------------------------------------------------

Parameters = ParamSpec("Parameters")

ON_HOSTS: dict[str, Callable[..., Any]] = {}
"""The verbs that work on a host's files, by name: what an agent does when it is asked to."""


def on_host(
    verb: Callable[Concatenate[Target, Parameters], Result],
) -> Callable[Concatenate[Target, Parameters], Result]:
    """Make a verb run where the database is: in this process, or in an agent on its host."""
    ON_HOSTS[verb.__name__] = verb
    signature = inspect.signature(verb)

    @wraps(verb)
    def act(target: Target, *given: Parameters.args, **options: Parameters.kwargs) -> Result:
        if not target.remote:
            return verb(target, *given, **options)
        from b2m import remote

        bound = dict(signature.bind(target, *given, **options).arguments)
        del bound["target"]
        done: Result = remote.call(verb.__name__, target, **bound)
        return done

    return cast("Callable[Concatenate[Target, Parameters], Result]", act)


# -- looking -----------------------------------------------------------------------------------------------------


@on_host
def status(target: Target, events: Events) -> tuple[Facts, Verdict]:
    """Return the facts and the verdict of one database, without locking or changing anything."""
    from b2m.opening import opened
    from b2m.state import classify

    with opened(target, events) as found:
        facts = found.look()
    return facts, classify(facts)


@on_host
def plan(target: Target, events: Events) -> tuple[Facts, Verdict, list[Step]]:
    """Return the facts, the verdict and the steps that a sync would take."""
    from b2m.sync import check

    return check(target, events)


@on_host
def seen(target: Target, events: Events) -> Seen:
    """Return what ``status`` does, and the last run on the host that brought the database in step."""
    from b2m.opening import opened
    from b2m.overview import Seen
    from b2m.records import last_sync
    from b2m.state import classify

    with opened(target, events) as found:
        facts = found.look()
        last = last_sync(found.session.place)
    return Seen(facts, classify(facts), last)


@on_host
def rehearse(target: Target, events: Events) -> Rehearsed:
    """Try a sync in a throwaway folder: downloads, replays, verifies, and changes nothing."""
    from b2m.rehearsal import rehearse as run

    return run(target, events)


@on_host
def runs(target: Target) -> list[Record]:
    """Return the records of the runs on a host, newest first."""
    from b2m.opening import place_of
    from b2m.records import newest_first

    return list(newest_first(place_of(target)))


@on_host
def doctor(target: Target, events: Events, *, deep: bool = False) -> Diagnosis:
    """Return everything that may be wrong with a database on a host, and what helps; nothing is changed."""
    from b2m.doctor import examine

    return examine(target, events, deep=deep)


@on_host
def contract(target: Target, events: Events, tell: Tell, *, wait: float = 0.0) -> Contract:
    """Take a database from its server for a moment and see whether it keeps docs/server-contract.md."""
    from b2m.contract import check_service

    return check_service(target, events, tell, wait=wait)


def db_toml(chosen: Iterable[Target]) -> str:
    """Return the text of a ``db.toml`` that names the newest version of databases, as their buckets have them."""
    from b2m.buckets import open_bucket
    from b2m.buckets.marker import read_marker
    from b2m.versions import courtesy, dbtoml

    entries: dict[str, str] = {}
    for target in chosen:
        bucket = open_bucket(target.bucket)
        read_marker(bucket)
        entries |= courtesy.entries(bucket, {target.db: target.listed[target.db]})
    return dbtoml.render(entries)


def write_db_toml(found: Project, path: Path, text: str) -> None:
    """Write what ``db_toml`` returned to a file; UsageError for the one that says what is live on a host."""
    from b2m.hosts.place import write_atomic

    own = folders_here(found)
    path = Path(path).resolve()
    if path.name == "db.toml" and path.parent in own:
        what = f"{path} says which files are live there, and changes with them: b2m ensure --db all"
        raise errors.UsageError(what=what)
    try:
        write_atomic(path, text.encode(), 0o644)
    except OSError as error:
        raise errors.TaskFailed(what=f"cannot write {path}: {error.strerror or error}") from error


def history(target: Target, limit: int | None = 20) -> list[Commit]:
    """Return the newest commits of a database, newest first."""
    from b2m.buckets import open_bucket
    from b2m.buckets.marker import read_marker
    from b2m.versions import log

    bucket = open_bucket(target.bucket)
    read_marker(bucket)
    return log.history(bucket, target.db, limit)


@on_host
def diff(target: Target, events: Events, limit: int) -> Difference:
    """Return how live differs from its anchor, counted, and up to ``limit`` changed rows of each table."""
    from b2m.looking import diff as look

    return look(target, events, limit)


def locks(target: Target) -> LeaseView | None:
    """Return the lease on a database in the bucket, None if it is free."""
    from b2m.buckets import open_bucket
    from b2m.buckets.lease import look
    from b2m.buckets.marker import read_marker

    bucket = open_bucket(target.bucket)
    read_marker(bucket)
    return look(bucket, target.db)


# -- changing ----------------------------------------------------------------------------------------------------


@on_host
def sync(target: Target, events: Events, *, wait: float = 0.0, message: str = "") -> Recap:
    """Bring a database and its bucket in step, as its playbook says; return the recap."""
    from b2m.sync import Options
    from b2m.sync import sync as run

    return run(target, events, Options(wait=wait, message=message))


@on_host
def upload(target: Target, events: Events, *, wait: float = 0.0, message: str = "") -> Recap:
    """Publish a database that is ready to upload; one that is outdated is refused. Returns the recap."""
    from b2m.sync import Options
    from b2m.sync import sync as run

    return run(target, events, Options(wait=wait, message=message, command="upload", publish_only=True))


@on_host
def download(target: Target, events: Events, *, version: int | None = None, discard: bool = False) -> Recap:
    """Put a version of the bucket live, the head by default; rows that are in no version are never overwritten."""
    from b2m.commands import download as run

    return run(target, events, version=version, discard=discard)


@on_host
def ensure(target: Target, events: Events) -> Ensured:
    """Fetch a database that is missing, or outdated without rows of its own; say what is there now."""
    from b2m.ensuring import ensure as run

    return run(target, events)


def pause(target: Target, seconds: float, reason: str) -> Pause:
    """Ask every runner, on every host, to leave a database alone for so long; return the pause."""
    from b2m.buckets import open_bucket
    from b2m.buckets.marker import read_marker
    from b2m.buckets.pause import begin_pause
    from b2m.run import owner

    bucket = open_bucket(target.bucket)
    read_marker(bucket)
    return begin_pause(bucket, target.db, owner(), seconds, reason)


def resume(target: Target) -> Pause | None:
    """End the pause of a database; return it, None if there was none."""
    from b2m.buckets import open_bucket
    from b2m.buckets.marker import read_marker
    from b2m.buckets.pause import end_pause

    bucket = open_bucket(target.bucket)
    read_marker(bucket)
    return end_pause(bucket, target.db)


def folders_here(found: Project) -> list[Path]:
    """Return the folders of a project's databases on this machine."""
    return sorted({folder_of(found, db, host) for db in found.databases for host in found.hosts_here(db)})


def recover(folders: Iterable[Path]) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Settle what dead runs left in folders of databases, as far as that needs no bucket.

    Returns what was done to each database, and what could not be.
    """
    from b2m.hosts.recovery import recover_folder

    done: list[tuple[str, list[str]]] = []
    wrong: list[str] = []
    for folder in folders:
        try:
            done += recover_folder(folder)
        except Exception as error:  # one folder's trouble must not keep the next one's server away
            wrong.append(f"{folder}: {error}")
    return done, wrong


@on_host
def rollback(target: Target, events: Events) -> Recap:
    """Go back to the file that was live before the last swap, with the rows written since; return the recap."""
    from b2m.commands import rollback as run

    return run(target, events)


@on_host
def adopt(target: Target, events: Events, *, version: int | None = None) -> Adoption:
    """Find the version that a file without an anchor started from; make it the anchor if it is certain or named."""
    from b2m.adoption import adopt as run

    return run(target, events, version=version)


def unlock(target: Target) -> LeaseView | None:
    """Break the lease on a database; return what was broken, None if it was free."""
    from b2m.buckets import open_bucket
    from b2m.buckets.lease import break_lease
    from b2m.buckets.marker import read_marker
    from b2m.run import owner

    bucket = open_bucket(target.bucket)
    read_marker(bucket)
    return break_lease(bucket, target.db, owner())


def bucket_import(target: Target, events: Events, source: str, *, everything: bool = False) -> Imported:
    """Take an earlier tool's plain files over as versions; the newest, or all that follow one another."""
    from b2m.importing import import_versions

    return import_versions(target, events, source, everything=everything)


def bucket_init(found: Project, name: str | None = None) -> Mapping[str, str]:
    """Set up the project's buckets, or the named one; return each one's id."""
    from b2m.buckets import open_bucket
    from b2m.buckets.marker import init_bucket

    return {each: init_bucket(open_bucket(found.bucket(each))).id for each in _buckets(found, name)}


def bucket_check(found: Project, name: str | None = None) -> Iterator[Checked]:
    """Try the project's buckets, or the named one, one after the other."""
    from b2m.buckets import open_bucket
    from b2m.buckets.checking import Check

    for each in _buckets(found, name):
        config = found.bucket(each)
        yield Check(each, config.get("url") or config["path"], partial(open_bucket, config)).run()


def _buckets(found: Project, name: str | None) -> list[str]:
    """Return the names of the project's buckets, or the named one; UsageError."""
    known = found.inventory.buckets
    if name is not None and name not in known:
        raise errors.UsageError(what=f"unknown bucket {name}; inventory.yaml knows: {', '.join(sorted(known))}")
    return list(known) if name is None else [name]


# -- telling -----------------------------------------------------------------------------------------------------


@contextmanager
def telling(target: Target, events: Events, *, ping: bool = False) -> Iterator[None]:
    """Deliver the messages of what is done meanwhile, and warn at the end of what could not be delivered.

    With ``ping`` the address of the playbook's ``schedule.ping`` is told of a success.
    """
    from b2m.messages import Delivery

    delivery = Delivery(target.messages, target.own_messages)
    events.add(delivery)
    try:
        yield
        if ping and target.ping is not None:
            delivery.ping(target.ping)
    finally:
        for text in delivery.close():
            events.emit("warning", about="delivery", text=text)


# -- by itself ---------------------------------------------------------------------------------------------------


def scheduled(found: Project, dbs: Iterable[str], host: str | None = None) -> list[Target]:
    """Return the named databases on the hosts that their schedules name; ``all`` are those that have a schedule.

    UsageError for a database that has none, or another host's than ``host``.
    """
    words, planned = list(dbs), {db: book.schedule for db, book in found.playbooks.items() if book.schedule is not None}
    if words == ["all"]:
        words = [db for db, schedule in sorted(planned.items()) if host in (None, schedule.host)]
        if not words:
            raise errors.UsageError(what="no playbook has a schedule" + (f" for {host}" if host else ""))
    names = list(dict.fromkeys(database_of(found, word, host or LOCAL) for word in words))
    if not names:
        raise errors.UsageError(what=f"name a database: --db {' or --db '.join(found.databases)}, or --db all")
    hosts = {db: host or (planned[db].host if db in planned else LOCAL) for db in names}
    return [target for db in names for target in named(found, [db], hosts[db])]


def schedule_entry(target: Target, *, to_remove: bool = False) -> Entry:
    """Return what makes a database sync by itself; UsageError if its playbook has no schedule for this host.

    With ``to_remove`` the playbook need not have it any more.
    """
    from b2m.schedule import entry_of

    return entry_of(target, to_remove=to_remove)
