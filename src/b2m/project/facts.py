"""The facts that an expression may name: the documented words between playbooks and the engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from b2m.project.sandbox import FUNCTIONS

FACTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "db": {
            "name": "the database's name in inventory.yaml",
            "key": "its key in db.toml",
            "file": "the pattern of its file name",
            "direction": "both or bucket_to_host",
            "service": "the service of this host that uses the database, or none",
            "rename_due": "true if the live file bears an older number than its version and policy.rename is now",
        },
        "host": {
            "name": "the host's name in inventory.yaml",
            "folder": "the folder of the live file",
            "connection": "how the host is reached",
        },
        "live": {
            "file": "the live file's name",
            "version": "the version it started from",
            "file_version": "the number in the live file's name",
            "dirty": "true if it has rows that are in no version",
        },
        "anchor": {"version": "the version that live started from", "commit": "its token"},
        "head": {"version": "the newest version in the bucket", "commit": "its token"},
        "lease": {
            "owner": "who holds the lease",
            "host": "from which host",
            "since": "since when",
            "age": "for how many seconds",
            "reason": "what for",
        },
        "policy": {
            "naming": "versioned or stable",
            "rename": "now or next_swap",
            "max_downtime": "seconds",
            "merge": "what happens to rows that both sides changed",
            "max_deletes": "how many rows may vanish",
            "lease_ttl": "seconds",
        },
        "run": {"id": "the run's id"},
        "state": {},
        "refusal": {},
        "reason": {},
        "failure": {},
        "recap": {
            "line": "what the run did, in one line",
            "changed": "true if it changed anything here or in the bucket",
            "before": "the state before",
            "after": "the state now",
            "from_version": "the version that live started from before",
            "to_version": "the version that it starts from now",
            "rows": "how many rows were inserted, updated and deleted",
        },
    }
)
"""Fact -> its fields and what they are; a fact without fields is a single value."""

ONLY_IN: Mapping[str, str] = MappingProxyType(
    {"refusal": "on_refused", "reason": "on_refused", "failure": "on_failed", "recap": "on_success"}
)
"""Facts that exist in one section of a playbook only."""

COMMAND_FACTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "db": {name: FACTS["db"][name] for name in ("name", "key", "file")},
        "host": FACTS["host"],
        "service": {"name": "the service's name"},
        "python": {},
        "project": {},
    }
)
"""What the commands of a service may name: they are the same for every run, so that a recovery can repeat them."""


def is_built_in(name: str) -> bool:
    """Whether a name is taken, so that no variable can have it."""
    return name in FACTS or name in COMMAND_FACTS or name in FUNCTIONS
