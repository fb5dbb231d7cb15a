"""A proxy before an S3 store that does to its requests what bad stores and bad networks do.

It runs in threads of the test's process, so that a test sets what happens next; other processes connect to it too.
The Host header stays as the client sent it, since it is part of the signature.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

from tests.support import s3_server

Conditions = Literal["kept", "501", "ignored", "racy"]
"""What becomes of conditions on writes; racy: the proxy looks whether there is an object, and writes later."""
Fate = Literal["cut", "truncated", "lost", "reset", "hang"]

_ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str  # with its query
    headers: dict[str, str]

    @property
    def name(self) -> str:
        return self.path.partition("?")[0]

    @property
    def is_listing(self) -> bool:
        return "list-type=2" in self.path

    @property
    def is_conditional(self) -> bool:
        return self.method == "PUT" and "if-none-match" in self.headers


@dataclass
class Fault:
    """What happens to the next ``times`` requests that ``to`` picks.

    A number is answered as the status, with ``Retry-After: 1``, and nothing is applied. cut: half the body, then the
    connection closes. truncated: half the body, as if that were all. lost: applied, and the connection closes without
    an answer. reset: closed, and nothing applied. hang: nothing applied, never an answer.
    """

    what: int | Fate
    times: int = 1
    to: Callable[[Request], bool] = lambda request: True
    code: str = ""  # S3's word and text for a status
    message: str = ""


@dataclass
class Proxy:
    """Where clients connect, and what is done to them."""

    port: int = 0
    scheme: str = "http"
    conditions: Conditions = "kept"
    faults: list[Fault] = field(default_factory=list)
    stale: dict[str, tuple[int, list[tuple[str, str]], bytes]] | None = None
    seen: Counter[str] = field(default_factory=Counter)  # requests by method, and "stale" listings
    done: Counter[int | str] = field(default_factory=Counter)  # faults that happened
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def freeze_listings(self) -> None:
        """From now on answer each listing as it was answered first."""
        self.stale = {}

    def thaw_listings(self) -> None:
        self.stale = None

    def next_fault(self, request: Request) -> Fault | None:
        with self.lock:
            self.seen[request.method] += 1
            for fault in self.faults:
                if fault.times > 0 and fault.to(request):
                    fault.times -= 1
                    self.done[fault.what] += 1
                    return fault
        return None


@contextmanager
def proxied(
    host: str, port: int, conditions: Conditions = "kept", tls: ssl.SSLContext | None = None
) -> Iterator[Proxy]:
    """Run a proxy before a store while the block lasts; with ``tls`` its clients must speak that."""
    proxy = Proxy(conditions=conditions, scheme="https" if tls else "http")
    ending = threading.Event()

    class Handler(_Handler):
        upstream = (host, port)
        shared = proxy
        ended = ending

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        ending.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    upstream: tuple[str, int]
    shared: Proxy
    ended: threading.Event

    def setup(self) -> None:
        super().setup()
        self.store = http.client.HTTPConnection(*self.upstream, timeout=120)

    def finish(self) -> None:
        self.store.close()
        super().finish()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        fault = self.shared.next_fault(request)
        fate = fault.what if fault else None
        if fault is not None and isinstance(fate, int):
            return self._say(fate, [("Retry-After", "1")], _error(fault.code, fault.message))
        if fate == "reset":
            return self._hang_up()
        if fate == "hang":
            self.ended.wait(120)
            return self._hang_up()
        if request.is_conditional and self.shared.conditions == "501":
            return self._say(501, [], _error("NotImplemented", "A header you provided is not implemented"))
        status, headers, content = self._answer(request, body)
        if fate == "lost":
            return self._hang_up()
        if fate == "truncated":
            content = content[: len(content) // 2]
        self._say(status, headers, content, half=fate == "cut")
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _answer(self, request: Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        stale = self.shared.stale
        if stale is not None and request.is_listing and request.path in stale:
            self.shared.seen["stale"] += 1
            return stale[request.path]
        answer = self._forward(request, body)
        if stale is not None and request.is_listing:
            stale[request.path] = answer
        return answer

    def _forward(self, request: Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = request.headers
        if request.is_conditional and self.shared.conditions in ("ignored", "racy"):
            if self.shared.conditions == "racy" and self._exists(request):
                return 412, [], _error("PreconditionFailed", "At least one of the pre-conditions did not hold")
            # The condition is part of the client's signature, so that it cannot just be left out.
            host, port = self.upstream
            headers = s3_server.signed("PUT", f"{host}:{port}", unquote(request.path), {}, body)
        self.store.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name not in ("connection", "content-length"):
                self.store.putheader(name, value)
        if request.method in ("PUT", "POST"):
            self.store.putheader("content-length", str(len(body)))
        self.store.endheaders(body or None)
        answer = self.store.getresponse()
        content = answer.read()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OWN]
        if request.method == "HEAD":
            kept.append(("content-length", answer.getheader("content-length") or "0"))
        return answer.status, kept, content

    def _exists(self, request: Request) -> bool:
        host, port = self.upstream
        headers = s3_server.signed("HEAD", f"{host}:{port}", unquote(request.path), {}, b"")
        self.store.request("HEAD", request.path, headers=headers)
        answer = self.store.getresponse()
        answer.read()
        time.sleep(0.05)
        return answer.status == 200

    def _say(self, status: int, headers: list[tuple[str, str]], content: bytes, *, half: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("content-length", str(len(content)))
        elif not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("content-length", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.wfile.flush()
        if half:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that was killed has hung up, too
            super().handle()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: tests print what they need."""


def _error(code: str, message: str) -> bytes:
    return _ERROR.format(code, message).encode() if code else b""


_OWN = frozenset({"content-length", "connection", "transfer-encoding", "keep-alive"})
