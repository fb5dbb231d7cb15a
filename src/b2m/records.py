"""Run records: what came of each run that changed, or tried to change, a database on this host.

They are JSON files below the state folder, named by run, so that their names sort by time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from b2m import errors
from b2m.hosts.place import Place, read_json, write_json

FORMAT = 1
KEEP = 100  # how many a host keeps of each database
SLACK = timedelta(minutes=10)  # by how much clocks may differ
SYNCS = ("sync", "upload")  # the commands that bring a database and its bucket in step


@dataclass(frozen=True)
class Record:
    """One run; ``error`` and ``reason`` are None if it went well. ``began`` and ``ended`` are in UTC, times in ms."""

    run: str
    db: str
    host: str
    command: str
    began: datetime
    ended: datetime
    before: str
    after: str
    from_version: int | None
    to_version: int | None
    rows: Mapping[str, int]
    downtime_ms: int
    holds: int
    total_ms: int
    exit_code: int
    error: str | None
    reason: str | None
    events: tuple[Mapping[str, Any], ...] = field(repr=False)

    @property
    def in_step(self) -> bool:
        """Whether it brought the database and its bucket in step, as a download of the newest version does too."""
        fetched = self.command == "download" and self.after == "up_to_date"
        return self.exit_code == 0 and (self.command in SYNCS or fetched)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read a record; KeyError, TypeError or ValueError for what is none."""
        same = ("run", "db", "host", "before", "after", "from_version", "to_version", "rows")
        return cls(
            **{name: data[name] for name in same},
            command=str(data.get("command", "sync")),
            began=began(data["run"]),
            ended=_ended(data),
            downtime_ms=int(data["downtime_ms"]),
            holds=int(data["holds"]),
            total_ms=int(data["total_ms"]),
            exit_code=int(data["exit_code"]),
            error=data.get("error"),
            reason=data.get("reason"),
            events=tuple(data.get("events", ())),
        )


def began(run: str) -> datetime:
    """Return when a run began, as its id says; ValueError for what is no id."""
    return datetime.strptime(run.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _ended(data: Mapping[str, Any]) -> datetime:
    """Return when a run ended; the first records told only how long it took."""
    if "ended" in data:
        return datetime.fromisoformat(data["ended"]).astimezone(UTC)
    return began(data["run"]) + timedelta(milliseconds=int(data["total_ms"]))


def save(place: Place, run: str, data: Mapping[str, Any]) -> None:
    """Write a run's record, and forget the oldest; OSError."""
    folder = _folder(place)
    folder.mkdir(exist_ok=True)
    write_json(folder / f"{run}.json", data)
    # What a clock that was wrong dated in the future must neither stay for ever nor push out what comes now.
    ordered = sorted(folder.glob("*.json"), key=lambda path: (not _from_the_future(path.stem), path.name))
    old = [path for path in ordered[:-KEEP] if path.stem != run]
    if old:
        # However long it has been failing, since when must be known.
        success = last_sync(place)
        for path in old:
            if success is None or path.stem != success.run:
                path.unlink(missing_ok=True)


def newest_first(place: Place) -> Iterator[Record]:
    """Yield the records of a database on this host; what is none, such as a file of another format, is left out."""
    folder = _folder(place)
    try:
        paths = sorted((path for path in folder.iterdir() if path.suffix == ".json"), key=_age, reverse=True)
    except FileNotFoundError:
        return  # no run yet
    except PermissionError as error:
        raise errors.Unreadable(db=place.db, path=folder, what="cannot be read by this user") from error
    for path in paths:
        data = read_json(path)
        if data is None or data.get("format") != FORMAT:
            continue
        try:
            yield Record.from_json(data)
        except (KeyError, TypeError, ValueError):
            continue


def last_sync(place: Place) -> Record | None:
    """Return the newest run that brought the database and its bucket in step, None if none is remembered."""
    return next((each for each in newest_first(place) if each.in_step and not _from_the_future(each.run)), None)


def last_hold(place: Place) -> Record | None:
    """Return the newest run that held the server, and went well."""
    return next((each for each in newest_first(place) if each.exit_code == 0 and each.holds), None)


def _from_the_future(run: str) -> bool:
    try:
        return began(run) > datetime.now(UTC) + SLACK
    except ValueError:
        return False


def _age(path: Path) -> tuple[str, int]:
    """What sorts records by time: an id counts seconds only, and runs that began in one second ended one by one."""
    try:
        return path.name.partition("-")[0], path.stat().st_mtime_ns
    except FileNotFoundError:  # another run has just forgotten it
        return "", 0


def _folder(place: Place) -> Path:
    return place.state / "runs"
