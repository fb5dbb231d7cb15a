"""The example server as a test drives it: its own command line, its own process, plain HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from b2m.demo import create_demo
from b2m.demo.entries import slug_hash

SCRIPT = Path(__file__).parents[2] / "examples" / "server" / "server.py"


@dataclass(frozen=True)
class Answer:
    status: int
    source: str | None
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Server:
    """One server with the demo's databases under `root`."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "prod" / "dbs"

    @property
    def state(self) -> Path:
        return self.root / "prod" / "state"

    def command(self, *args: str) -> list[str]:
        return [sys.executable, str(SCRIPT), "--folder", str(self.folder), "--state", str(self.state), *args]

    def run(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one command of the server's; it must end with `code`."""
        result = subprocess.run(self.command(*args), capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == code, f"{args}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def described(self) -> dict[str, Any]:
        description: dict[str, Any] = json.loads((self.state / "server.json").read_text())
        return description

    @property
    def pid(self) -> int:
        return int(self.described()["pid"])

    @property
    def port(self) -> int:
        return int(self.described()["port"])

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/fd").exists() and self.open_files(pid):
            time.sleep(0.001)

    def open_files(self, pid: int | None = None) -> set[str]:
        """The names of the files in the databases' folder that the process has open."""
        names = set()
        try:
            links = list(Path(f"/proc/{pid or self.pid}/fd").iterdir())
        except OSError:
            return set()
        for link in links:
            try:
                target = link.readlink()
            except OSError:
                continue
            if target.is_relative_to(self.folder):
                names.add(target.name)
        return names

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
            connection.request(method, path, body=data, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.getheader("X-Served-From"), response.read().decode())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, slug: str, **fields: Any) -> Answer:
        return self.request("POST", "/ipm", {"slug": slug, **fields})

    def hit(self) -> Answer:
        return self.request("POST", "/hit", {})

    def health(self, db: str = "ipm") -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.run("--status").stdout)["databases"][db]
        return report

    def rows(self, sql: str, *values: Any, file: str = "ipm-db-v1.db") -> list[tuple[Any, ...]]:
        """Ask the file itself."""
        conn = apsw.Connection(str(self.folder / file), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            conn.set_busy_timeout(5_000)
            return list(conn.execute(sql, values))
        finally:
            conn.close()

    def counter(self, name: str, file: str = "ipm-db-v1.db") -> int:
        return int(self.rows("SELECT coalesce(sum(value), 0) FROM overview WHERE name = ?", name, file=file)[0][0])

    def put_in_place(self, name: str, **rows: str) -> None:
        """What b2m does while the database is disconnected: another file with more rows, and db.toml naming it."""
        new = self.folder / name
        old = apsw.Connection(str(self.folder / "ipm-db-v1.db"), flags=apsw.SQLITE_OPEN_READWRITE)
        conn = apsw.Connection(str(new))
        with conn.backup("main", old, "main") as backup:  # a server that was killed left rows in the -wal
            backup.step()
        old.close()
        for slug, text in rows.items():
            conn.execute(
                "INSERT INTO ipm_data SELECT ?, ?, hash, ?, NULL, '', '[]', NULL, '', '2026-03-01' FROM ipm_category"
                " LIMIT 1",
                (slug_hash(slug), slug, text),
            )
        conn.close()
        toml = self.folder / "db.toml"
        temporary = toml.with_suffix(".new")
        temporary.write_text(toml.read_text().replace("ipm-db-v1.db", name))
        temporary.replace(toml)


@contextmanager
def demo_server(root: Path) -> Iterator[Server]:
    """A server with fresh demo databases; not started, and stopped in the end."""
    create_demo(root)
    server = Server(root)
    try:
        yield server
    finally:
        server.run("stop")


def path_of(slug: str) -> str:
    return "/ipm/" + urllib.parse.quote(slug, safe="")
