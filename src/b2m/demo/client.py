"""Somebody who uses the demo's web server, and remembers what it acknowledged."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field

from b2m.events import Event


@dataclass
class Client:
    """Inserts and reads entries over HTTP; ``prefix`` begins every slug, so that no entry is there already."""

    port: int
    prefix: str
    acknowledged: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def insert(self, count: int = 1) -> None:
        """Insert entries, each under a slug of its own."""
        for _ in range(count):
            slug = f"{self.prefix}{len(self.acknowledged) + len(self.failed)}"
            if self._ask("POST", "/ipm", {"slug": slug, "name": f"{slug} 🙂", "summary": '"quoted" ? text\n'}):
                self.acknowledged.append(slug)

    def read(self) -> None:
        """Read the entry that was inserted last."""
        self._ask("GET", f"/ipm/{self.acknowledged[-1]}")

    def _ask(self, method: str, path: str, entry: dict[str, str] | None = None) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, json.dumps(entry) if entry else None)
            answer = connection.getresponse()
            if answer.status < 300:
                return True
            said = f"{answer.status} {answer.reason}"
        except (OSError, http.client.HTTPException) as error:
            said = str(error) or type(error).__name__
        finally:
            connection.close()
        self.failed.append(f"{method} {path}: {said}")
        return False


class Busy:
    """Lets a client insert and read in a thread while a run works; is a sink of that run's events."""

    def __init__(self, client: Client) -> None:
        self.requests = 0
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, event: Event) -> None:
        """Stop when the run's hold is over: what it publishes then is everything that was acknowledged."""
        if event["type"] == "task" and event["module"] == "hold" and event["status"] != "started":
            self._end()

    def _end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(0.01):
            self._client.insert()
            self._client.read()
            self.requests += 2
