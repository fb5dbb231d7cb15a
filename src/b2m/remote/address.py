"""Where a host is reached by SSH: what the inventory says, completed by ``ssh -G`` from ~/.ssh/config.

The OpenSSH client reads its own configuration, so that Include, Match, ProxyJump and every default mean here exactly
what they mean on the command line. The connection itself is made by b2m.remote.ssh.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from b2m import errors

# user@machine:port, machine being a name, an alias, or an IPv6 address in brackets. Nothing that a shell would read.
DESTINATION = re.compile(r"(?:ssh://)?(?:([\w.][\w.+-]*)@)?([\w.][\w.-]*|\[[\dA-Fa-f:.]+(?:%\w+)?\])(?::(\d{1,5}))?")


@dataclass(frozen=True)
class Address:
    """A host of the inventory: its name there, and the destination that ``ssh`` would be given.

    ``destination`` is ``user@machine:port``, ``machine``, or an alias of ~/.ssh/config. ``config``, ``known_hosts`` and
    ``identity`` stand in place of what OpenSSH would read by itself.
    """

    host: str
    destination: str
    config: Path | None = None
    known_hosts: Path | None = None
    identity: Path | None = None
    connect_timeout: float = 10.0

    @classmethod
    def of(cls, host: str, destination: str | None = None, environment: Mapping[str, str] = os.environ) -> Address:
        """Return a host's address; B2M_SSH_CONFIG, B2M_KNOWN_HOSTS and B2M_SSH_IDENTITY name other files."""

        def named(variable: str) -> Path | None:
            return Path(environment[variable]) if environment.get(variable) else None

        files = named("B2M_SSH_CONFIG"), named("B2M_KNOWN_HOSTS"), named("B2M_SSH_IDENTITY")
        return cls(host, destination or host, *files)

    @property
    def parts(self) -> tuple[str | None, str, int | None]:
        """User, machine and port, as far as the destination names them."""
        found = DESTINATION.fullmatch(self.destination)
        if found is None:
            raise self.unreachable(f"{self.destination!r} is no address; write user@machine, or user@machine:port")
        return found[1], found[2].strip("[]"), int(found[3]) if found[3] else None

    def options(self) -> list[str]:
        """Return the options that make ``ssh`` use this address's own files, and never ask anything."""
        given = ["-F", str(self.config)] if self.config else []
        if self.identity:
            given += ["-i", str(self.identity), "-o", "IdentitiesOnly=yes"]
        if self.known_hosts:
            given += ["-o", f'UserKnownHostsFile="{self.known_hosts}"', "-o", "GlobalKnownHostsFile=/dev/null"]
        return given

    def command(self) -> str:
        """Return what a person types to get to this host, with the same files."""
        user, machine, port = self.parts
        words = ["ssh", *self.options(), *(["-p", str(port)] if port else []), f"{user}@{machine}" if user else machine]
        return shlex.join(words)

    def unreachable(self, what: str) -> errors.HostUnreachable:
        return errors.HostUnreachable(host=self.host, what=what)


@dataclass(frozen=True)
class Route:
    """What ``ssh`` would do to reach an address."""

    machine: str
    port: int
    user: str
    identities: tuple[Path, ...]
    only_identities: bool
    known_hosts: tuple[Path, ...]
    known_as: str
    """The name of the host in known_hosts: ``machine``, ``[machine]:port``, or its HostKeyAlias."""
    proxy: str | None
    """The command, for sh, whose input and output lead to the host; None for a plain connection."""
    aliased: bool = False


def resolve(address: Address) -> Route:
    """Ask ``ssh -G`` how it would reach an address. HostUnreachable if its configuration is wrong."""
    found = _configuration(address)
    machine, port, user = found["hostname"][0], int(found["port"][0]), found["user"][0]
    tokens = {"h": machine, "p": str(port), "r": user, "n": address.parts[1], "d": str(Path.home()), "%": "%"}
    alias = found["hostkeyalias"][0] if found["hostkeyalias"] else None
    name = alias or machine.lower()
    known = [
        path for line in found["userknownhostsfile"] + found["globalknownhostsfile"] for path in _paths(line, tokens)
    ]
    keys = [address.identity] if address.identity else [_path(value, tokens) for value in found["identityfile"]]
    return Route(
        machine=machine,
        port=port,
        user=user,
        identities=tuple(keys),
        only_identities=found["identitiesonly"] == ["yes"],
        known_hosts=(address.known_hosts,) if address.known_hosts else tuple(known),
        known_as=name if alias or port == 22 else f"[{name}]:{port}",
        proxy=_proxy(address, found, tokens),
        aliased=alias is not None,
    )


def _configuration(address: Address) -> defaultdict[str, list[str]]:
    user, machine, port = address.parts
    asked = ["ssh", "-G", *address.options()]
    asked += [*(["-l", user] if user else []), *(["-p", str(port)] if port else []), "--", machine]
    try:
        ran = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        what = "the program ssh is missing on this machine; install OpenSSH's client (Debian: openssh-client)"
        raise address.unreachable(what) from None
    except subprocess.TimeoutExpired:
        raise address.unreachable("ssh -G took more than 10 s; look at Match exec in ~/.ssh/config") from None
    if ran.returncode != 0:
        said = (ran.stderr.strip().splitlines() or ["ssh -G failed"])[-1]
        raise address.unreachable(f"{said}; mend the SSH configuration, then try: {address.command()}")
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in ran.stdout.splitlines():
        key, _, value = line.partition(" ")
        if value and value != "none":
            found[key].append(value)
    return found


def _proxy(address: Address, found: Mapping[str, list[str]], tokens: Mapping[str, str]) -> str | None:
    command, jump = found.get("proxycommand"), found.get("proxyjump")
    if command:
        return "exec " + _filled(command[0], tokens)
    if not jump:
        return None
    *before, last = jump[0].split(",")
    asked = ["ssh", *address.options(), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    asked += ["-o", f"ConnectTimeout={max(1, round(address.connect_timeout))}"]
    asked += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "ControlPath=none"]
    asked += [*(["-J", ",".join(before)] if before else []), "-W", f"[{tokens['h']}]:{tokens['p']}"]
    asked += ["--", last if last.startswith("ssh://") else f"ssh://{last}"]
    return "exec " + shlex.join(asked)


def _paths(line: str, tokens: Mapping[str, str]) -> list[Path]:
    """Read a list of files; ssh -G prints it without quotes, so a name with a space is known by being there."""
    whole = _path(line, tokens)
    return [whole] if whole.exists() else [_path(value, tokens) for value in line.split()]


def _path(value: str, tokens: Mapping[str, str]) -> Path:
    return Path(_filled(value.strip('"'), tokens)).expanduser()


def _filled(text: str, tokens: Mapping[str, str]) -> str:
    """Fill in the tokens of ssh_config(5) that are known here."""
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)
