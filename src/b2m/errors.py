"""Every error that b2m raises on purpose.

The docstring of a class is its message: a template that is filled with the fields given to the
constructor. The exit code, and for refusals the reason that playbooks and ``--json`` show, sit on the class.
The last sentence of a message says what to do now.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import ClassVar


class B2mError(Exception):
    """{what}"""

    exit_code: ClassVar[int] = 1

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        template = " ".join(cleandoc(self.__class__.__doc__ or "{what}").split())
        super().__init__(template.format(**fields))


class UsageError(B2mError):
    """{what}"""


class InvalidProject(B2mError):
    """{what}"""

    exit_code = 3

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(what="\n".join(problems))


class Locked(B2mError):
    """{db} is being changed by {owner} since {since}: try again later, or look with: b2m locks --db {db}"""

    exit_code = 4


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


class ObjectMissing(BucketError):
    """bucket {bucket}: there is no object {name}"""


class ObjectExists(BucketError):
    """bucket {bucket}: an object {name} exists already"""


class ObjectDamaged(BucketError):
    """bucket {bucket}: object {name} is damaged: {what}"""


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
        super().__init__(f"interrupted by signal {signum}")
