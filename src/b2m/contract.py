"""Whether a running server keeps its side: docs/server-contract.md, checked by doing what a run's hold does.

The hold is a real one. It is under the host's lock, so that no run comes in between, and under a guard, so that the
server gets its database back even if this process is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from b2m import errors
from b2m.events import Events
from b2m.hosts.service import Service, ServiceError
from b2m.opening import Opened, locked
from b2m.project import Target
from b2m.sqlite import openers
from b2m.sqlite.live import sidecars

PAGE = "docs/server-contract.md"

Level = Literal["ok", "note", "failed"]
Tell = Callable[["Check"], None]


@dataclass(frozen=True)
class Check:
    """One clause and how the server did; a note is what could not be seen from here."""

    name: str
    level: Level
    text: str
    seconds: float | None = None

    def line(self) -> str:
        """Return the line for people."""
        took = "" if self.seconds is None else f"  ({self.seconds:.2f} s)"
        return f"  {self.level:6}  {self.name:10}  {self.text}{took}"


@dataclass(frozen=True)
class Contract:
    """What came of it; ``away`` is how long the server did without the database, in seconds."""

    db: str
    host: str
    service: str
    verb: str
    checks: tuple[Check, ...]
    away: float | None
    given_back: bool

    @property
    def kept(self) -> bool:
        return not any(check.level == "failed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {"type": "contract", **asdict(self), "kept": self.kept}

    def line(self) -> str:
        """Return the last line for people."""
        away = "" if self.away is None else f"; {self.db} was away for {self.away:.2f} s"
        return f"{self.db}@{self.host}  {self.service} {'keeps' if self.kept else 'breaks'} the contract{away}"

    def require(self) -> None:
        """Raise TaskFailed if a check failed, UndoFailed if the server was left without its database."""
        broken = ", ".join(dict.fromkeys(check.name for check in self.checks if check.level == "failed"))
        if not self.given_back:
            what = f"{self.service} did not take {self.db} back; the guard tries once more, see: b2m doctor"
            raise errors.UndoFailed(what=f"{self.db}: {what} --db {self.db} --host {self.host}")
        if broken:
            raise errors.TaskFailed(what=f"{self.db}: {self.service} breaks the contract ({broken}); see {PAGE}")


def check_service(target: Target, events: Events, tell: Tell, *, wait: float = 0.0) -> Contract:
    """Take a database from its server and give it back, and see how that goes; ``tell`` hears each check at once.

    Changes no data. UsageError if no service opens it, Locked if a run is under way for longer than ``wait`` seconds.
    """
    if target.service is None:
        what = f"no service opens {target.db} on {target.host}; inventory.yaml gives it none"
        raise errors.UsageError(what=what)
    service = Service(**asdict(target.service))
    with locked(target, events, wait=wait) as found:
        return _Examination(found, service, tell).run()


class _Examination:
    """The steps, in their order; each adds its checks and lets the next one happen."""

    def __init__(self, found: Opened, service: Service, tell: Tell) -> None:
        self.found, self.session, self.service = found, found.session, service
        self.checks: list[Check] = []
        self.away: float | None = None
        self._tell = tell

    def run(self) -> Contract:
        given_back = True
        # A server that is not well has trouble enough.
        if self._well("before"):
            self._who_has_it("before")
            try:
                self._take_away()
            finally:
                # Also on Ctrl-C, which then comes out behind this.
                with self.found.signals.shielded():
                    given_back = self._give_back()
            if given_back:
                self._well("after")
                self._who_has_it("after")
        target, name = self.found.target, self.service.name
        return Contract(target.db, target.host, name, self.service.verb, tuple(self.checks), self.away, given_back)

    def _take_away(self) -> None:
        verb, name = self.service.verb, self.session.place.live().name
        limit = self.found.target.policy.max_downtime
        began = time.monotonic()
        try:
            self.session.take_away(self.service, limit)
        except ServiceError as error:
            self._add(verb, "failed", str(error), began)
            return
        except errors.StillOpen as error:
            self._add(verb, "ok", "it ended with exit code 0", began)
            self._add("closed", "failed", f"{name} is still open in {error.fields['who']}")
        else:
            self._add(verb, "ok", "it ended with exit code 0", began)
            self._closed(name)
        hold = self.session.hold
        if hold is not None:  # under the guard, as the first time
            self._again(verb, lambda: hold.take_away(self.found.signals.shielded))
        self._tells_that_it_is_away()

    def _closed(self, name: str) -> None:
        if Path("/proc/self/fd").is_dir():
            self._add("closed", "ok", f"no process has {name}, -wal or -shm open")
        else:
            self._add("closed", "note", "who has a file open cannot be seen on this system")

    def _tells_that_it_is_away(self) -> None:
        """See that health is about this database: a probe that is content now would be so after a failed connect."""
        if not self._has_probe:
            return
        began = time.monotonic()
        if self.service.problem() is not None:
            self._add("health", "ok", "while away: it says that it is not well", began)
        else:
            level: Level = "failed" if self.service.verb == "stop" else "note"
            text = "while away: it says that all is well, so it would not notice a database that does not come back"
            self._add("health", level, text, began)

    def _give_back(self) -> bool:
        """Give the database back, twice; tell whether the server has it, healthy. False leaves it to the guard."""
        hold = self.session.hold
        if hold is None:
            return True  # the hold did not begin
        verb = "start" if self.service.verb == "stop" else "connect"
        began = time.monotonic()
        try:
            self.session.give_back()
        except ServiceError as error:
            self._add(verb, "failed", str(error), began)
            try:
                self.session.give_back()
            except ServiceError:
                return False
        else:
            self._add(verb, "ok", "it ended with exit code 0, and health is well", began)
            self._again(verb, self.service.give_back)
        self.away = self.session.end_hold()
        return True

    def _again(self, verb: str, act: Callable[[], object]) -> None:
        began = time.monotonic()
        try:
            act()
        except ServiceError as error:
            self._add(verb, "failed", f"a second time: {error}", began)
        else:
            self._add(verb, "ok", "a second time: the same", began)

    def _well(self, when: str) -> bool:
        """Ask for the server's health; True if it is well, or cannot be asked."""
        if not self._has_probe:
            if when == "before":
                self._add("health", "failed", "inventory.yaml gives no probe, so a failed swap would go unnoticed")
            return True
        began = time.monotonic()
        problem = self.service.problem()
        self._add("health", "failed" if problem else "ok", f"{when}: {problem or 'well'}", began)
        return problem is None

    def _who_has_it(self, when: str) -> None:
        """Say who has the file open that db.toml names; nobody proves nothing, since other users' are not seen."""
        path = self.session.place.live()
        who = sorted({str(each) for each in openers.who_has_open([path, *sidecars(path)])})
        if who:
            self._add("open", "ok", f"{when}: {path.name} is open in {', '.join(who[:3])}")
        else:
            why = "the server opens it later, reads another name than db.toml's, or belongs to another user"
            self._add("open", "note", f"{when}: nobody is seen with {path.name} open; {why}")

    @property
    def _has_probe(self) -> bool:
        return bool(self.service.health_url or self.service.health_command)

    def _add(self, name: str, level: Level, text: str, began: float | None = None) -> None:
        seconds = None if began is None else round(time.monotonic() - began, 3)
        check = Check(name, level, text, seconds)
        self.checks.append(check)
        # Whoever reads along may have gone; the server gets its database back all the same.
        with suppress(BrokenPipeError):
            self._tell(check)
