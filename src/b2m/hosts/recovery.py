"""Settling what a dead run announced in its journal and did not finish.

The guard does it at once, for what is on the host; the next run does it too, and adds what needs the bucket.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from b2m import faults, secrets
from b2m.errors import Locked, TaskFailed, UndoFailed
from b2m.hosts import switch as switches
from b2m.hosts.lock import HostLock
from b2m.hosts.place import Place
from b2m.hosts.service import Service, ServiceError
from b2m.journal import Journal
from b2m.sqlite.swap import set_journal_mode

PAUSES = (5.0, 30.0, 120.0)  # seconds before another attempt at boot


def recover_host(place: Place, *, service: bool = True, now: Service | None = None) -> list[str]:
    """Finish or take back a switch, then give the server back; return what was done, in words.

    Without ``service`` only the files are settled: the run is alive and gives the server back itself. ``now`` is the
    service as the inventory has it by now: it is tried where the journal's commands fail, which may have been mended.

    Errors of the service command come out after the files are settled; the journal then still says "hold", so that
    the next run tries again.
    """
    journal = Journal(place.journal)
    pending = journal.pending()
    acts: list[str] = []
    if pending.switch is not None or pending.hold is not None:
        journal.use_reserve()  # a full disk may be what cut the run off
    if pending.switch is not None:
        switch = switches.Switch.from_json(pending.switch)
        if switches.made(place, switch):
            switches.finish(place, switch)
            if switch.how == "rename":
                set_journal_mode(Path(switch.new), switch.journal_mode)
            journal.append("switched")
            acts.append(f"finished the switch to {switch.new}")
        else:
            switches.revert(place, switch)
            journal.append("unswitched")
            acts.append(f"took back the switch to {switch.new}")
    if service and pending.hold is not None:
        held = Service.from_json(pending.hold["service"])
        _give_back(held, now, was_well=pending.hold.get("was_well", True))
        journal.append("released")
        acts.append(f"gave {place.db} back to {held.name}")
    return acts


def _give_back(held: Service, now: Service | None, *, was_well: bool) -> None:
    """Give the server back as the dead run would have, or else as the inventory says now; ServiceError."""
    try:
        held.give_back(was_well=was_well)
    except ServiceError as error:
        tried = f"{error} (`{held.back}` is what the run that was cut off noted in its journal)"
        if now is None or now == held:
            raise ServiceError(tried) from None
        try:
            now.give_back(was_well=was_well)
        except ServiceError as second:
            raise ServiceError(f"{tried}; and as inventory.yaml has it now: {second}") from None


def recover_folder(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Settle what dead runs left in a folder of databases; yield each such database, and what was done, in words.

    For a machine that comes up again: neither project nor bucket is needed, and what only the bucket can tell is left
    to the next run. A database that a live run or guard is at is left to it.
    """
    if not folder.is_dir():
        raise TaskFailed(what=f"there is no folder {folder}")
    wrong: list[str] = []
    for path in sorted((folder / ".b2m").glob("*/journal.jsonl")):
        try:
            found = Journal(path).pending().place
            if found is None:
                continue
            # The folder may have been moved since.
            place = Place.from_json({**found, "folder": folder})
            lock = HostLock(place.state / "lock", place.db, "recover")
            try:
                acts = recover_host(place)
            finally:
                lock.close()
        except Locked:
            continue
        except Exception as error:  # the next database's server waits too
            wrong.append(f"{path.parent.name}: {error}")
            continue
        yield place.db, acts
    if wrong:
        raise UndoFailed(what="; ".join(wrong))


def main(folders: list[str]) -> int:
    """Settle what dead runs left in folders of databases, for a host without the command line; return the exit code.

    At boot a server may take its time to come up, so that what cannot be settled is tried again.
    """
    left = dict.fromkeys(folders, "")
    for pause in (*PAUSES, None):
        for folder in list(left):
            try:
                for db, acts in recover_folder(Path(folder)):
                    for act in acts:
                        print(f"{db}  {act}", flush=True)
                del left[folder]
            except Exception as error:  # the next folder's server waits too
                left[folder] = str(error)
        if not left or pause is None:
            break
        time.sleep(faults.setting("BOOT_PAUSE", pause))
    for folder, what in left.items():
        print(secrets.redacted(f"b2m: {folder}: {what}"), file=sys.stderr, flush=True)
    return 7 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
