"""Verbs that change a database, its bucket, or who may work on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from b2m import errors
from b2m.api.on_hosts import on_host
from b2m.events import Events
from b2m.project import Project, Target
from b2m.project.words import folder_of

if TYPE_CHECKING:
    from b2m.adoption import Adoption
    from b2m.buckets.lease import LeaseView
    from b2m.buckets.pause import Pause
    from b2m.ensuring import Ensured
    from b2m.report import Recap


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


def pause(target: Target, seconds: float, reason: str) -> Pause:
    """Ask every runner, on every host, to leave a database alone for so long; return the pause."""
    from b2m.buckets import open_marked
    from b2m.buckets.pause import begin_pause
    from b2m.run import owner

    bucket = open_marked(target.bucket)
    return begin_pause(bucket, target.db, owner(), seconds, reason)


def resume(target: Target) -> Pause | None:
    """End the pause of a database; return it, None if there was none."""
    from b2m.buckets import open_marked
    from b2m.buckets.pause import end_pause

    bucket = open_marked(target.bucket)
    return end_pause(bucket, target.db)


def unlock(target: Target) -> LeaseView | None:
    """Break the lease on a database; return what was broken, None if it was free."""
    from b2m.buckets import open_marked
    from b2m.buckets.lease import break_lease
    from b2m.run import owner

    bucket = open_marked(target.bucket)
    return break_lease(bucket, target.db, owner())


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


def folders_here(found: Project) -> list[Path]:
    """Return the folders of a project's databases on this machine."""
    return sorted({folder_of(found, db, host) for db in found.databases for host in found.hosts_here(db)})


def write_db_toml(found: Project, path: Path, text: str) -> None:
    """Write what ``db_toml`` returned to a file; UsageError for the one that says what is live on a host."""
    from b2m.hosts.place import write_atomic

    real = path.resolve()
    if real.name == "db.toml" and real.parent in folders_here(found):
        what = f"{path} says which files are live there, and changes with them: b2m ensure --db all"
        raise errors.UsageError(what=what)
    try:
        if path.exists() and not path.is_file():
            path.write_text(text)  # a device or a pipe: only a file can be replaced
        else:
            write_atomic(real, text.encode(), 0o644)
    except OSError as error:
        raise errors.TaskFailed(what=f"cannot write {path}: {error.strerror or error}") from error


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
