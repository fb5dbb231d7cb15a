"""Putting another file live on a host, giving the live file its new number, and going back.

The old file is locked exclusively and known to be open nowhere while the switch is made; its intent is journaled
before the lock is taken, so that a crash at any point can be settled from the journal alone.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from b2m import errors, faults
from b2m.facts import Live
from b2m.hosts import anchor as anchors
from b2m.hosts import kept as keeping
from b2m.hosts import switch as switches
from b2m.hosts.anchor import Anchor
from b2m.hosts.kept import Kept
from b2m.hosts.place import Place, fsync_folder, write_json
from b2m.hosts.session import Session
from b2m.hosts.switch import How, Switch
from b2m.sqlite import merge, openers
from b2m.sqlite.live import LiveFile, sidecars
from b2m.sqlite.signature import Signature, signature
from b2m.sqlite.snapshot import copy_file
from b2m.sqlite.swap import Barrier, fsync_file, prepare, set_journal_mode
from b2m.versions.pack import hash_file

DEFAULT_JOURNAL_MODE = "wal"  # of a file that no live file precedes

# What the server accepted must survive whatever another file says of the same row: it was acknowledged last.
CARRY = merge.Rules(merge.Rule("ours"), max_deletes_rows=sys.maxsize, max_deletes_share=1.0, any_triggers=True)


def swap(session: Session, name: str, number: int, rows: Live) -> Path:
    """Put the verified file ``name`` live as version ``number``; return the new live path.

    ``rows`` says what the new live file has that its anchor, the downloaded head, lacks.
    """
    place, candidate = session.place, session.work.file(name)
    if lacks := session.work.unproven(name):
        raise errors.NotVerified(db=place.db, file=name, lacks=", ".join(lacks))
    assert session.work.head is not None
    old = place.live()
    exists = old.exists()
    expected = session.work.note_consumed(name)
    if exists and expected is None:
        raise errors.LiveChanged(db=place.db, path=old)
    new = _target(place, old, number)
    journal_mode = session.live.file().journal_mode() if exists else DEFAULT_JOURNAL_MODE
    # A version of the number that live bears already replaces it under that name.
    how: How = "versioned" if place.versioned and (new != old or not exists) else "stable"
    if not exists:
        _like_folder(candidate, place)
    prepare(candidate, old if exists else candidate, journal_mode)
    anchor = anchors.load(place)
    previous = keeping.load(place)
    if previous is not None:
        _require_unwritten(place, previous)
        previous = keeping.load(place)  # which may have noted how the file looks now
    record = None
    if exists:
        keep_folder = place.state / "kept"
        keep_folder.mkdir(exist_ok=True)
        base = keep_folder / f"{session.run}.base.db"
        record = Kept(
            how=how,
            path=str(old if how == "versioned" else keep_folder / f"{session.run}.{old.name}"),
            name=old.name,
            base=str(base),
            journal_mode=journal_mode,
            anchor=anchor.to_json() if anchor else None,
            head=session.work.head.to_json(),
            since=str(session.work.saved) if session.work.saved else None,
            entry=place.entry(),
        )
    switch = Switch(
        how=how,
        old=str(old) if exists else None,
        new=str(new),
        staged=str(candidate),
        inode=candidate.stat().st_ino,
        journal_mode=journal_mode,
        kept=record.path if record is not None and how == "stable" else None,
        anchor=session.work.head.to_json(),
        anchor_file=str(session.work.paths["head"]),
        record=record.to_json() if record else None,
        old_entry=place.entry() if exists else None,
        new_entry=place.entry() if how == "stable" else new.name,
    )
    if record is not None:
        # What tells rows that come later from those that are carried over already: it must be there after a power loss.
        rows_at_swap = session.work.copy_of_live(name)
        fsync_file(rows_at_swap)
        rows_at_swap.replace(record.base)
        fsync_folder(keep_folder)
    seen = _switch(session, switch, session.live.file() if exists else None, expected)
    session.swapped = True
    session.work.paths.pop(name)
    session.work.paths.pop("head")
    if previous is not None and previous.path != str(new):
        session.set_aside = _let_go(place, previous, session.run)
    if record is not None:
        keeping.remember_signature(place, record, seen)
    shown = session.live.outside(new)
    session.live.replaced(
        replace(
            rows, path=shown.path, name=shown.name, exists=True, file_version=shown.file_version, linked=shown.linked
        )
    )
    return new


def rename(session: Session, number: int) -> Path:
    """Give the live file, whose rows stay as they are, the name of version ``number``; return its path."""
    place = session.place
    old = place.live()
    new = _target(place, old, number)
    live = session.live.file()
    known = session.live.known()
    journal_mode = live.journal_mode()
    inode, entry = old.stat().st_ino, place.entry()
    switch = Switch("rename", str(old), str(new), str(old), inode, journal_mode, old_entry=entry, new_entry=new.name)
    with live.reading():
        version = live.version()
    _switch(session, switch, live, version)
    if known is not None:
        session.live.replaced(replace(known, path=str(new), name=new.name, file_version=number))
    return new


def restore(session: Session, kept: Kept, base: Path | None, origin: tuple[Anchor, Path] | None) -> Path:
    """Make the kept file live again, with every row that was written to its successor since; return its path.

    ``base`` is a file with the rows of the successor as they were when it became live, None if nobody wrote to it;
    ``origin`` is what ``origin`` returns. The successor goes to ``failed/``.
    """
    place = session.place
    failed, back = place.live(), Path(kept.path)
    live = session.live.file()
    if base is None:
        with live.reading():
            consumed = live.version()
    else:
        if keeping.stray_changes(place, kept) is not None:
            # What was written to it stays in it; but if this is cut off, they must be in its successor too.
            keeping.carry_strays(place, kept, failed, replace(CARRY, default=merge.Rule("theirs")))
        write_json(place.state / "kept.json", {**kept.to_json(), "restoring": True})
        done = merge.replay(place.db, base, live, back, CARRY)
        assert done.data_version is not None
        consumed = done.data_version
    aside = place.state / "failed" / f"{session.run}.{failed.name}"
    aside.parent.mkdir(exist_ok=True)
    prepare(back, failed, kept.journal_mode)
    anchor, anchor_file = origin or (None, None)
    switch = Switch(
        how="stable" if kept.how == "stable" else "versioned",
        old=str(failed),
        new=str(failed if kept.how == "stable" else back),
        staged=str(back),
        inode=back.stat().st_ino,
        journal_mode=kept.journal_mode,
        kept=str(aside),
        anchor=anchor.to_json() if anchor else None,
        anchor_file=str(anchor_file) if anchor_file else None,
        record=None,
        old_entry=place.entry(),
        new_entry=place.entry() if kept.how == "stable" else _entry_of(place, back, kept),
    )
    _switch(session, switch, live, consumed)
    session.swapped = False
    Path(kept.base).unlink(missing_ok=True)
    session.live.close()
    return Path(switch.new)


def _entry_of(place: Place, file: Path, kept: Kept) -> str:
    """Return a name that leads from the folder to a kept file: a link that ``db.toml`` had may lead elsewhere now."""
    names = (kept.entry, file.name, os.path.relpath(file, os.path.realpath(place.folder)))
    return next(name for name in names if name is not None and os.path.realpath(place.folder / name) == str(file))


def origin(
    session: Session, kept: Kept, successor: Path | None, base: Path | None = None
) -> tuple[Anchor, Path] | None:
    """Return the anchor of the kept file for when it is live again, and its file; None if it started from no version.

    It is the version that it started from (``base``, if the state folder no longer has it), with the rows that were
    published from here since: otherwise the next run would take its own rows in the head for somebody else's.
    ``successor`` is a file with the rows of the successor as they were when it became live.
    """
    place, now = session.place, anchors.load(session.place)
    if kept.anchor is None:
        return None
    start = Anchor.from_json(dict(kept.anchor))
    file = base or anchors.path_of(place, start)
    if successor is None or now is None or now.token == kept.head["token"]:
        return start, file
    common = place.work(session.run) / "common.db"
    copy_file(file, common)
    merge.replay(place.db, _not_carried(kept, file), Path(kept.base), common, CARRY)
    merge.replay(place.db, successor, anchors.check(place, now), common, CARRY)
    blake3, size = hash_file(common)
    return Anchor(start.number, start.token, blake3, size, start.bucket_id, derived=True), common


def _not_carried(kept: Kept, anchor: Path) -> Path:
    """Return the file that the successor's share of the kept file's rows is counted from."""
    return Path(kept.since) if kept.since else anchor


def rebuild_successor(session: Session, kept: Kept, head: Path, base_anchor: Path | None, rules: merge.Rules) -> Path:
    """Build anew, from files that do not change, what the successor of the kept file held when it became live.

    It was the head with the kept file's own rows replayed onto it, and a replay gives the same rows each time.
    """
    target = session.place.work(session.run) / "successor.db"
    target.unlink(missing_ok=True)
    copy_file(head, target)
    if base_anchor is not None:
        # What was believed of the deletions when they were replayed, in steps and under the limits of that day, holds.
        rules = CARRY if kept.since else replace(CARRY, default=rules.default, tables=rules.tables)
        merge.replay(session.place.db, _not_carried(kept, base_anchor), Path(kept.base), target, rules)
    return target


def _switch(session: Session, switch: Switch, live: LiveFile | None, expected: int | None) -> Signature | None:
    """Journal, lock, switch, look again, finish; on any failure the old file is live and as it was.

    Returns how the old file looked while it was locked.
    """
    place, journal = session.place, session.journal
    journal.append("switch", **switch.to_json())
    if live is None:
        try:
            switches.make(place, switch)
            switches.finish(place, switch)
        except BaseException:
            if not switches.made(place, switch):
                switches.revert(place, switch)
                journal.append("unswitched")
            raise
        journal.append("switched")
        return None
    before = signature(Path(switch.staged))
    try:
        assert expected is not None
        with Barrier(live, expected) as barrier:
            faults.point("switch:locked")
            switches.make(place, switch)
            faults.point("switch:made")
            try:
                barrier.check_again()
            except errors.StillOpen:
                # Whoever had the old file is a stray from now on if somebody uses the new one already: its rows are
                # carried over at the end of the run, while those in the new one would be lost.
                if switch.record is None or not _in_use(Path(switch.new), before):
                    switches.unmake(place, switch)
                    raise
            seen = signature(live.path) if switch.record is None else signature(Path(switch.record["path"]))
            switches.finish(place, switch)
        faults.point("switch:unlocked")
        if switch.how == "rename":
            # Its journal mode went with its old name; a swapped-in file was given its own before.
            session.live.close()
            set_journal_mode(Path(switch.new), switch.journal_mode)
        journal.append("switched")
    except BaseException:
        session.live.close()
        if not switches.made(place, switch):
            switches.revert(place, switch)
            journal.append("unswitched")
        raise
    return seen


def _target(place: Place, old: Path, number: int) -> Path:
    """Return the path of the next live file; a file of that name that b2m did not put there is refused.

    So is a log of that name: SQLite would play a stale one back into the new file.
    """
    new = place.folder / place.file_name(number) if place.versioned else old
    if new == old and old.exists():
        return old
    kept = keeping.load(place)
    if kept is not None and kept.path == str(new):
        _require_unwritten(place, kept)
        keeping.drop(place, kept)
    if new.exists():
        raise errors.InTheWay(db=place.db, path=new)
    for log in sidecars(new):
        if not log.name.endswith("-shm") and log.exists() and log.stat().st_size:
            raise errors.InTheWay(db=place.db, path=log)
    return new


def _require_unwritten(place: Place, kept: Kept) -> None:
    """Refuse to let go of a kept file that somebody has open, or wrote to since this run carried its rows over.

    What he writes would be written nowhere.
    """
    path = Path(kept.path)
    found = openers.who_has_open([path])
    if found:
        raise errors.StillOpen(db=place.db, path=path, who=", ".join(map(str, found[:3])))
    if keeping.stray_changes(place, kept) is not None:
        raise errors.KeptWritten(db=place.db, path=path, host=place.host)


def _let_go(place: Place, kept: Kept, run: str) -> Path | None:
    """Remove a kept file that another takes the place of; one that was written to in this moment is set aside."""
    path = Path(kept.path)
    if path == place.live():
        return None
    seen = signature(path)
    if seen is not None and kept.signature is not None and seen.to_json() != kept.signature:
        return keeping.set_aside(place, kept, run)
    path.unlink(missing_ok=True)
    Path(kept.base).unlink(missing_ok=True)
    return None


def _in_use(new: Path, before: Signature | None) -> bool:
    """Tell whether somebody has opened or written the file that was just put live."""
    now = signature(new)
    written = before is not None and now is not None and replace(now, journal=before.journal) != before
    return written or bool(openers.who_has_open([new, *sidecars(new)]))


def _like_folder(candidate: Path, place: Place) -> None:
    """Give the first live file of a folder the folder's owner, and the mode that files there are expected to have."""
    found = place.folder.stat()
    with suppress(PermissionError):
        os.chown(candidate, found.st_uid, found.st_gid)
    candidate.chmod(0o644)
