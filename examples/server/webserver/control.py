"""Starting, stopping and instructing a server that runs as a process of its own.

Each function returns when the thing is done, or raises Failed with one line that says what is wrong; doing what is
done already succeeds.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .state import AlreadyRunning, ServerProcess, State

POLL_S = 0.01
ADMIN_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


class Failed(Exception):
    """It is not done; the message says why."""


def start(state: State, serve_command: list[str], timeout: float) -> ServerProcess:
    """Start a server in a session of its own and return when it answers health.

    If it ends before, or does not answer within `timeout` seconds, Failed. In the latter case it is left running:
    it may have taken inserts, and `stop` ends it in order.
    """
    deadline = time.monotonic() + timeout
    process = state.running()
    child: subprocess.Popen[bytes] | None = None
    if process is None:
        with state.log.open("ab") as log:
            beginning = log.tell()
            child = subprocess.Popen(
                serve_command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    while True:
        process = state.running()
        if process is not None and (child is None or process.pid == child.pid):
            status, answer = _ask(process, "GET", "/health", 2.0)
            if status == 200:
                return process
            what = answer.get("error") or f"health answers {status}"
        else:
            what = "it does not listen yet"
        if child is not None and child.poll() is not None:
            with state.log.open("rb") as log:
                log.seek(beginning)
                said = log.read().decode(errors="replace").strip().splitlines()
            raise Failed(said[-1].removeprefix("server: ") if said else f"it ended with {child.returncode}")
        if time.monotonic() > deadline:
            raise Failed(f"not healthy within {timeout:g} s: {what}")
        time.sleep(POLL_S)


def stop(state: State) -> None:
    """End the server in order: it gives its last answers and closes its databases. Returns when it is gone."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    told = None
    while True:
        process = state.running()
        if process is None:
            # No process and yet a lock: one is just starting and has not said who it is.
            with suppress(AlreadyRunning), state.lock():
                break
        elif process != told:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            told = process
        if time.monotonic() > deadline:
            raise Failed(f"the server with the state folder {state.folder} has not ended in {STOP_TIMEOUT_S:g} s")
        time.sleep(POLL_S)


def disconnect(state: State, db: str) -> str:
    """Have the database let go. Without a server it is enough to remember that: one that starts obeys."""
    return _switch(state, db, "disconnect")


def connect(state: State, db: str) -> str:
    """Have the database opened again and its queue applied. Without a server: at its next start."""
    return _switch(state, db, "connect")


def _switch(state: State, db: str, action: str) -> str:
    deadline = time.monotonic() + ADMIN_TIMEOUT_S
    while True:
        process = state.running()
        if process is not None:
            status, answer = _ask(process, "POST", f"/admin/{action}/{db}", ADMIN_TIMEOUT_S)
            if status == 200:
                return f"{db}: {action}ed"
            if status or time.monotonic() > deadline:
                raise Failed(str(answer.get("error", f"the server answered {status}")))
            # It is stopping, or died while it was asked: asking again does no harm.
            time.sleep(POLL_S)
            continue
        try:
            with state.lock():
                if action == "disconnect":
                    state.mark_disconnected(db)
                else:
                    state.mark_connected(db)
                return f"{db}: {action}ed; no server is running, the next one starts so"
        except AlreadyRunning:
            if time.monotonic() > deadline:
                raise Failed(f"a server is starting with the state folder {state.folder} and does not answer") from None
            time.sleep(POLL_S)


def health(state: State, dbs: list[str]) -> tuple[bool, dict[str, Any]]:
    """Whether the server is healthy and has `dbs` open, and its report."""
    process = state.running()
    if process is None:
        return False, {"ok": False, "running": False}
    query = "&".join(f"db={db}" for db in dbs)
    status, answer = _ask(process, "GET", f"/health?{query}", 10.0)
    return status == 200, {"running": True, "pid": process.pid, "port": process.port, **answer}


def serve_command(folder: Path, state: State, *options: str) -> list[str]:
    """The command line of the foreground server."""
    script = Path(sys.argv[0]).resolve()
    return [sys.executable, str(script), "serve", "--folder", str(folder), "--state", str(state.folder), *options]


def _ask(process: ServerProcess, method: str, path: str, timeout: float) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the server's answer; status 0 and an error if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=timeout)
    try:
        connection.request(method, path, body=b"" if method == "POST" else None, headers=_headers(process))
        response = connection.getresponse()
        answer = json.loads(response.read())
        return response.status, answer if isinstance(answer, dict) else {}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, {"error": f"no answer from port {process.port}: {error}"}
    finally:
        connection.close()


def _headers(process: ServerProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {process.token}", "Connection": "close"}
