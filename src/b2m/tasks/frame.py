"""What all tasks share: flags read once, events set up, errors turned into one line and an exit code."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO, TYPE_CHECKING, Any, NoReturn

from invoke.context import Context
from invoke.exceptions import Exit

from b2m import errors, secrets
from b2m.wording import printable

if TYPE_CHECKING:
    from b2m.events import Events
    from b2m.project import Project, Target

# Every task takes its arguments by flags only: Invoke would read a mistyped flag as the value of a positional one.
FLAGS: dict[str, Any] = {"positional": [], "auto_shortflags": False}
DBS: dict[str, Any] = {**FLAGS, "iterable": ["db"]}

HELP = {
    "db": "a database of inventory.yaml; may be given several times, or: all",
    "host": "a host of inventory.yaml; without it, this machine; for sync also: all",
    "project": "the project's folder; without it, the nearest one upwards that has an inventory.yaml",
    "json": "print JSON lines",
    "e": "set a variable, above every level: -e name=value; may be given several times",
    "set": "the same as -e",
    "wait": "wait so long for a lock that somebody holds: 30s, 10m",
}


_unheard: list[OSError] = []  # why lines on standard output could not be written

VARIABLES = ["e", "set_"]
"""The parameters of a task that takes variables: ``-e name=value`` and ``--set name=value``, the same thing."""

WITH_VARIABLES: dict[str, Any] = {**FLAGS, "iterable": ["db", *VARIABLES]}


def help_of(*names: str, **more: str) -> dict[str, str]:
    """Return the help of the named shared flags, and of a task's own."""
    return {**{name: HELP[name] for name in names}, **more}


@contextmanager
def reported(c: Context, as_json: bool = False) -> Iterator[None]:
    """Turn b2m's errors into one line on standard error, and their exit code."""
    try:
        if c.config.run.dry:
            raise errors.UsageError(what="--dry is not supported, it would make checks look successful; use: b2m plan")
        yield
    except errors.B2mError as error:
        fail(error, as_json)
    except errors.Interrupted as stop:
        say(f"b2m: interrupted by signal {stop.signum}; {stop.outcome}")
        raise Exit(None, stop.exit_code) from None
    except KeyboardInterrupt:
        say("b2m: interrupted")
        raise Exit(None, 130) from None
    if _unheard:
        raise unheard(_unheard.pop())


class _Kept(io.TextIOBase):
    """A stream that keeps what is written to it for later, in one list with another's."""

    def __init__(self, out: IO[str], written: list[tuple[IO[str], str]]) -> None:
        self._out = out
        self._written = written

    def write(self, text: str) -> int:
        self._written.append((self._out, text))
        return len(text)


@contextmanager
def quietly(wanted: bool) -> Iterator[list[str]]:
    """Print nothing of what ends well, and everything of what does not; yields what is said of a success anyway."""
    anyway: list[str] = []
    if not wanted:
        yield anyway
        return
    written: list[tuple[IO[str], str]] = []
    with redirect_stdout(_Kept(sys.stdout, written)), redirect_stderr(_Kept(sys.stderr, written)):
        try:
            yield anyway
        except BaseException:
            anyway.clear()
            for out, text in written:
                _print(text, out, end="")
            raise
    for text in anyway:
        say(f"b2m: {text}")


def fail(error: errors.B2mError, as_json: bool) -> NoReturn:
    """Print an error and leave with its exit code."""
    if as_json:
        emit(error_json(error))
    else:
        say(f"b2m: {error}")
    raise Exit(None, error.exit_code)


def error_json(error: errors.B2mError) -> dict[str, Any]:
    kind = type(error).__name__
    reason = getattr(error, "reason", None)
    return {
        "type": "error",
        "error": kind,
        "reason": reason,
        "text": str(error),
        "exit_code": error.exit_code,
        "help": error.help,
    }


def say(text: str) -> None:
    """Print for people, on standard error; known secrets by their names."""
    _print(printable(secrets.redacted(text)), sys.stderr)


def tell(*lines: object, end: str = "\n") -> None:
    """Print lines for people, on standard output; known secrets by their names."""
    _print(printable(secrets.redacted("\n".join(map(str, lines)))), sys.stdout, end=end)


def emit(data: dict[str, Any]) -> None:
    """Print a JSON line, on standard output; known secrets by their names."""
    _print(json.dumps(secrets.redacted(data), default=lambda other: secrets.redacted(str(other))), sys.stdout)


def _print(text: str, out: IO[str], end: str = "\n") -> None:
    """Print, and go on if it cannot be: whoever read it has gone, or its disk is full.

    Work on the next database must not end for that; ``reported`` ends the command as a failed one.
    """
    try:
        print(text, end=end, file=out, flush=True)
    except OSError as error:
        silence(out)
        if out is sys.stdout:
            _unheard.append(error)


def silence(out: IO[str]) -> None:
    """Let what is still written to a standard stream go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, out.fileno())
    os.close(null)


def unheard(error: OSError) -> Exit:
    """Return the end of a command whose output could not be written; a reader who has gone away is told nothing."""
    if not isinstance(error, BrokenPipeError):
        say(f"b2m: standard output: {error.strerror}")
    return Exit(None, 1)


def events(as_json: bool) -> Events:
    """Return where the events of a command go: JSON lines, or lines for people."""
    from b2m.events import Events
    from b2m.report import Console, json_sink

    return Events(json_sink(sys.stdout) if as_json else Console())


def chosen(
    db: Sequence[str],
    host: str | None,
    project: str | None,
    variables: Sequence[str] = (),
    *,
    checked: bool = False,
) -> list[Target]:
    """Return what ``--db``, ``--host`` and ``--project`` name, with the variables of ``-e``.

    ``checked``, for what runs playbooks, refuses what ``b2m check`` calls an error.
    """
    from b2m import api

    return api.targets(api.project(project, checked=checked), db, host or "local", variables, checked=checked)


def the_project(project: str | None) -> Project:
    from b2m import api

    return api.project(project)


def seconds(text: str | None) -> float:
    """Read a duration flag."""
    if text is None:
        return 0.0
    from pydantic import TypeAdapter, ValidationError

    from b2m.project import Duration

    try:
        return float(TypeAdapter(Duration).validate_python(text))
    except ValidationError:
        raise errors.UsageError(what=f"{text!r} is no duration: write 30s, 10m or 2h") from None


def count(flag: str, text: str) -> int:
    """Read a number flag; Invoke's own way ends in a traceback if it is none."""
    number = whole(text)
    if number is None:
        raise errors.UsageError(what=f"--{flag} {text!r} is no number")
    return number


def whole(text: str) -> int | None:
    """Return the number that digits stand for, None if it is none, or too long for what counts here."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def for_each(
    targets: Sequence[Target],
    as_json: bool,
    act: Callable[[Target], int],
    then: Callable[[], None] | None = None,
    *,
    stop: bool = False,
) -> None:
    """Do something with each database, ``then`` something with all, print what failed, leave with the worst code.

    ``stop`` leaves alone what comes after the first failure.
    """
    from b2m import api

    codes, failures = api.each(targets, act, stop=stop)
    if then is not None:
        then()
    for failure in failures:
        recap = getattr(failure.error, "recap", None)
        if as_json:
            emit(error_json(failure.error))
            if recap is not None:
                emit(recap.to_json())
        else:
            say(f"b2m: {failure.error}")
            if recap is not None:
                tell(recap.line())
        if len(targets) > 1 and not as_json:
            tell(f"{failure.target.db} failed")
    code = api.worst([*codes, *(failure.error.exit_code for failure in failures)])
    if code:
        raise Exit(None, code)
