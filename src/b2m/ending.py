"""How a run ends: stray rows brought home, one more look, the recap, the record."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from b2m import errors, records, secrets
from b2m.engine import Engine
from b2m.hosts import anchor as anchors
from b2m.hosts import kept as keeping
from b2m.opening import Opened
from b2m.report import Recap
from b2m.run import Run, merge_rules
from b2m.state import Verdict, classify
from b2m.versions import courtesy


def ended(
    found: Opened,
    run: Run,
    engine: Engine,
    before: Verdict,
    act: Callable[[], None],
    *,
    command: str,
    then: Callable[[Recap], None] | None = None,
) -> Recap:
    """Do a run's work, look again, save its record and return its recap; a failure's recap is the error's ``recap``.

    ``then`` is given the recap of a success, before the record is saved; it changes nothing.
    """
    try:
        act()
        after = _look_again(found, run)
    except BaseException as error:
        if isinstance(error, errors.Interrupted):
            error.outcome = engine.outcome
        _count_open_hold(found, run)
        recap = _recap(found, run, engine, before, _outcome(error), getattr(error, "exit_code", 1))
        _record(found, recap, command, error)
        error.recap = recap  # type: ignore[attr-defined]
        raise
    recap = _recap(found, run, engine, before, after.state, 0)
    try:
        _tell_other_tools(run)
        recap = _recap(found, run, engine, before, after.state, 0)  # with the bytes of that
        if then is not None:
            then(recap)
    except errors.Interrupted as stop:
        stop.outcome = "the run itself was over, and what it did stays"
        stop.recap = recap  # type: ignore[attr-defined]
        raise
    finally:
        with run.shielded():
            _record(found, recap, command, None)
    return recap


def _tell_other_tools(run: Run) -> None:
    """Put what tools that are not b2m read into the bucket, after something was published."""
    commit, anchor, target = run.commit, run.facts.anchor, run.target
    if commit is None:
        return
    if target.plain and anchor is not None and anchor.number == commit.number:
        path = anchors.path_of(run.session.place, anchor)
        try:
            courtesy.publish_plain(run.bucket, target.db, target.file_name(commit.number), path)
        except (errors.B2mError, OSError) as error:
            run.events.warn(f"v{commit.number} is published, but not as a plain file too: {error}")
    with contextlib.suppress(errors.BucketError):
        courtesy.publish(run.bucket, target.listed)


def _look_again(found: Opened, run: Run) -> Verdict:
    """Look again; rows that came since the last look are the next run's, anything else would be a bug."""
    carry_strays(found)
    run.observe_locally()
    run.facts = replace(run.facts, in_bucket=replace(run.facts.in_bucket, lease=None))
    return classify(run.facts)


def carry_strays(found: Opened, *, discard: bool = False) -> None:
    """Bring home what somebody wrote to the file that was live before the last swap; StrayRows if that cannot be.

    With ``discard`` the file is set aside then.
    """
    session = found.session
    kept = keeping.load(session.place)
    if kept is None or kept.path == str(session.place.live()):  # whoever looks refuses that
        return
    if kept.restoring:
        keeping.take_back(session.place, kept)
        return
    try:
        changes = keeping.stray_changes(session.place, kept)
        if changes is None:
            return
        found.events.warn(
            f"{found.target.db}: {changes.counts.total} rows were written to {kept.path} after it was replaced, by "
            f"some process that had it open still; they are replayed onto the live file"
        )
        rules = merge_rules(found.target.policy, found.target.host)
        keeping.carry_strays(session.place, kept, session.place.live(), rules)
    except errors.Refused as error:
        if not discard:
            raise errors.StrayRows(db=found.target.db, path=kept.path, what=error) from error
        aside = keeping.set_aside(session.place, kept, session.run)
        keeping.forget(session.place)
        found.events.warn(f"{found.target.db}: {kept.path}, with what was written to it, is {aside} now")


def _outcome(error: BaseException) -> str:
    """Return what a recap says instead of the state after a run that did not go well."""
    kinds = {errors.Refused: "refused", errors.Locked: "locked"}
    return next((word for kind, word in kinds.items() if isinstance(error, kind)), "failed")


def _count_open_hold(found: Opened, run: Run) -> None:
    """Count the downtime, so far, of a hold that could not be ended."""
    hold = found.session.hold
    if hold is not None and hold.began:
        run.count_hold(time.monotonic() - hold.began)


def _recap(found: Opened, run: Run, engine: Engine, before: Verdict, after: str, code: int) -> Recap:
    counters = run.bucket.counters
    anchor = run.facts.anchor
    return Recap(
        db=run.target.db,
        host=run.target.host,
        run=run.id,
        before=before.state,
        after=after,
        from_version=run.old_anchor.number if run.old_anchor else None,
        to_version=anchor.number if anchor else None,
        rows=dict(run.rows),
        tasks=dict(engine.tally),
        downtime_ms=round(run.downtime * 1000),
        holds=run.holds,
        bytes_up=counters.bytes_up,
        bytes_down=counters.bytes_down,
        requests=counters.requests,
        total_ms=round((time.monotonic() - found.began) * 1000),
        exit_code=code,
    )


def _record(found: Opened, recap: Recap, command: str, error: BaseException | None) -> None:
    """Save the run's record on the host, and in the bucket if it did anything there."""
    record: dict[str, Any] = {
        "format": records.FORMAT,
        **recap.to_json(),
        "command": command,
        "ended": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "error": str(error) if error is not None else None,
        "reason": getattr(error, "reason", None),
        "events": found.events.kept,
    }
    record = secrets.redacted(record)
    with contextlib.suppress(OSError):
        records.save(found.session.place, recap.run, record)
    if recap.tasks["changed"] or recap.tasks["failed"]:
        with contextlib.suppress(errors.BucketError):
            found.bucket.put(f"{recap.db}/runs/{recap.run}.json", json.dumps(record).encode())
