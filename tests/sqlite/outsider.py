"""Another program on the same file: the standard library's SQLite in a process of its own, told what to do by line.

Never in the test's process: two SQLite libraries on one file drop each other's locks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw

_PROGRAM = """
import json, sqlite3, sys
conn = sqlite3.connect(sys.argv[1], timeout=float(sys.argv[2]), isolation_level=None)
print("[]", flush=True)
for line in sys.stdin:
    try:
        print(json.dumps([list(row) for row in conn.execute(json.loads(line)).fetchall()]), flush=True)
    except sqlite3.Error as error:
        print(json.dumps({"error": str(error)}), flush=True)
conn.close()
"""

Rows = list[list[Any]]


class Refusal(Exception):
    """What SQLite answered the outsider instead of rows."""


class Outsider:
    """A connection in another process: open from the start, closed properly at the end of the block."""

    def __init__(self, path: Path, *, timeout: float = 0.1) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(path), str(timeout)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def __call__(self, sql: str) -> Rows:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(sql) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Rows:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        if isinstance(answer, dict):
            raise Refusal(answer["error"])
        assert isinstance(answer, list)
        return answer

    def kill(self) -> None:
        """End it as a power cut would: no closing, the WAL stays."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let it close its connection and end."""
        self.process.communicate(timeout=10)

    def __enter__(self) -> Outsider:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.close()


def build(path: Path, *statements: str) -> Path:
    """Make or change a static file, nobody else being there."""
    conn = apsw.Connection(str(path))
    try:
        for statement in statements:
            conn.execute(statement).fetchall()
    finally:
        conn.close()
    return path


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read a static file."""
    conn = apsw.Connection(f"file:{path}?mode=ro&immutable=1", flags=apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READONLY)
    try:
        return list(conn.execute(sql))
    finally:
        conn.close()
