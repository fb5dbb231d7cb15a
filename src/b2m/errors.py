"""Every error that b2m raises on purpose.

The docstring of a class is its message: a template that is filled with the fields given to the
constructor. The exit code, and for refusals the reason that playbooks and ``--json`` show, sit on the class.
The last sentence of a message says what to do now.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import ClassVar


def runbook(exit_code: int, reason: str | None = None) -> str:
    """Return the runbook's entry for a refusal's reason, or for an exit code."""
    return f"docs/runbook.md#{reason or f'exit-code-{exit_code}'}"


class B2mError(Exception):
    """{what}"""

    exit_code: ClassVar[int] = 1

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        template = " ".join(cleandoc(self.__class__.__doc__ or "{what}").split())
        super().__init__(template.format(**fields))

    @property
    def help(self) -> str:
        """Where the runbook says what this means and what to do."""
        return runbook(self.exit_code, getattr(self, "reason", None))


class UsageError(B2mError):
    """{what}"""


class InvalidProject(B2mError):
    """{what}"""

    exit_code = 3

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(what="\n".join(problems))


class SecretMissing(B2mError):
    """secret {name}: {what}; {now}"""

    exit_code = 3


class Locked(B2mError):
    """{db} is being changed by {owner} since {since}: try again later, or look with: b2m locks --db {db}"""

    exit_code = 4


class Paused(Locked):
    """{db} is paused until {until} by {owner} ({why}): try again later, or end it with: b2m resume --db {db}"""

    reason = "paused"


class HostUnreachable(B2mError):
    """host {host}: {what}"""

    exit_code = 5


class TaskFailed(B2mError):
    """{what}"""

    exit_code = 6


class UndoFailed(B2mError):
    """{what}"""

    exit_code = 7


class BucketError(B2mError):
    """bucket {bucket}: {what}"""

    exit_code = 9
    unreachable = False  # whether no answer came at all, to any of the tries


class ObjectMissing(BucketError):
    """bucket {bucket}: there is no object {name}"""


class ObjectExists(BucketError):
    """bucket {bucket}: an object {name} exists already"""


class ObjectDamaged(BucketError):
    """bucket {bucket}: object {name} is damaged: {what}"""


class ExistsTwice(BucketError):
    """bucket {bucket}: {what}"""


class LeaseLost(BucketError):
    """bucket {bucket}: the lease on {db} was lost ({what}); nothing was published, run the same command again"""


class ChangesPending(B2mError):
    """{what}"""

    exit_code = 10


class Refused(B2mError):
    """{what}"""

    exit_code = 8
    reason: ClassVar[str] = "refused"


class Interrupted(BaseException):
    """A signal asked the run to stop; what it did is undone. Not an Exception, so that no handler swallows it."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.exit_code = 128 + signum
        self.outcome = "what was done is undone"
        super().__init__(f"interrupted by signal {signum}")


class BucketLost(Refused):
    """{db}: {what}; nothing was changed. Mount or name the right bucket; \
an empty one is set up with: b2m bucket.init"""

    reason = "bucket_lost"


class Unfinished(Refused):
    """{db}: run {run} on {host} was cut off; the next sync finishes or undoes it: \
b2m sync --db {db} --host {host}"""

    reason = "unfinished"


class Unreadable(Refused):
    """{db}: {path}: {what}; nothing was changed"""

    reason = "unreadable"


class LiveMissing(Refused):
    """{db}: {path} is gone, but this host had v{version} of it: put the file back, or fetch a version with: \
b2m download --db {db} --host {host}"""

    reason = "live_missing"


class NothingHere(Refused):
    """{db}: there is no file {path} and no version in the bucket: put the database there, by that name, then run: \
b2m sync --db {db} --host {host}"""

    reason = "nothing_here"


class NoBase(Refused):
    """{db}: {path} and v{head} in the bucket exist, but nothing tells which version the file started from; \
find out with: b2m adopt --db {db} --host {host}"""

    reason = "no_base"


class Diverged(Refused):
    """{db}: this host started from v{version}, which is not in the history of v{head}; \
see both with: b2m history --db {db}"""

    reason = "diverged"


