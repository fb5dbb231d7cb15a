"""A small world to run b2m in: a project, a bucket, a production host with a real server, and members' folders.

Every part is real: SQLite files, server and writer processes, b2m as a process of its own. Host ``prod`` tells its
server to disconnect, ``prod-stop`` stops and starts the same one; ``ann`` and ``ben`` are members without a server.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from b2m.buckets import open_bucket
from b2m.buckets.marker import init_bucket
from b2m.demo import create_demo
from b2m.versions import log, pack
from tests.support import forks

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "examples" / "server" / "server.py"
WRITER = Path(__file__).with_name("writer.py")

INVENTORY = """\
buckets:
  main:
    type: folder
    path: bucket
databases:
  ipm:
    file: ipm-db-v{{version}}.db
    key: ipmdb
    bucket: main
  emoji:
    file: emoji-db-v{{version}}.db
    key: emojidb
    bucket: main
groups:
  production:
    hosts:
      prod:
        folder: prod/dbs
        services:
          web:
            disconnect: "{python} {server} --state prod/state --folder prod/dbs --disconnect {{{{ db.name }}}}"
            connect: "{python} {server} --state prod/state --folder prod/dbs --connect {{{{ db.name }}}}"
            health:
              command: "{python} {server} --state prod/state health --db {{{{ db.name }}}}"
            start_timeout: {start_timeout}
            stop_timeout: 10s
        databases:
          ipm:
            service: web
          emoji:
            service: web
      prod-stop:
        folder: prod/dbs
        services:
          web:
            stop: "{python} {server} --state prod/state --folder prod/dbs stop"
            start: "{python} {server} --state prod/state --folder prod/dbs start"
            health:
              command: "{python} {server} --state prod/state health --db {{{{ db.name }}}}"
            start_timeout: {start_timeout}
            stop_timeout: 10s
        databases:
          ipm:
            service: web
          emoji:
            service: web
  team:
    hosts:
      ann:
        folder: ann/dbs
        databases:
          ipm: {{}}
          emoji: {{}}
      ben:
        folder: ben/dbs
        databases:
          ipm: {{}}
          emoji: {{}}
