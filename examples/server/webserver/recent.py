"""The recent pages of one database: which ones to keep ready, and their text while the database is away."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

MAX_PAGES = 500


class RecentPages:
    """While connected it only remembers which pages were asked for; ``freeze`` renders them at the last moment.

    So a page served from here is as new as the database was when it was let go, and memory is bounded.
    """

    def __init__(self, limit: int = MAX_PAGES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._frozen: dict[str, str] = {}

    def asked(self, key: str) -> None:
        """Note that this page was served; the one that was not asked for longest falls out."""
        with self._lock:
            self._asked[key] = None
            self._asked.move_to_end(key)
            while len(self._asked) > self._limit:
                self._asked.popitem(last=False)

    def freeze(self, first: Iterable[str], render: Callable[[str], str | None]) -> None:
        """Render `first` and the pages asked for most recently, up to the limit in all."""
        with self._lock:
            keys = list(dict.fromkeys([*first, *reversed(self._asked)]))[: self._limit]
        pages = ((key, render(key)) for key in keys)
        self._frozen = {key: text for key, text in pages if text is not None}

    def get(self, key: str) -> str | None:
        """The frozen page, or None."""
        return self._frozen.get(key)

    def thaw(self) -> None:
        """Drop the frozen pages: the database answers again."""
        self._frozen = {}
