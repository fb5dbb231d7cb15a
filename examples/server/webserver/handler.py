"""HTTP: addresses to services, and their answers to status codes."""

from __future__ import annotations

import hmac
import json
import sqlite3
import threading
import traceback
import urllib.parse
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from . import entries
from .database import StillInUse
from .entries import BadEntry
from .inbox import QueueFull
from .pages import layout
from .service import BadConfiguration, Service

MAX_BODY = 1 << 20
MAX_DIGITS = 20  # of a Content-Length: Python converts none of thousands of digits


class BadBody(Exception):
    """The request's body cannot be read; the arguments are the answer's status and its message."""


class WebServer(ThreadingHTTPServer):
    """Listens on the loopback only: in production a reverse proxy stands in front."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, services: dict[str, Service], unhealthy_file: Path) -> None:
        self.services = services
        self.token = ""
        self.unhealthy_file = unhealthy_file
        self._idle = threading.Condition()
        self._requests = 0
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away; a request's own errors are logged where they are answered."""

    def begin_request(self) -> None:
        with self._idle:
            self._requests += 1

    def end_request(self) -> None:
        with self._idle:
            self._requests -= 1
            self._idle.notify_all()

    def wait_until_idle(self, timeout: float) -> None:
        """Wait for the answers that are being given; connections that are merely open do not count."""
        with self._idle:
            self._idle.wait_for(lambda: self._requests == 0, timeout)


class Handler(BaseHTTPRequestHandler):
    """One client's connection."""

    server: WebServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    def version_string(self) -> str:
        return "example-server"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """No access log: the proxy has one."""

    def _answer(self, respond: Any) -> None:
        self.server.begin_request()
        try:
            respond()
            self.wfile.flush()
        except BadBody as error:
            status, what = error.args
            self.close_connection = True  # where the next request begins is not known
            self._json(status, {"error": what})
        except BadEntry as error:
            self._json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except (sqlite3.OperationalError, QueueFull) as error:
            print(f"{self.command} {self.path}: {error}", flush=True)
            self._json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)})
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            print(f"{self.command} {self.path}: {traceback.format_exc()}", flush=True)
            self._json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})
        finally:
            self.server.end_request()

    def _get(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        section, _, key = url.path.lstrip("/").partition("/")
        if section == "health":
            self._health(urllib.parse.parse_qs(url.query).get("db", []))
        elif section in self.server.services:
            self._page(self.server.services[section], urllib.parse.unquote(key))
        elif not section:
            self._send(HTTPStatus.OK, layout("Example", ""))
        else:
            self._send(HTTPStatus.NOT_FOUND, layout("Not found", ""))

    def _page(self, service: Service, key: str) -> None:
        page = service.page(key)
        if page.text is not None:
            self._send(HTTPStatus.OK, page.text, source=page.source)
        elif page.source == "database":
            self._send(HTTPStatus.NOT_FOUND, layout("Not found", ""), source=page.source)
        else:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, layout("Back in a moment", ""), source=page.source)

    def _health(self, wanted: list[str]) -> None:
        """200 if every open database answers, and those named by ?db= are open."""
        databases: dict[str, Any] = {}
        ok = not self.server.unhealthy_file.exists()
        for name, service in self.server.services.items():
            try:
                report = service.health()
            except sqlite3.Error as error:
                ok = False
                databases[name] = {"connected": True, "error": str(error)}
            else:
                ok = ok and (report.connected or name not in wanted)
                databases[name] = asdict(report)
        ok = ok and all(name in databases for name in wanted)
        status = HTTPStatus.OK if ok else HTTPStatus.INTERNAL_SERVER_ERROR
        self._json(status, {"ok": ok, "databases": databases})

    def _post(self) -> None:
        body = self._body()
        path = urllib.parse.urlsplit(self.path).path
        if path == "/ipm":
            self._insert(body)
        elif path == "/hit":
            self._json(self._taken(self.server.services["ipm"].hit()), {"ok": True})
        elif path.startswith("/admin/"):
            self._admin(path)
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": f"nothing at {path}"})

    def _insert(self, body: bytes) -> None:
        try:
            entry = entries.parse(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise BadEntry(str(error)) from None
        taken = self.server.services["ipm"].insert(entry)
        key = entries.stable_hash(entry.slug)
        self._json(self._taken(taken), {"slug": entry.slug, "slug_hash": key, "result": taken})

    def _taken(self, result: str) -> HTTPStatus:
        return {"created": HTTPStatus.CREATED, "queued": HTTPStatus.ACCEPTED}.get(result, HTTPStatus.OK)

    def _admin(self, path: str) -> None:
        given = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.server.token}".encode()):
            self._json(HTTPStatus.FORBIDDEN, {"error": "the token in server.json is needed"})
            return
        _, _, action, db = [*path.split("/", 3), "", ""][:4]
        service = self.server.services.get(db)
        if service is None or action not in ("connect", "disconnect"):
            self._json(HTTPStatus.NOT_FOUND, {"error": f"no database {db!r}" if service is None else path})
            return
        try:
            if action == "connect":
                service.connect()
            else:
                service.disconnect()
        except (BadConfiguration, StillInUse, sqlite3.Error, OSError) as error:
            print(f"{action} {db}: {error}", flush=True)
            self._json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})
        else:
            self._json(HTTPStatus.OK, {"db": db, "connected": action == "connect"})

    def _body(self) -> bytes:
        """The request's body, empty if it has no Content-Length; BadBody if its length is not told, or too much."""
        if "Transfer-Encoding" in self.headers:
            raise BadBody(HTTPStatus.LENGTH_REQUIRED, "give a Content-Length and no Transfer-Encoding")
        length = ", ".join(self.headers.get_all("Content-Length", ["0"]))
        if not length.isdecimal():
            raise BadBody(HTTPStatus.BAD_REQUEST, f"the Content-Length {length!r} is no number")
        if len(length) > MAX_DIGITS or int(length) > MAX_BODY:
            raise BadBody(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"give a Content-Length up to {MAX_BODY}")
        return self.rfile.read(int(length))

    def _json(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        self._send(status, json.dumps(answer) + "\n", content_type="application/json")

    def _send(
        self, status: HTTPStatus, text: str, *, source: str = "", content_type: str = "text/html; charset=utf-8"
    ) -> None:
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        if source:
            self.send_header("X-Served-From", source)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