"""


@dataclass(frozen=True)
class Done:
    """A finished b2m: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """The JSON lines on standard output."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def recap(self) -> dict[str, Any]:
        """The last recap among the JSON lines."""
        return [line for line in self.json if line["type"] == "recap"][-1]


class World:
    """One project in a folder of its own."""

    def __init__(self, root: Path, *, start_timeout: str = "10s") -> None:
        self.root = root
        self.prod = root / "prod" / "dbs"
        self.state = root / "prod" / "state"
        root.mkdir(parents=True, exist_ok=True)
        (root / "inventory.yaml").write_text(
            INVENTORY.format(
                python=shlex.quote(sys.executable), server=shlex.quote(str(SERVER)), start_timeout=start_timeout
            )
        )
        shutil.copytree(ROOT / "roles", root / "roles")
        (root / "playbooks").mkdir()
        for name in ("ipm", "emoji"):
            text = re.sub(r"(?m)^schedule: .*\n\n", "", (ROOT / "playbooks" / f"{name}.yaml").read_text())
            (root / "playbooks" / f"{name}.yaml").write_text(
                text.replace("hosts: [demo, demo-stop, team]", "hosts: [production, team]")
            )
        create_demo(root)
        self.bucket = open_bucket({"type": "folder", "path": str(root / "bucket")})
        self.bucket_id = init_bucket(self.bucket).id

    def save(self) -> None:
        """Keep a copy of everything for ``restore``; the server must be stopped."""
        saved = self.root.with_name(f"{self.root.name}, saved")
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(self.root, saved, symlinks=True)

    def restore(self) -> None:
        """Make everything as it was at ``save``, under the same paths; the server must be stopped."""
        shutil.rmtree(self.root)
        shutil.copytree(self.root.with_name(f"{self.root.name}, saved"), self.root, symlinks=True)
        self.bucket = open_bucket({"type": "folder", "path": str(self.root / "bucket")})

    def change(self, file: str, old: str, new: str) -> None:
        """Replace a text that must be in a file of the project."""
        text = (self.root / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        (self.root / file).write_text(text.replace(old, new))

    @classmethod
    def copy_of(cls, made: World, root: Path) -> World:
        """Copy a world that nobody uses, so that a test need not make its history anew."""
        shutil.copytree(made.root, root, symlinks=True)
        world = cls.__new__(cls)
        world.root, world.prod, world.state = root, root / "prod" / "dbs", root / "prod" / "state"
        world.bucket = open_bucket({"type": "folder", "path": str(root / "bucket")})
        world.bucket_id = made.bucket_id
        return world

    # -- b2m -----------------------------------------------------------------------------------------------------

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "b2m", *args]

    def b2m(
        self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 120, under: Sequence[str] = ()
    ) -> Done:
        """Run b2m in the project's folder and wait for it; ``under`` is a command that runs commands."""
        environment = {**os.environ, "COLUMNS": "200", **(env or {})}
        if not under and forks.can_run(env or {}):
            done = forks.Command(args, self.root, environment).ended(timeout)
        else:
            done = subprocess.run(
                [*under, *self.command(*args)],
                cwd=self.root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        return Done(done.returncode, done.stdout, done.stderr)

    def start_b2m(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start b2m and return at once."""
        return subprocess.Popen(
            self.command(*args),
            cwd=self.root,
            env={**os.environ, "COLUMNS": "200", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sync(self, host: str = "prod", db: str = "ipm", *args: str, env: Mapping[str, str] | None = None) -> Done:
        return self.b2m("sync", "--db", db, "--host", host, "--json", *args, env=env)

    def status(self, host: str = "prod", db: str = "ipm") -> dict[str, Any]:
        done = self.b2m("status", "--db", db, "--host", host, "--json")
        return [line for line in done.json if line["type"] == "status"][-1]

    # -- the server ----------------------------------------------------------------------------------------------

    def server(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SERVER), "--folder", str(self.prod), "--state", str(self.state), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the production server meanwhile."""
        self.server("start")
        try:
            yield
        finally:
            self.server("stop", check=False)

    @property
    def port(self) -> int:
        return int(json.loads((self.state / "server.json").read_bytes())["port"])

    def get(self, path: str, timeout: float = 5) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""

    def post(self, slug: str, **fields: Any) -> int:
        """Insert one entry by the server; return the HTTP status."""
        body = json.dumps({"slug": slug, "name": slug, **fields}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/ipm", data=body, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)

    def serves_within(self, seconds: float) -> bool:
        """Tell whether the server is up and has ipm connected within so many seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.server("health", "--db", "ipm", check=False).returncode == 0:
                return True
            time.sleep(0.05)
        return False

    # -- files ---------------------------------------------------------------------------------------------------

    def folder(self, host: str) -> Path:
        return self.prod if host.startswith("prod") else self.root / host / "dbs"

    def live(self, host: str = "prod", db: str = "ipm") -> Path:
        """Return the live file that db.toml names."""
        import tomllib

        folder = self.folder(host)
        return folder / str(tomllib.loads((folder / "db.toml").read_text())["db"][f"{db}db"])

    def query(self, path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read a database, through a connection of its own."""
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(connection.execute(sql, values))
        finally:
            connection.close()

    def edit(self, host: str, db: str, sql: str, *values: object) -> None:
        """Change a member's file, as a developer would."""
        connection = apsw.Connection(str(self.live(host, db)), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(5000)
            connection.execute(sql, values)
        finally:
            connection.close()

    def member(self, name: str, *dbs: str) -> None:
        """Give a member a folder with the newest version of databases."""
        self.folder(name).mkdir(parents=True, exist_ok=True)
        for db in dbs or ("ipm",):
            done = self.sync(name, db)
            assert done.code == 0, done

    def insert(self, host: str, slug: str) -> None:
        """Insert an entry into a member's ipm file."""
        from b2m.demo.entries import slug_hash

        self.edit(
            host,
            "ipm",
            "INSERT INTO ipm_data(slug_hash, slug, category_hash, name, summary, keywords, readme, updated_at) "
            "SELECT ?, ?, (SELECT min(hash) FROM ipm_category), ?, '', '[]', '', '2026-02-17T00:00:00.000000Z'",
            slug_hash(slug),
            slug,
            slug,
        )

    def head(self, db: str = "ipm") -> int:
        numbers = log.numbers(self.bucket, db)
        return numbers[-1] if numbers else 0

    def restored(self, db: str = "ipm", number: int | None = None) -> Path:
        """Fetch a version from the bucket, independent of every host."""
        commit = log.read(self.bucket, db, number or self.head(db))
        target = self.root / f"restored-{db}-{commit.number}.db"
        target.unlink(missing_ok=True)
        pack.fetch(self.bucket, commit, target)
        return target

    def slugs(self, path: Path) -> set[str]:
        return {row[0] for row in self.query(path, "SELECT slug FROM ipm_data")}

    @contextmanager
    def writing(self, pause: float = 0.005) -> Iterator[Path]:
        """Insert entries through the server all the while; yields the shadow file of acknowledged slugs."""
        shadow = self.root / f"shadow-{time.monotonic_ns()}.txt"
        shadow.touch()
        process = subprocess.Popen(
            [sys.executable, str(WRITER), str(self.state / "server.json"), str(shadow), str(pause)],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not shadow.read_text() and process.poll() is None:
                time.sleep(0.01)
            yield shadow
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def acknowledged(self, shadow: Path) -> list[str]:
        return shadow.read_text().split()
