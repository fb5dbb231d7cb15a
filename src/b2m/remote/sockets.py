"""The socket below an SSH connection: a TCP connection that notices a dead link, or a proxy command's two ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TypeVar

from b2m.remote.address import Address, Route

T = TypeVar("T")
USER_TIMEOUT = 10_000  # milliseconds that sent bytes may stay unacknowledged


@dataclass
class Line:
    """An open socket, and what else must end with it."""

    socket: socket.socket
    end: Callable[[], None] = field(default=lambda: None)
    said: Callable[[], str] = field(default=lambda: "")
    """What the proxy command last said on its standard error; empty without one."""

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.end()


def open_line(address: Address, route: Route) -> Line:
    """Connect to a route's machine, or start its proxy command. HostUnreachable says what to do."""
    return _through(address, route.proxy) if route.proxy else Line(_connect(address, route))


def _connect(address: Address, route: Route) -> socket.socket:
    where = f"{route.machine} port {route.port}"
    try:
        made = socket.create_connection((route.machine, route.port), address.connect_timeout)
    except socket.gaierror as error:
        what = f"no address is known for the name {route.machine} ({error.strerror}); "
        raise address.unreachable(what + "check its spelling in inventory.yaml, ~/.ssh/config and DNS") from None
    except ConnectionRefusedError:
        what = f"nothing listens at {where} (connection refused); start its SSH server, or correct the port"
        raise address.unreachable(what) from None
    except TimeoutError:
        what = f"{where} did not answer within {address.connect_timeout:g} s; "
        what += "is it up, and does a firewall let this machine in?"
        raise address.unreachable(what) from None
    except OSError as error:
        what = f"no way to {where} ({error.strerror or error}); check the network, then try: {address.command()}"
        raise address.unreachable(what) from None
    tune(made)
    return made


def tune(made: socket.socket) -> None:
    """Send small packets at once, and notice within seconds that the other side is gone (FACTS: 44 -> 12 ms)."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT),
    ):
        if hasattr(socket, name):  # not every system has each of them
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _through(address: Address, command: str) -> Line:
    """Start a proxy command in a session of its own: without a terminal it can ask nothing, nor be interrupted."""
    ours, theirs = socket.socketpair()
    said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    started = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=theirs.fileno(),
        stdout=theirs.fileno(),
        stderr=said,
        start_new_session=True,
        env=environment,
    )
    theirs.close()
    ours.settimeout(address.connect_timeout)
    return Line(ours, lambda: _end(started), lambda: _last_line(said))


def _end(started: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        started.wait(timeout=5)


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said.read(65536).decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def bounded(function: Callable[[], T], seconds: float) -> T:
    """Return what a function returns; TimeoutError if it takes longer, leaving its thread to itself."""
    outcome: list[tuple[T | None, BaseException | None]] = []

    def work() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
