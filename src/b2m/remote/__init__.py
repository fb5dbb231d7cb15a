"""Databases on other hosts: a run happens there as a whole, told and watched from here over one SSH connection."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from b2m.project import Target
    from b2m.remote.link import Link

_links: dict[tuple[Path, str], Link] = {}


def call(verb: str, target: Target, *, events: Any = None, tell: Any = None, **options: Any) -> Any:
    """Do a verb of ``b2m.api`` on a target's host, with one agent for all calls of this process; HostUnreachable."""
    from b2m.remote.link import Link

    at = (target.root, target.host)
    if at not in _links or _links[at].closed:
        _links[at] = Link(target)
    return _links[at].call(verb, target, events, tell, **options)


def close() -> None:
    """End all agents and their connections."""
    while _links:
        _links.popitem()[1].close()


atexit.register(close)
