"""The command line. Exit codes: 0 done, 1 not done, 2 wrong usage."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from . import DATABASES, control
from .control import Failed
from .state import State

DEFAULT_FOLDER = Path(".demo/prod/dbs")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="server.py",
        description="A small web server that can let go of one database while it keeps serving.",
        epilog="For tests: health answers 500 while the unhealthy file exists; the start waits --start-delay seconds.",
    )
    result.add_argument("command", nargs="?", choices=["serve", "start", "stop", "health", "status"])
    result.add_argument("--disconnect", nargs="+", choices=DATABASES, metavar="DB", help="let go of databases")
    result.add_argument("--connect", nargs="+", choices=DATABASES, metavar="DB", help="open databases again")
    result.add_argument("--status", action="store_true", help="the same as the command status")
    result.add_argument("--folder", type=Path, help="where db.toml and the databases are (default: as last time)")
    result.add_argument("--state", type=Path, help="the server's own folder (default: state, beside the folder)")
    result.add_argument("--port", type=int, default=0, help="default 0: the port of last time, else any free one")
    result.add_argument("--timeout", type=float, default=10.0, help="start: seconds until it must be healthy")
    result.add_argument("--db", action="append", choices=DATABASES, default=[], help="health: must be connected")
    result.add_argument("--unhealthy-file", type=Path, help="default: unhealthy, in the state folder")
    result.add_argument("--start-delay", type=float, default=os.environ.get("EXAMPLE_START_DELAY", 0.0))
    return result


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser()
    args = arguments.parse_args(argv)
    chosen = [args.command, args.disconnect, args.connect, args.status or None]
    if sum(value is not None for value in chosen) != 1:
        arguments.error("give one of: serve, start, stop, health, status, --disconnect DB, --connect DB, --status")
    state = State(args.state or (args.folder or DEFAULT_FOLDER).resolve().parent / "state")
    previous = state.newest()
    folder: Path = args.folder or (Path(previous.folder) if previous is not None else DEFAULT_FOLDER)
    unhealthy_file: Path = args.unhealthy_file or state.folder / "unhealthy"
    try:
        if args.disconnect is not None:
            return _each(args.disconnect, lambda db: control.disconnect(state, db))
        if args.connect is not None:
            return _each(args.connect, lambda db: control.connect(state, db))
        if args.command == "serve":
            # Not needed, and not loaded, by the commands that only talk to a server.
            from .serve import serve

            return serve(folder, state, args.port, unhealthy_file=unhealthy_file, start_delay=args.start_delay)
        if args.command == "start":
            options = ("--port", str(args.port), "--unhealthy-file", str(unhealthy_file))
            delay = ("--start-delay", str(args.start_delay))
            process = control.start(state, control.serve_command(folder, state, *options, *delay), args.timeout)
            print(f"http://127.0.0.1:{process.port}/ pid {process.pid}")
            return 0
        if args.command == "stop":
            control.stop(state)
            return 0
        ok, report = control.health(state, args.db)
        print(json.dumps(report))
        return 0 if ok else 1
    except Failed as error:
        print(f"server: {error}", file=sys.stderr)
        return 1


def _each(dbs: list[str], do: Callable[[str], str]) -> int:
    for db in dbs:
        print(do(db))
    return 0
