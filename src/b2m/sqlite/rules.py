"""What a playbook's policy says about merging: who wins a conflict, how many deletions are believable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from b2m.errors import TooManyDeletes
from b2m.sqlite.diff import Changes

OnConflict = Literal["fail", "ours", "theirs", "newest"]

ALWAYS_ALLOWED = 10


@dataclass(frozen=True)
class Rule:
    """Who wins where both sides changed a row: nobody, the server, the newer version, or the larger column `by`."""

    on_conflict: OnConflict = "fail"
    by: str | None = None


@dataclass(frozen=True)
class Rules:
    """The rule of each table, and the limits for deletions: rows, and a share of the table (0.10 is 10 %).

    `host` is named in what is refused. `any_triggers`: rows go also where a trigger has not seen them, as on
    the way back to an older file, on which nobody else works.
    """

    default: Rule = Rule()
    tables: Mapping[str, Rule] = field(default_factory=dict)
    max_deletes_rows: int = 1000
    max_deletes_share: float = 0.10
    host: str = "local"
    any_triggers: bool = False

    def of(self, table: str) -> Rule:
        """Return the rule of a table."""
        return self.tables.get(table, self.default)

    def allowed_deletes(self, rows: int) -> int:
        """Return how many of a table's `rows` may go at once.

        The share of the rows, but ten at least, so that small tables can be tidied; never more than the row limit.
        """
        return min(self.max_deletes_rows, max(ALWAYS_ALLOWED, int(self.max_deletes_share * rows)))


def check_deletes(db: str, changes: Changes, rules: Rules) -> None:
    """Raise TooManyDeletes if a table lost more rows than the rules believe."""
    for table, counts in changes.tables.items():
        if counts.deleted:
            check_table_deletes(db, table, counts.deleted, changes.base_rows[table], rules)


def check_table_deletes(db: str, table: str, deleted: int, rows: int, rules: Rules) -> None:
    """Raise TooManyDeletes if `deleted` of `rows` rows are more than the rules believe."""
    limit = rules.allowed_deletes(rows)
    if deleted > limit:
        raise TooManyDeletes(db=db, host=rules.host, deleted=deleted, total=rows, table=table, limit=limit)
