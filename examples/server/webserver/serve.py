"""The server's own process, from opening the databases to the last answer."""

from __future__ import annotations

import errno
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

from .database import StillInUse
from .handler import WebServer
from .inbox import QueueDamaged
from .pages import SECTIONS
from .service import BadConfiguration, Service
from .state import AlreadyRunning, State

LAST_ANSWERS_S = 5.0


def serve(folder: Path, state: State, port: int, *, unhealthy_file: Path, start_delay: float) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 1 if it could not start."""
    try:
        with state.lock():
            return _serve(folder, state, port, unhealthy_file, start_delay)
    except AlreadyRunning:
        return _fail(f"a server with the state folder {state.folder} is running already")


def _serve(folder: Path, state: State, port: int, unhealthy_file: Path, start_delay: float) -> int:
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    time.sleep(start_delay)
    services: dict[str, Service] = {}
    try:
        for name, section in SECTIONS.items():
            services[name] = Service(section, folder, state)
            if not state.is_disconnected(name):
                services[name].connect()
        with _listen(port, state, services, unhealthy_file) as server:
            process = state.announce(server.server_address[1], folder)
            server.token = process.token
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            print(f"http://127.0.0.1:{process.port}/ pid {process.pid}", flush=True)
            stop.wait()
            server.shutdown()
            server.wait_until_idle(LAST_ANSWERS_S)
    except (BadConfiguration, QueueDamaged, sqlite3.Error, OSError) as error:
        return _fail(str(error))
    finally:
        for service in services.values():
            try:
                service.close()
            except StillInUse as error:
                _fail(str(error))
    return 0


def _listen(port: int, state: State, services: dict[str, Service], unhealthy_file: Path) -> WebServer:
    """Port 0 means any free port, the one of last time if possible: clients keep their address over a restart."""
    previous = state.newest()
    if port == 0 and previous is not None:
        try:
            return WebServer(previous.port, services, unhealthy_file)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return WebServer(port, services, unhealthy_file)


def _fail(what: str) -> int:
    print(f"server: {what}", file=sys.stderr, flush=True)
    return 1
