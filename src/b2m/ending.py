"""How a run ends: stray rows brought home, one more look, the recap, the record."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from b2m import errors, records
from b2m.engine import Engine
from b2m.hosts import kept as keeping
from b2m.opening import Opened
from b2m.report import Recap
from b2m.run import Run, merge_rules
from b2m.state import Verdict, classify
from b2m.versions import courtesy


def ended(found: Opened, run: Run, engine: Engine, before: Verdict, act: Callable[[], None], *, command: str) -> Recap:
    """Do a run's work, look again, save its record and return its recap; a failure's recap is the error's ``recap``."""
    try:
        act()
        after = _look_again(found, run)
    except BaseException as error:
        if isinstance(error, errors.Interrupted):
            error.outcome = engine.outcome
        recap = _recap(found, run, engine, before, None, getattr(error, "exit_code", 1))
        _record(found, recap, command, error)
        error.recap = recap  # type: ignore[attr-defined]
        raise
    if run.commit is not None:
        with contextlib.suppress(errors.BucketError):
            courtesy.publish(run.bucket, run.target.listed)
    recap = _recap(found, run, engine, before, after, 0)
    _record(found, recap, command, None)
    return recap


def _look_again(found: Opened, run: Run) -> Verdict:
    """Look again; rows that came since the last look are the next run's, anything else would be a bug."""
    carry_strays(found)
    run.observe_locally()
    run.facts = replace(run.facts, in_bucket=replace(run.facts.in_bucket, lease=None))
    return classify(run.facts)


def carry_strays(found: Opened) -> None:
    """Bring home what somebody wrote to the file that was live before the last swap."""
    session = found.session
    kept = keeping.load(session.place)
    if kept is None:
        return
    if kept.restoring:
        keeping.take_back(session.place, kept)
        return
    changes = keeping.stray_changes(session.place, kept)
    if changes is None:
        return
    found.events.warn(
        f"{found.target.db}: {changes.counts.total} rows were written to {kept.path} after it was replaced, by "
        f"some process that had it open still; they are replayed onto the live file"
    )
    keeping.carry_strays(session.place, kept, session.place.live(), merge_rules(found.target.policy))


def _recap(found: Opened, run: Run, engine: Engine, before: Verdict, after: Verdict | None, code: int) -> Recap:
    counters = run.bucket.counters
    anchor = run.facts.anchor
    return Recap(
        db=run.target.db,
        host=run.target.host,
        run=run.id,
        before=before.state,
        after=after.state if after else "failed",
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
        "error": str(error) if error is not None else None,
        "reason": getattr(error, "reason", None),
        "events": found.events.kept,
    }
    with contextlib.suppress(OSError):
        records.save(found.session.place, recap.run, record)
    if recap.tasks["changed"] or recap.tasks["failed"]:
        with contextlib.suppress(errors.BucketError):
            found.bucket.put(f"{recap.db}/runs/{recap.run}.json", json.dumps(record).encode())
