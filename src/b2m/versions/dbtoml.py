"""``db.toml``: which file is live for each short name. The server reads it; b2m changes single entries of it.

::

    [db]
    ipmdb = "ipm-db-v6.db"
    emojidb = "emoji-db-v5.db"
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from b2m.buckets.durable import fsync_folder, replace_durably
from b2m.errors import InvalidProject, TaskFailed

_TABLE = re.compile(r"""\s*\[\s*(?:db|"db"|'db')\s*\]\s*(?:#.*)?""")
_ANY_TABLE = re.compile(r"\s*\[")
_ENTRY = re.compile(
    r"""(?P<before>\s*(?P<key>[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')\s*=\s*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'[^']*')(?P<after>\s*(?:\#.*)?)"""
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PATIENCE = 10.0  # seconds; the lock is held for milliseconds


def read(path: Path) -> dict[str, str]:
    """Return the entries of ``[db]``, none if the file or the table is absent; InvalidProject as file:line:column."""
    return _parse(path, _text(path) or "")


def set_entry(path: Path, key: str, value: str) -> None:
    """Set one entry, atomically and durably, and leave every other byte of the file as it is.

    Runs of other databases may do the same at the same time. InvalidProject for a file that cannot be read as TOML;
    TaskFailed if it cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    try:
        with _locked(path.parent):
            text = _text(path) or ""
            before = _parse(path, text)
            if before.get(key) == value:
                return
            after = _with_entry(text, key, value)
            try:
                understood = _parse(path, after) == {**before, key: value}
            except InvalidProject:
                understood = False
            if not understood:
                raise InvalidProject([f"{path}: write its entries as lines under [db], so that b2m can set {key}"])
            _replace(path, after)
    except OSError as error:
        raise TaskFailed(what=f"cannot write {path}: {error.strerror or error}") from error


def render(entries: Mapping[str, str]) -> str:
    """Return the text of a whole ``db.toml``, the same for the same entries; the bucket keeps such a copy."""
    lines = [f"{_key(key)} = {_quoted(value)}" for key, value in sorted(entries.items())]
    return "\n".join(["[db]", *lines, ""])


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InvalidProject([f"{path}: is not UTF-8 (byte {error.start})"]) from error
    except OSError as error:
        raise InvalidProject([f"{path}: {error.strerror or error}"]) from error


def _parse(path: Path, text: str) -> dict[str, str]:
    try:
        table = tomllib.loads(text).get("db", {})
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        line, column = re.findall(r"\d+", where) if re.search(r"line \d+, column \d+", where) else ("1", "1")
        if "end of document" in where:
            line, column = str(text.count("\n") + 1), "1"
        raise InvalidProject([f"{path}:{line}:{column}: {what or error}"]) from error
    if not isinstance(table, dict):
        raise InvalidProject([f"{path}: db must be a table, [db]"])
    for key, value in table.items():
        if not isinstance(value, str):
            raise InvalidProject([f"{path}:{_line_of(text, key)}: {key} must be a string, the name of a file"])
    return table


def _line_of(text: str, key: str) -> int:
    found = re.search(rf"""^\s*["']?{re.escape(key)}["']?\s*[=.]""", text, re.MULTILINE)
    return text.count("\n", 0, found.end()) + 1 if found else 1


def _with_entry(text: str, key: str, value: str) -> str:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # not splitlines, which breaks at more than TOML does
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    start = next((at for at, line in enumerate(lines) if _TABLE.fullmatch(line.rstrip("\r\n"))), None)
    if start is None:
        gap = [end] if lines else []
        return "".join([*_closed(lines, end), *gap, f"[db]{end}", _line(key, value, end)])
    last = start
    for at in range(start + 1, len(lines)):
        if _ANY_TABLE.match(lines[at]):
            break
        if lines[at].strip() and not lines[at].lstrip().startswith("#"):
            last = at
        body = lines[at].rstrip("\r\n")
        found = _ENTRY.fullmatch(body)
        if found and found["key"].strip("\"'") == key:
            new = _quoted(value, like=found["value"])
            lines[at] = f"{found['before']}{new}{found['after']}{lines[at][len(body) :]}"
            return "".join(lines)
    return "".join([*_closed(lines[: last + 1], end), _line(key, value, end), *lines[last + 1 :]])


def _closed(lines: list[str], end: str) -> list[str]:
    """Return lines of which the last ends like a line."""
    if not lines or lines[-1].endswith("\n"):
        return lines
    return [*lines[:-1], lines[-1] + end]


def _line(key: str, value: str, end: str) -> str:
    return f"{_key(key)} = {_quoted(value)}{end}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def _quoted(value: str, like: str = '"') -> str:
    if like.startswith("'") and "'" not in value and value.isprintable():
        return f"'{value}'"
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _replace(path: Path, text: str) -> None:
    """Replace the file; who may read it stays as it was, for the server must go on reading it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(text.encode())
            if path.exists():
                _keep_owner(temporary, path.stat())
                shutil.copystat(path, temporary)
                os.utime(temporary)  # the time stamp is not kept: servers watch it
            file.flush()
            os.fsync(file.fileno())
        replace_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_owner(temporary: Path, old: os.stat_result) -> None:
    """Give the new file the old one's owner and group, or its group, as far as this user may."""
    for uid in (old.st_uid, -1):
        with suppress(PermissionError):
            os.chown(temporary, uid, old.st_gid)
            return


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs on this host from changing the same ``db.toml``."""
    state = folder / ".b2m"
    if not state.exists():
        state.mkdir(exist_ok=True)
        fsync_folder(folder)
    handle = os.open(state / "db.toml.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    what = f"{folder}/db.toml: another run of b2m keeps it locked; end that one, then run again"
                    raise TaskFailed(what=what) from None
                time.sleep(0.005)
        yield
    finally:
        os.close(handle)
