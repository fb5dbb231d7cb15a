"""What the machine did to a run, as the error that its user is told."""

from __future__ import annotations

import apsw

from b2m import errors


def as_failure(error: BaseException, db: str, outcome: str) -> BaseException:
    """Return b2m's own errors as they are, the disk's and SQLite's as TaskFailed, and bugs as bugs.

    ``outcome`` is the end of the sentence: what became of the run.
    """
    if isinstance(error, errors.B2mError | errors.Interrupted):
        return error
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return errors.TaskFailed(what=f"{db}: {error.strerror or error}{where}; {outcome}")
    if isinstance(error, apsw.Error):
        return errors.TaskFailed(what=f"{db}: SQLite: {error}; {outcome}")
    return error
