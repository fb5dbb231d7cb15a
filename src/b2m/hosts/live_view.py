"""What is known of the live file, and the one connection to it.

A comparison with the anchor is done once: as long as the connection sees no commit of another, or the file looks the
same from outside to a later run, its verdict holds.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from b2m.facts import Live
from b2m.hosts import anchor as anchors
from b2m.hosts.anchor import Anchor
from b2m.hosts.place import Place, read_json, write_json
from b2m.sqlite.diff import Changes, compare
from b2m.sqlite.live import LiveFile
from b2m.sqlite.signature import signature


class LiveView:
    """One run's view of the live file of a place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._file: LiveFile | None = None
        self._known: tuple[int, Live] | None = None  # data_version of our connection, and what live then was

    def file(self) -> LiveFile:
        """Return the one connection to the live file, opened on first use."""
        if self._file is None:
            self._file = LiveFile(self.place.live(), self.place.db)
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._known = None

    def known(self) -> Live | None:
        """Return what live is, if nobody wrote since that was found out."""
        if self._file is None or self._known is None:
            return None
        with self._file.reading():
            return self._known[1] if self._file.version() == self._known[0] else None

    def know(self, version: int, live: Live) -> None:
        """Remember what live was at a ``data_version`` of the connection."""
        self._known = (version, live)

    def forget(self) -> None:
        """Forget what was known: it was by another anchor."""
        self._known = None

    def replaced(self, live: Live) -> None:
        """Open the file that just became live, while the server is still away, knowing what it holds."""
        self.close()
        fresh = self.file()
        with fresh.reading():
            self._known = (fresh.version(), live)

    def outside(self, path: Path) -> Live:
        """Return what a live file shows without being opened."""
        return Live(
            path=str(path),
            name=path.name,
            exists=True,
            file_version=self.place.file_version(path),
            size=path.stat().st_size,
            linked=path.parent != self.place.folder,
        )

    def look(self, path: Path, anchor: Anchor | None, found: Live, *, read: bool) -> Live:
        """Add to an outside look what the file has that its anchor lacks.

        Without ``read`` only by what is remembered: a run is under way, and a swap must not find us in its way.
        """
        seen = signature(path)
        known = self.known()
        if known is not None:
            self._remember_verdict(path, anchor, known)
            return known
        remembered = read_json(self.place.state / "verdict.json")
        token = anchor.token if anchor else None
        if (
            seen is not None
            and remembered is not None
            and remembered.get("anchor") == token
            and remembered.get("signature") == seen.to_json()
        ):
            return _live_from(found, remembered)
        if not read:
            return found
        live = self.file()
        if anchor is None:
            with live.reading():
                version = live.version()
            result = Live(**{**vars(found), "dirty": True})
        else:
            base = anchors.check(self.place, anchor)
            changes = compare(base, live)
            assert changes.data_version is not None
            version, result = changes.data_version, _live_with(found, changes)
        self._known = (version, result)
        self._remember_verdict(path, anchor, result)
        return result

    def _remember_verdict(self, path: Path, anchor: Anchor | None, live: Live) -> None:
        """Save the verdict under the file's outside look, if nobody wrote since it was reached."""
        seen = signature(path)
        if seen is None or not seen.settled(time.time_ns()) or self.known() is None:
            return
        # A verdict that cannot be saved is computed again.
        with suppress(OSError):
            write_json(
                self.place.state / "verdict.json",
                {
                    "anchor": anchor.token if anchor else None,
                    "signature": seen.to_json(),
                    "dirty": live.dirty,
                    "rows": live.rows,
                    "schema_changed": live.schema_changed,
                },
            )


def _live_with(found: Live, changes: Changes) -> Live:
    rows = {name: (c.inserted, c.updated, c.deleted) for name, c in changes.tables.items()}
    return Live(**{**vars(found), "dirty": changes.dirty, "rows": rows, "schema_changed": changes.schema_changed})


def _live_from(found: Live, remembered: dict[str, object]) -> Live:
    raw = remembered["rows"]
    assert isinstance(raw, dict)
    rows = {str(name): (int(c[0]), int(c[1]), int(c[2])) for name, c in raw.items()}
    return Live(
        **{
            **vars(found),
            "dirty": bool(remembered["dirty"]),
            "rows": rows,
            "schema_changed": bool(remembered["schema_changed"]),
        }
    )
