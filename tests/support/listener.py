"""A real HTTP server on this machine that plays Discord, or whoever else is told something."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str]]


@dataclass
class Request:
    """What arrived: when in monotonic seconds, and with which body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Listener:
    """The requests of a server that runs, and its address."""

    url: str
    requests: list[Request] = field(default_factory=list)

    @property
    def webhook(self) -> str:
        """An address of the form of Discord's webhooks."""
        return f"{self.url}/api/webhooks/1234/to-Ken_5ecret"


@contextmanager
def listening(*answers: int | Answer, then: int = 204, slow: float = 0.0) -> Iterator[Listener]:
    """Answer requests in this order, every later one with ``then``; ``slow`` is how many seconds each takes."""
    left: list[int | Answer] = list(answers)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            with lock:
                found.requests.append(request)
                one = left.pop(0) if left else then
            status, headers = one if isinstance(one, tuple) else (one, {})
            time.sleep(slow)
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET: Callable[[Any], None] = answer
        do_POST: Callable[[Any], None] = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Tests look at the requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Listener(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
