"""Measures b2m on a database of more than 1 GiB: time, memory, and how long the server is held.

    python bench/big.py [--mib 1100] [--folder DIR] [--keep]

It makes a project with a folder bucket, the example server and a member, grows the ipm database with rows of random
text, and runs b2m as a user would. Memory is the largest resident size of the b2m process or
of anything it started, whichever is larger. Exit code 1 if a budget is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from b2m.demo import create_demo
from b2m.demo.entries import slug_hash

ROOT = Path(__file__).resolve().parents[1]
STATUS_BUDGET_S = 1.0
MEMORY_BUDGET_MB = 200
RELEASES = """
CREATE TABLE ipm_release (
    slug_hash INTEGER NOT NULL REFERENCES ipm_data (slug_hash),
    number    INTEGER NOT NULL,
    notes     TEXT NOT NULL,
    PRIMARY KEY (slug_hash, number)
) WITHOUT ROWID;
CREATE TABLE ipm_download (id INTEGER PRIMARY KEY, slug_hash INTEGER NOT NULL, day TEXT NOT NULL, count INTEGER);
CREATE INDEX ipm_download_slug ON ipm_download (slug_hash);
"""
RELEASES_EACH, DAYS = 4, 9


@dataclass(frozen=True)
class Measured:
    """One run of b2m: seconds, of them the processor's, MB of memory, and the recap if it printed one."""

    what: str
    seconds: float
    processor: float
    peak_mb: float
    recap: dict[str, Any] | None

    def row(self) -> str:
        recap = self.recap or {}
        held = f"{recap['downtime_ms'] / 1000:.2f} s" if recap.get("holds") else "-"
        moved = f"{(recap.get('bytes_up', 0) + recap.get('bytes_down', 0)) / 1e6:.0f} MB" if recap else "-"
        spent = f"{self.seconds:.1f} s | {self.processor:.1f} s | {self.peak_mb:.0f} MB"
        return f"| {self.what} | {spent} | {held} | {moved} |"


class Bench:
    """A project in a folder of its own, with the demo's hosts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results: list[Measured] = []

    def build(self, mib: int) -> Path:
        """Make the project, and an ipm database of at least ``mib`` MiB; return its path."""
        for name in ("inventory.yaml", "playbooks", "roles", "examples"):
            (self.root / name).symlink_to(ROOT / name)
        live = create_demo(self.root / ".demo") / "ipm-db-v1.db"
        grow(live, mib << 20)
        return live

    def b2m(self, what: str, *words: str, times: int = 1) -> Measured:
        """Run b2m, which must succeed, and measure the fastest of ``times`` runs."""
        measured = min((self._once(what, words) for _ in range(times)), key=lambda run: run.seconds)
        self.results.append(measured)
        print(measured.row(), flush=True)
        return measured

    def _once(self, what: str, words: tuple[str, ...]) -> Measured:
        command = [sys.executable, "-m", "b2m", *words, "--json"]
        began = time.monotonic()
        with (self.root / "out").open("wb") as out:
            process = subprocess.Popen(command, cwd=self.root, stdout=out)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        lines = [json.loads(line) for line in (self.root / "out").read_text().splitlines() if line.startswith("{")]
        ended = os.waitstatus_to_exitcode(status)
        if ended:
            raise SystemExit(f"b2m {' '.join(words)} ended with {ended}: {lines[-1] if lines else 'it said nothing'}")
        recaps = [line for line in lines if line["type"] == "recap"]
        for line in lines:
            if line["type"] == "task" and line.get("ms", 0) >= 500:
                print(f"    {line['ms'] / 1000:6.1f} s  {line['name']}: {line['detail']}", file=sys.stderr, flush=True)
        processor = usage.ru_utime + usage.ru_stime
        return Measured(what, seconds, processor, usage.ru_maxrss * 1024 / 1e6, recaps[-1] if recaps else None)

    def post(self, count: int) -> None:
        """Insert entries through the server."""
        port = json.loads((self.root / ".demo/prod/state/server.json").read_bytes())["port"]
        for _ in range(count):
            body = json.dumps({"slug": f"posted-{time.monotonic_ns()}", "readme": "x" * 500}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/ipm", data=body)
            urllib.request.urlopen(request, timeout=30).close()

    def edit(self, host: str, changed: int, inserted: int) -> None:
        """Change and insert rows, scattered, in a member's file."""
        live = max((self.root / ".demo" / host / "dbs").glob("ipm-db-v*.db"))
        connection = apsw.Connection(str(live), flags=apsw.SQLITE_OPEN_READWRITE)
        with connection:
            connection.execute(
                "UPDATE ipm_data SET summary = summary || ' +', updated_at = '2026-03-01T00:00:00.000000Z' WHERE"
                " slug_hash IN (SELECT slug_hash FROM ipm_data WHERE slug LIKE 'big-%' ORDER BY slug_hash LIMIT ?)",
                (changed,),
            )
            connection.executemany(ENTRY, entries(f"{host}-{time.monotonic_ns()}", inserted, random.Random(7)))
        connection.close()


