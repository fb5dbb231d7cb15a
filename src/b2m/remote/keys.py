"""Which keys are shown to a server: the ones that ``ssh`` would show. Nothing here ever asks for a passphrase."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from b2m.remote.address import Route
from b2m.remote.known_hosts import fingerprint

if TYPE_CHECKING:
    from paramiko import PKey
    from paramiko.agent import Agent


class Keys:
    """The keys for one attempt, and in ``tried`` what became of each, for the error message."""

    def __init__(self, route: Route, agent: Agent) -> None:
        self.tried: list[str] = []
        self._route = route
        self._agent = {key.asbytes(): key for key in agent.get_keys()}

    def __iter__(self) -> Iterator[PKey]:
        """Yield the identity files' keys, from the agent where it has them, then the agent's others."""
        for path in self._route.identities:
            held = self._agent.pop(_public(path), None)
            key = held if held is not None else self._load(path)
            if key is not None:
                self.tried.append(f"{path} ({fingerprint(key.asbytes())})")
                yield key
        if not self._route.only_identities:
            for blob, key in self._agent.items():
                self.tried.append(f"the agent's {fingerprint(blob)}")
                yield key

    def _load(self, path: Path) -> PKey | None:
        from paramiko import PasswordRequiredException, PKey, SSHException

        try:
            return PKey.from_path(path)
        except FileNotFoundError:
            return None
        except (PasswordRequiredException, TypeError):
            self.tried.append(f"{path} needs its passphrase: ssh-add {path}")
        except (OSError, ValueError, SSHException) as error:
            self.tried.append(f"{path} cannot be read ({error})")
        return None


def _public(path: Path) -> bytes:
    """The wire form of the public key beside an identity file; empty if there is none."""
    try:
        return base64.b64decode(path.with_name(path.name + ".pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return b""