class ChangedUnderNumber(Refused):
    """{db}: v{version} in the bucket is another than the v{version} that this host knows; \
compare with: b2m history --db {db}"""

    reason = "changed_under_number"


class ClockSkew(Refused):
    """{db}: the clocks differ by {seconds} s: set this machine's clock"""

    reason = "clock_skew"


class ReadOnlyHost(Refused):
    """{db}: {path} has {rows} changed rows, but {host} only receives this database; \
save them elsewhere, then: b2m download --db {db} --host {host} --discard"""

    reason = "read_only_host"


class Conflict(Refused):
    """{db}: {count} rows were changed on both sides, first {first}; \
set another rule for the table in policy.merge, or settle the rows by hand and run again"""

    reason = "conflict"
    conflicts: tuple[object, ...] = ()  # the first hundred, each printable


class CannotReplay(Refused):
    """{db}: {what}; b2m cannot replay that yet, so nothing was changed"""

    reason = "cannot_replay"


class TooManyDeletes(Refused):
    """{db}: {deleted} of {total} rows of {table} are gone, more than policy.max_deletes allows ({limit}); \
look with: b2m diff --db {db} --host {host}"""

    reason = "mass_deletion"


class StillOpen(Refused):
    """{db}: {path} is still open in {who}; end it, or mend the service's disconnect or stop command"""

    reason = "still_open"


class LiveChanged(Refused):
    """{db}: {path} was written after the last replay; add a replay from live inside the hold, before the swap"""

    reason = "live_changed"


class ReplacedLive(Refused):
    """{db}: {toml} names {path}, which {newer} replaced on this host; let it name {newer} again, then: \
b2m sync --db {db} --host {host}"""

    reason = "replaced_live"


class StrayRows(Refused):
    """{db}: {path} was written to after another file replaced it, and its rows cannot be carried over: {what}"""

    reason = "stray_rows"


class KeptWritten(Refused):
    """{db}: somebody wrote to {path}, which was replaced before this run began; its rows are carried over by: \
b2m sync --db {db} --host {host}"""

    reason = "kept_written"


class NotOnHead(Refused):
    """{db}: the file to upload does not start from v{head}, the newest version; run again: \
b2m sync --db {db} --host {host}"""

    reason = "not_on_head"


class NotVerified(Refused):
    """{db}: {file} was not verified in full, {lacks} is missing; add it to the checks of a verify before this task"""

    reason = "not_verified"


class NotReplayed(Refused):
    """{db}: {file} lacks the rows of the snapshot {snapshot}; add a replay from it, before the replay from live"""

    reason = "not_replayed"


class VerifyFailed(Refused):
    """{db}: {file} failed verification: {what}"""

    reason = "failed_verification"


class InTheWay(Refused):
    """{db}: {path} exists, and b2m did not put it there: move it away and run again"""

    reason = "in_the_way"


class AlreadyPublished(Refused):
    """{db} has versions already, the newest is v{version}: only a database without any can be imported"""

    reason = "already_published"


class NothingKept(Refused):
    """{db}: {host} keeps no earlier file to roll back to"""

    reason = "nothing_kept"


class NoSpace(Refused):
    """{db}: {folder} has {free} free, the run needs {needed}: make room and run again"""

    reason = "no_space"


class UnsavedRows(Refused):
    """{db}: {path} has {rows} rows that are in no version; publish them with: b2m sync --db {db} --host {host}, \
or drop them with: b2m download --db {db} --host {host} --discard"""

    reason = "unsaved_rows"


class AnchorDamaged(Refused):
    """{db}: the anchor {path} {what}; fetch it anew with: \
b2m adopt --db {db} --host {host}"""

    reason = "anchor_damaged"


class TooOld(Refused):
    """{db}: {what}, and --max-age allows {allowed}; see why with: b2m doctor --db {db} --host {host}"""

    reason = "too_old"


class UnknownFormat(Refused):
    """{what} has format {found}, this b2m reads up to {known}: install a newer b2m"""

    reason = "unknown_format"