ENTRY = (
    "INSERT INTO ipm_data(slug_hash, slug, category_hash, name, summary, keywords, readme, updated_at) SELECT ?1, ?2, "
    "(SELECT min(hash) FROM ipm_category), ?2, ?3, '[]', ?4, '2026-02-17T00:00:00.000000Z'"
)


def entries(prefix: str, count: int, chance: random.Random) -> Iterator[tuple[int, str, str, str]]:
    """Yield rows for ENTRY, with about 3 KB of text each."""
    for index in range(count):
        slug = f"{prefix}-{index}"
        yield slug_hash(slug), slug, f"summary of {slug}", chance.randbytes(1500).hex()


def grow(path: Path, wanted: int) -> None:
    """Insert entries, releases and downloads until the file has ``wanted`` bytes."""
    chance = random.Random(1)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -20000")
    connection.execute(RELEASES)
    batch = 0
    while True:
        with connection:
            rows = list(entries(f"big-{batch}", 2000, chance))
            keys = [row[0] for row in rows]
            connection.executemany(ENTRY, rows)
            connection.executemany(
                "INSERT INTO ipm_release VALUES (?, ?, ?)",
                ((key, number, chance.randbytes(100).hex()) for key in keys for number in range(RELEASES_EACH)),
            )
            connection.executemany(
                "INSERT INTO ipm_download(slug_hash, day, count) VALUES (?, ?, ?)",
                ((key, f"2026-02-{day:02}", chance.randrange(9999)) for key in keys for day in range(1, DAYS + 1)),
            )
        batch += 1
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if path.stat().st_size >= wanted:
            break
    connection.close()


def measure(bench: Bench, mib: int) -> list[str]:
    """Run everything; return the budgets that were missed."""
    began = time.monotonic()
    live = bench.build(mib)
    print(f"built {live.stat().st_size / 2**30:.2f} GiB in {time.monotonic() - began:.0f} s\n", flush=True)
    print("| what | time | processor | peak memory | server held | moved |\n|---|---|---|---|---|---|", flush=True)
    here, member = ("--db", "ipm", "--host", "demo"), ("--db", "ipm", "--host", "ann")
    bench.b2m("first sync: publish v1", "sync", *here)
    time.sleep(2)  # a verdict is remembered once the file has been left alone for a moment
    bench.b2m("status, first look", "status", *here)
    quiet = bench.b2m("status, unchanged", "status", *here, times=10)
    bench.b2m("sync, up to date", "sync", *here, times=10)
    bench.post(200)
    bench.b2m("status, 200 rows inserted", "status", *here)
    bench.b2m("sync, ready_to_upload (200 rows)", "sync", *here)
    bench.b2m("member's first sync: download", "sync", *member)
    bench.edit("ann", changed=1000, inserted=1000)
    bench.b2m("member publishes 2,000 rows", "sync", *member)
    bench.post(200)
    bench.b2m("sync, outdated_db and dirty (200 rows)", "sync", *here)
    bench.b2m("status afterwards", "status", *here)
    missed = [f"{run.what}: {run.peak_mb:.0f} MB" for run in bench.results if run.peak_mb > MEMORY_BUDGET_MB]
    if quiet.seconds > STATUS_BUDGET_S:
        missed.append(f"{quiet.what}: {quiet.seconds:.2f} s")
    return missed


def main() -> None:
    arguments = argparse.ArgumentParser(description="Measures b2m on a database of more than 1 GiB.")
    arguments.add_argument("--mib", type=int, default=1100, help="size of the database, default 1100")
    arguments.add_argument(
        "--folder", type=Path, help="where to make its folder; default: the system's for temporary files"
    )
    arguments.add_argument(
        "--keep", action="store_true", help="do not remove its folder at the end, nor stop the server"
    )
    args = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="b2m-bench-", dir=args.folder))
    bench = Bench(root)
    try:
        missed = measure(bench, args.mib)
    finally:
        if not args.keep:
            server = str(ROOT / "examples/server/server.py")
            subprocess.run([sys.executable, server, "--state", str(root / ".demo/prod/state"), "stop"], check=False)
            shutil.rmtree(root)
    for line in missed:
        print(f"missed: {line}", flush=True)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
