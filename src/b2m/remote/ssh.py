"""One SSH connection: a host key that must be known, keys only, and an end to every wait.

Fabric makes the connection; what it would do silently (accept any host key, wait for an hour) is taken out of its
hands. The only thing that ends a stuck call of paramiko is closing the client, so that is what every watchdog does.
"""

from __future__ import annotations

import logging
import posixpath
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2m import errors
from b2m.remote import known_hosts
from b2m.remote.address import Address, Route, resolve
from b2m.remote.sockets import Line, bounded, open_line
from b2m.remote.transfer import upload

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel, SFTPClient

__all__ = ["Address", "Ran", "Ssh"]

STALL = 30.0  # seconds that a file transfer may stand still


@dataclass(frozen=True)
class Ran:
    """What a command on the host did; ``code`` is -1 if a signal ended it."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace").strip()

    @property
    def last_words(self) -> str:
        """The last line that the command said, for an error message."""
        lines = (self.err.strip() or self.out.strip()).decode("utf-8", "replace").splitlines()
        return lines[-1].strip() if lines else "a signal ended it" if self.code == -1 else f"exit code {self.code}"


class Ssh:
    """A connection to an address; every failure is HostUnreachable, in one line that says what to do."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._line: Line | None = None
        self._connection: Connection | None = None
        self._closed = False

    def __enter__(self) -> Ssh:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def client(self) -> Any:
        """The paramiko client; its ``close`` is what frees every blocked call."""
        if self._connection is None:
            raise self.address.unreachable("the connection is not open")
        return self._connection.client

    def open(self) -> None:
        """Connect and log in; three times ``connect_timeout`` at most, whatever blocks (DNS, a proxy, an agent)."""
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else it prints tracebacks of its own
        route = resolve(self.address)
        limit = 3 * self.address.connect_timeout
        try:
            bounded(lambda: self._connect(route), limit)
        except TimeoutError:
            self.close()
            what = f"no connection within {limit:g} s; try: {self.address.command()}"
            raise self.address.unreachable(what) from None
        except BaseException:
            self.close()
            raise

    def run(self, command: str, *, timeout: float, input: bytes | None = None) -> Ran:
        """Run a command line of the host's shell; after ``timeout`` seconds the connection is closed."""
        with self._watched(timeout, command) as channel:
            outputs = [bytearray(), bytearray()]
            readers = [
                threading.Thread(target=_drain, args=(read, output), daemon=True)
                for read, output in zip((channel.recv, channel.recv_stderr), outputs, strict=True)
            ]
            for reader in readers:
                reader.start()
            with suppress(OSError):  # it may end without reading all of it
                if input:
                    channel.sendall(input)
                channel.shutdown_write()
            for reader in readers:
                reader.join()
            code = channel.recv_exit_status()
            if code == -1 and not self._alive:
                raise EOFError
            return Ran(code, bytes(outputs[0]), bytes(outputs[1]))

    def start(self, command: str) -> Channel:
        """Start a command without a terminal and return its channel; the caller drains its standard error."""
        opened: list[Channel] = []
        with self._watched(self.address.connect_timeout, command, keep=opened.append):
            return opened[0]

    def put(self, local: Path | bytes, remote: str, mode: int = 0o600) -> None:
        """Write a file on the host: under a temporary name, made durable, then renamed over what was there."""
        folder, name = posixpath.split(remote)
        beside = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}")
        with self._guarded(STALL, f"writing {remote}"):
            sftp = self._sftp()
        try:
            sftp.get_channel().settimeout(STALL)
            try:
                upload(sftp, local, beside, mode)
                sftp.posix_rename(beside, remote)
            except TimeoutError:
                self.close()
                raise self._lost(f"writing {remote} stood still for {STALL:g} s") from None
            except (OSError, EOFError) as error:
                if not self._alive:
                    raise self._lost(f"the connection was lost while writing {remote}") from None
                with suppress(OSError, EOFError):
                    sftp.remove(beside)
                raise self.address.unreachable(
                    f"cannot write {remote} ({error}); check its folder, rights and free space there"
                ) from None
        finally:
            with suppress(OSError, EOFError):
                sftp.close()

    def _sftp(self) -> SFTPClient:
        from paramiko import SSHException

        try:
            return self.client.open_sftp()
        except (SSHException, EOFError):
            if not self._alive:
                raise
            raise self.address.unreachable("it transfers no files; enable sftp in its sshd_config") from None

    def close(self) -> None:
        """End the connection and everything that waits for it; may be called from any thread, any number of times."""
        self._closed = True
        if self._connection is not None:
            self._connection.client.close()
        if self._line is not None:
            self._line.close()

    # -- connecting ------------------------------------------------------------------------------------------------

    def _connect(self, route: Route) -> None:
        import paramiko
        from fabric import Config, Connection
        from paramiko.agent import Agent

        from b2m.remote.keys import Keys
        from b2m.remote.login import KnownHosts, Login, transport_preferring

        self._line = open_line(self.address, route)
        if self._closed:
            return self._line.close()
        agent = Agent()
        keys = Keys(route, agent)
        known = known_hosts.read(route.known_hosts, route.known_as)
        timeout = self.address.connect_timeout
        self._connection = Connection(
            route.machine,
            user=route.user,
            port=route.port,
            config=Config(lazy=True, ssh_config=paramiko.SSHConfig()),  # nothing is read from ~/.ssh or ~/.fabric.yml
            gateway=False,
            connect_kwargs={
                "sock": self._line.socket,
                "timeout": timeout,
                "banner_timeout": timeout,
                "auth_timeout": timeout,
                "channel_timeout": timeout,
                "transport_factory": transport_preferring(known),
                "auth_strategy": Login(route.user, keys),
            },
        )
        self.client.set_missing_host_key_policy(KnownHosts(self.address, route, known))
        try:
            self._connection.open()
            transport = self.client.get_transport()
            if not transport.is_authenticated():
                what = f"it wants more than a key from {route.user}; let this user in by key alone"
                raise self.address.unreachable(what)
            transport.set_keepalive(15)  # a firewall forgets a connection on which nothing is said
        except errors.HostUnreachable:
            raise
        except paramiko.AuthenticationException:
            tried = "; ".join(keys.tried) or "no key was found"
            ended = "" if self._alive else ", and it ended the connection"
            raise self.address.unreachable(
                f"it refuses the login of {route.user} (tried: {tried}{ended}); put the public key into "
                f"~{route.user}/.ssh/authorized_keys there, then try: {self.address.command()}"
            ) from None
        except paramiko.ssh_exception.IncompatiblePeer as error:
            what = f"its SSH server shares no method with this machine ({error}); update it"
            raise self.address.unreachable(what) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.address.unreachable(self._no_greeting(route, error)) from None
        finally:
            agent.close()

    def _no_greeting(self, route: Route, error: Exception) -> str:
        where = f"{route.machine} port {route.port}"
        if route.proxy is not None:
            said = self._line.said() if self._line else ""
            return f"the way through its proxy failed ({said or error}); try: {self.address.command()}"
        return (
            f"{where} answers, but not as an SSH server ({error or 'it closed the connection'}); "
            f"check the port, or whether a firewall cuts in: {self.address.command()}"
        )

    # -- watchdogs -------------------------------------------------------------------------------------------------

    @property
    def _alive(self) -> bool:
        transport = self.client.get_transport()
        return transport is not None and transport.is_active()

    @contextmanager
    def _guarded(self, timeout: float, doing: str) -> Iterator[None]:
        """Close the client if the block takes longer than ``timeout`` seconds; lost connections are HostUnreachable."""
        from paramiko import SSHException

        began = time.monotonic()
        timer = threading.Timer(timeout, self.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (SSHException, EOFError, OSError) as error:
            if time.monotonic() - began >= timeout:
                raise self._lost(f"{doing} took longer than {timeout:g} s") from None
            if self._alive:
                raise self.address.unreachable(
                    f"{doing}: it refused ({error}); try: {self.address.command()}"
                ) from None
            raise self._lost(f"the connection was lost during: {doing}") from None
        finally:
            timer.cancel()

    @contextmanager
    def _watched(
        self, timeout: float, command: str, keep: Callable[[Channel], None] | None = None
    ) -> Iterator[Channel]:
        """Open a channel that runs a command; it is closed at the end unless somebody keeps it."""
        short = command if len(command) <= 60 else command[:57] + "..."
        with self._guarded(timeout, " ".join(short.split())):
            transport = self.client.get_transport()
            if transport is None:
                raise EOFError
            channel: Channel = transport.open_session(timeout=min(timeout, self.address.connect_timeout))
            try:
                channel.exec_command(command)
                if keep is not None:
                    keep(channel)
                yield channel
            finally:
                if keep is None:
                    channel.close()

    def _lost(self, what: str) -> errors.HostUnreachable:
        return self.address.unreachable(f"{what}; run the same command again, or try: {self.address.command()}")


def _drain(read: Callable[[int], bytes], output: bytearray) -> None:
    with suppress(OSError, EOFError):
        while data := read(32768):
            output += data
