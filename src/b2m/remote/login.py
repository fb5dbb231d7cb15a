"""What paramiko is given in place of its own habits: who the host must be, and how to log in. Imports paramiko."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from paramiko import RejectPolicy, Transport
from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey

from b2m.remote import known_hosts
from b2m.remote.address import Address, Route
from b2m.remote.keys import Keys
from b2m.remote.known_hosts import fingerprint


class KnownHosts(RejectPolicy):  # type: ignore[misc]
    """Let only a host in whose key stands in known_hosts; paramiko's own list stays empty, so that it always asks."""

    def __init__(self, address: Address, route: Route, lines: Iterable[known_hosts.Line]) -> None:
        self._address = address
        self._route = route
        self._lines = list(lines)

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        state, line = known_hosts.judge(self._lines, key.asbytes())
        if state == "known":
            return
        shown = fingerprint(key.asbytes())
        there = f"compare there with: ssh-keygen -lf /etc/ssh/ssh_host_{_short(key)}_key.pub"
        if line is None:
            what = f"its key is not known here: it shows {shown}; {there}; if it is right: {self._add(key)}"
        elif state == "revoked":
            what = f"its key {shown} is revoked ({_where(line)}); do not connect, ask who looks after it"
        elif state == "changed":
            what = (
                f"its key has changed: known is {fingerprint(line.key)} ({_where(line)}), it shows {shown}. "
                f"Either it was set up anew, or somebody is in between: {there}; only if it is right: "
                f"{self._remove(line)}; {self._add(key)}"
            )
        else:
            what = (
                f"its key is known only by a certificate authority ({_where(line)}), which b2m does not check: "
                f"it shows {shown}; {there}; if it is right: {self._add(key)}"
            )
        raise self._address.unreachable(what)

    def _add(self, key: Any) -> str:
        if self._route.proxy is not None or self._route.aliased:
            return f"{self._address.command()} (and answer yes to the same fingerprint)"  # ssh-keyscan goes straight
        into = _for_shell(self._route.known_hosts[0]) if self._route.known_hosts else "~/.ssh/known_hosts"
        return f"ssh-keyscan -p {self._route.port} -t {_short(key)} {self._route.machine} >> {into}"

    def _remove(self, line: known_hosts.Line) -> str:
        return f"ssh-keygen -R {shlex.quote(self._route.known_as)} -f {_for_shell(line.file)}"


class Login(AuthStrategy):  # type: ignore[misc]
    """Log in by key, one after the other; nothing is ever asked."""

    def __init__(self, user: str, keys: Keys) -> None:
        super().__init__(ssh_config=None)
        self._user = user
        self._keys = keys

    def get_sources(self) -> Iterator[InMemoryPrivateKey]:
        for key in self._keys:
            yield InMemoryPrivateKey(username=self._user, pkey=key)


def transport_preferring(lines: Iterable[known_hosts.Line]) -> Callable[..., Transport]:
    """Return what makes a transport that asks first for the kinds of key by which the host is known (so does ssh)."""
    known: list[str] = []
    for line in lines:
        if not line.marker:
            known += ["rsa-sha2-512", "rsa-sha2-256"] if line.kind == "ssh-rsa" else [line.kind]

    def made(sock: Any, **options: Any) -> Transport:
        transport = Transport(sock, **options)
        security = transport.get_security_options()
        security.key_types = sorted(security.key_types, key=lambda kind: kind not in known)
        return transport

    return made


def _where(line: known_hosts.Line) -> str:
    return f"{_for_shell(line.file)}:{line.number}"


def _for_shell(path: Path) -> str:
    """A path as a person types it, with ~ for the home folder."""
    if path.is_relative_to(Path.home()):
        return f"~/{shlex.quote(str(path.relative_to(Path.home())))}"
    return shlex.quote(str(path))


def _short(key: Any) -> str:
    """A key's kind as ssh-keyscan and the names of the host's files have it: ed25519, ecdsa, rsa."""
    name = str(key.get_name())
    return "ecdsa" if name.startswith("ecdsa") else name.removeprefix("ssh-")
