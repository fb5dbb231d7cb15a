"""The lock bucket: its bucketInfo as one small record that is changed by compare-and-swap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from b2m.buckets.b2_account import Account
from b2m.errors import BucketError

_MOST_KEYS = 10  # B2's limit


class BucketInfo:
    """``bucketInfo`` of ``account``'s bucket and its revision, which goes up with every change."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.name = account.url

    def read(self) -> tuple[int, dict[str, str]]:
        """Return the revision and what is recorded, as they are now; BucketError."""
        found = self.account.describe()
        revision = found["revision"]
        # Without a revision an update would have no condition.
        if not isinstance(revision, int):
            raise BucketError(bucket=self.name, what="the store does not say the lock bucket's revision; use no locks:")
        return revision, dict(found["bucketInfo"])

    def swap(self, revision: int, info: Mapping[str, str]) -> bool:
        """Record ``info`` if the revision is still that one; False if it is not.

        False may also mean that an answer was lost and the swap was made: read again, a token tells.
        """
        from b2sdk.v3.exception import Conflict

        if len(info) > _MOST_KEYS:
            what = f"its bucketInfo holds {_MOST_KEYS} databases at most: use another lock bucket for further ones"
            raise BucketError(bucket=self.name, what=what)
        account, bucket = self.account.account_id(), self.account.bucket_id()

        def update(session: Any) -> bool:
            try:
                session.update_bucket(account, bucket, bucket_info=dict(info), if_revision_is=revision)
            except Conflict:
                return False
            return True

        return self.account.call("cannot record a creation", update, needs="writeBuckets", within=20.0)
