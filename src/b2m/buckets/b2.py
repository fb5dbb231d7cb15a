"""Backblaze B2: which of its ways of creating a name a project's entry asks for, and what its keys may do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from b2m.buckets.b2_account import DATA_RIGHTS, LOCK_RIGHTS, Account
from b2m.buckets.b2_locks import BucketInfo
from b2m.buckets.b2_store import B2Store
from b2m.buckets.flagged import FlaggedBucket
from b2m.buckets.locked import LockedBucket
from b2m.buckets.rights import Rights

__all__ = ["FlaggedB2", "LockedB2", "open_b2"]

_WHY = "B2 has no create-if-absent and no lock bucket is named (locks:)"


class FlaggedB2(FlaggedBucket):
    """B2 with its data key only."""

    def __init__(self, store: B2Store) -> None:
        super().__init__(store, why=_WHY)
        self._store = store

    def rights(self) -> list[Rights]:
        """Return what the key may do; BucketError."""
        return [self._store.account.rights()]

    def written_at(self, name: str) -> datetime:
        """Return when an object was written, by the store's clock; ObjectMissing."""
        return self._reading(name, self._store.written_at)


class LockedB2(LockedBucket):
    """B2 with a lock bucket and its key."""

    def __init__(self, store: B2Store, record: BucketInfo) -> None:
        super().__init__(store, record, where=f"lock bucket {record.name}")
        self._store = store
        self._info = record

    def rights(self) -> list[Rights]:
        """Return what the data key and the lock key may do; BucketError."""
        return [self._store.account.rights(), self._info.account.rights()]

    def written_at(self, name: str) -> datetime:
        """Return when an object was written, by the store's clock; ObjectMissing."""
        return self._reading(name, self._store.written_at)


def open_b2(
    url: str, realm: str, key_id: str, key: str, locks: Mapping[str, str] | None = None
) -> FlaggedB2 | LockedB2:
    """Return the bucket of an entry, without asking it anything yet.

    ``url`` is ``b2://bucket/prefix``, ``realm`` "production" or an address. With ``locks`` (``url``, ``key_id``,
    ``key`` of the lock bucket) names are created by compare-and-swap, else by flags.
    """
    store = B2Store(Account(url, realm, key_id, key, DATA_RIGHTS))
    if locks is None:
        return FlaggedB2(store)
    account = Account(locks["url"], realm, locks["key_id"], locks["key"], LOCK_RIGHTS)
    account.counters = store.counters  # requests to the lock bucket are this bucket's too
    return LockedB2(store, BucketInfo(account))
