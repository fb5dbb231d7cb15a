"""Backblaze B2 on this machine: b2sdk's own simulator behind HTTP on 127.0.0.1, in a process of its own.

The simulator keeps objects, versions, keys and revisions as b2sdk's authors do for their own tests. Here it gets real
addresses, real time stamps and limits, the checks of keys that it lacks, and faults that a test asks for:

    simulator.fault(op="b2_upload_file", kind="cut", when="after", times=1)

``kind``: a status (500, 503, 429, 501, 403), "cut" (the connection ends without an answer), "truncate" (half a body),
"corrupt" (a changed bit),
"stale" (a listing as it was ``age`` seconds ago), "expired" (the token), "hang" (no answer for ``age`` seconds).
``when``: before the operation is applied, or after. ``chance`` and ``match`` (a part of the object's name) narrow it.
"""

from __future__ import annotations

import atexit
import base64
import io
import itertools
import json
import multiprocessing
import random
import re
import secrets
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from b2sdk._internal import exception as errors
from b2sdk._internal.raw_simulator import BucketSimulator, FileSimulator, RawSimulator

DATA = ("listFiles", "readFiles", "writeFiles", "deleteFiles")
LOCKS = ("listBuckets", "writeBuckets")
PART = 5_000_000

_NEEDS = {
    "b2_list_buckets": "listBuckets",
    "b2_update_bucket": "writeBuckets",
    "b2_list_file_names": "listFiles",
    "b2_list_file_versions": "listFiles",
    "b2_get_upload_url": "writeFiles",
    "b2_get_upload_part_url": "writeFiles",
    "b2_start_large_file": "writeFiles",
    "b2_finish_large_file": "writeFiles",
    "b2_cancel_large_file": "writeFiles",
    "b2_hide_file": "writeFiles",
    "b2_delete_file_version": "deleteFiles",
    "b2_get_file_info": "readFiles",
}
_METHODS = {"b2_get_file_info": "get_file_info_by_id"}
_DROPPED = {"bucketTypes"}
_CODES = {500: "internal_error", 503: "service_unavailable", 429: "too_many_requests", 501: "not_implemented"}


class _Bucket(BucketSimulator):  # type: ignore[misc]  # b2sdk has no types
    """A bucket with ids that never end, real time stamps, and a memory of what its listings were."""

    FIRST_FILE_ID = "999999999999"

    def __init__(self, api: _Simulator, *args: Any, **kwargs: Any) -> None:
        super().__init__(api, *args, **kwargs)
        self.file_id_counter = api.file_ids  # one for all buckets: ids are looked up without their bucket
        self.upload_timestamp_counter = iter(lambda: int(time.time() * 1000), None)
        self.listings: list[tuple[float, dict[str, FileSimulator]]] = [(0.0, {})]

    def newest(self) -> dict[str, FileSimulator]:
        """Return the newest finished version or hide marker of each name; unfinished files hide nothing."""
        found: dict[str, FileSimulator] = {}
        for (name, _), file in sorted(self.file_name_and_id_to_file.items()):
            if file.action != "start":
                found.setdefault(name, file)
        return found

    def remember(self) -> None:
        self.listings.append((time.monotonic(), self.newest()))
        del self.listings[:-300]

    def names(self, token: str, start: str | None, count: int | None, prefix: str | None, age: float) -> dict[str, Any]:
        then = time.monotonic() - age
        at = next(files for when, files in reversed(self.listings) if when <= then) if age else self.newest()
        wanted = [at[name] for name in sorted(at) if name >= (start or "") and name.startswith(prefix or "")]
        visible = [file for file in wanted if file.action == "upload"]
        page = visible[: count or 100]
        following = visible[len(page)].name if len(visible) > len(page) else None
        return {"files": [file.as_list_files_dict(token) for file in page], "nextFileName": following}


class _Simulator(RawSimulator):  # type: ignore[misc]
    BUCKET_SIMULATOR_CLASS = _Bucket
    MIN_PART_SIZE = PART

    def __init__(self, base: str) -> None:
        super().__init__()
        self.API_URL = self.DOWNLOAD_URL = self.S3_API_URL = base
        self.file_ids = iter(map(str, range(999_999_999_999, 0, -1)))
        self.bucket_id_counter = itertools.count()
        self.uploads: dict[str, tuple[str, str]] = {}  # upload tokens: the account token and the bucket or file
        self.account, self.master = self.create_account()
        self.root = self.authorize_account(base, self.account, self.master)["authorizationToken"]

    def _assert_account_auth(
        self, api_url: str, token: str, account_id: str, capability: str, *_: Any, **__: Any
    ) -> None:
        """Checked before, by ``_Handler``, also for what the original does not check."""

    def check(self, token: str, capability: str, bucket_id: str | None, name: str | None) -> None:
        key = self.auth_token_to_key.get(token)
        if key is None:
            raise errors.InvalidAuthToken("no such token", "bad_auth_token")
        if token in self.expired_auth_tokens:
            raise errors.InvalidAuthToken("the token has expired", "expired_auth_token")
        own = [item["id"] for item in key.buckets_or_none or []]
        prefix = key.name_prefix_or_none
        if capability not in key.capabilities or (own and bucket_id not in own):
            raise errors.Unauthorized("unauthorized", "unauthorized")
        if prefix and name is not None and not name.startswith(prefix):
            raise errors.Unauthorized("unauthorized", "unauthorized")

    def check_info(self, info: Mapping[str, str]) -> None:
        fine = all(re.fullmatch("[A-Za-z0-9-]{1,50}", key) and not key.startswith("b2-") for key in info)
        if not fine or len(info) > 10 or sum(len(key) + len(value) for key, value in info.items()) > 2048:
            raise errors.BadRequest(f"bad bucketInfo: {info}", "bad_request")


class _Faulty(Exception):
    """A fault that takes the place of an answer."""

    def __init__(self, kind: Any, fault: Mapping[str, Any]) -> None:
        self.kind = kind
        self.fault = fault


class _State:
    """What all requests share."""

    def __init__(self, base: str) -> None:
        self.lock = threading.Lock()
        self.simulator = _Simulator(base)
        self.faults: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.random = random.Random(7)

    def fault(self, op: str, when: str, name: str) -> dict[str, Any] | None:
        """Return the fault that hits this operation, and use it up."""
        for fault in self.faults:
            hits = fault["when"] == when and fault["op"] in (op, "*") and fault["match"] in name
            if hits and fault["times"] > 0 and self.random.random() < fault["chance"]:
                fault["times"] -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: _State

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._download)

    def do_HEAD(self) -> None:
        self._answer(self._download)

    def do_POST(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        if path.startswith("/_admin/"):
            self._answer(lambda: self._admin(path.removeprefix("/_admin/")))
        else:
            self._answer(lambda: self._post(*path.removeprefix("/b2api/").split("/")[1:]))

    def _answer(self, act: Any) -> None:
        try:
            status, headers, body = act()
        except _Faulty as faulty:
            if faulty.kind == "hang":
                time.sleep(faulty.fault["age"])
            if not isinstance(faulty.kind, int):
                self.close_connection = True
                return
            status, headers, body = self._error(faulty.kind, _CODES.get(faulty.kind, "access_denied"), "a fault")
            if faulty.fault["retry_after"] is not None:
                headers["Retry-After"] = str(faulty.fault["retry_after"])
        except errors.B2Error as error:
            status, headers, body = self._error(*_as_answer(error))
        shown = int(headers.pop("X-Shown-Length", len(body)))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(shown)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = self.close_connection or shown != len(body)

    def _error(self, status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
        return status, {}, json.dumps({"status": status, "code": code, "message": message}).encode()

    def _json(self, value: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value, default=list).encode()

    def _hit(self, op: str, when: str, name: str) -> dict[str, Any] | None:
        """Raise the fault that hits now; return one that only changes the answer."""
        state = self.state
        if when == "before":
            state.counts[op] = state.counts.get(op, 0) + 1
        fault = state.fault(op, when, name)
        if fault is None or fault["kind"] in ("stale", "truncate", "corrupt"):
            return fault
        if fault["kind"] == "expired":
            token = self.headers.get("authorization", "")
            state.simulator.expired_auth_tokens.add(state.simulator.uploads.get(token, (token, ""))[0])
            raise errors.InvalidAuthToken("the token has expired", "expired_auth_token")
        raise _Faulty(fault["kind"], fault)

    def _post(self, op: str, *rest: str) -> tuple[int, dict[str, str], bytes]:
        if op in ("b2_upload_file", "b2_upload_part"):
            return self._upload(op)
        asked = json.loads(self._body or b"{}")
        name = str(asked.get("fileName") or asked.get("prefix") or asked.get("bucketName") or "")
        with self.state.lock:
            fault = self._hit(op, "before", name)
            if op == "b2_authorize_account":
                both = self.headers["authorization"].removeprefix("Basic ")
                answer = self.state.simulator.authorize_account("", *base64.b64decode(both).decode().split(":", 1))
            else:
                answer = self._call(op, asked, fault["age"] if fault else 0.0)
            self._hit(op, "after", name)
            return self._json(answer)

    def _call(self, op: str, asked: dict[str, Any], age: float) -> Any:
        simulator = self.state.simulator
        token = self.headers["authorization"]
        if op not in _NEEDS:
            raise errors.BadRequest(f"no such call: {op}", "bad_request")
        bucket_id = asked.get("bucketId") or simulator.file_id_to_bucket_id.get(asked.get("fileId"))
        if asked.get("bucketName"):
            bucket_id = simulator._get_bucket_id_or_none_for_bucket_name(asked["bucketName"])
        name = asked.get("prefix") or "" if op.startswith("b2_list_file") else asked.get("fileName")
        simulator.check(token, _NEEDS[op], bucket_id, name)
        if op == "b2_get_upload_url":
            simulator._get_bucket_by_id(bucket_id)
            return self._upload_url("b2_upload_file", token, bucket_id)
        if op == "b2_get_upload_part_url":
            return self._upload_url("b2_upload_part", token, asked["fileId"])
        if op == "b2_list_file_names":
            bucket = simulator._get_bucket_by_id(bucket_id)
            return bucket.names(token, asked["startFileName"], asked["maxFileCount"], asked["prefix"], age)
        if op == "b2_update_bucket":
            simulator.check_info(asked.get("bucketInfo", {}))
            asked.setdefault("bucketType", "allPrivate")
        asked = {
            re.sub("[A-Z]", lambda found: "_" + found[0].lower(), key): asked[key] for key in asked.keys() - _DROPPED
        }
        method = getattr(simulator, _METHODS.get(op, op.removeprefix("b2_")))
        if (
            "part_sha1_array" in asked
            and simulator.get_file_info_by_id("", token, asked["file_id"])["action"] != "start"
        ):
            raise errors.BadRequest("the file is finished already", "bad_request")
        answer = method(simulator.API_URL, token, **asked)
        if bucket_id in simulator.bucket_id_to_bucket:
            simulator.bucket_id_to_bucket[bucket_id].remember()
        return answer

    def _upload_url(self, op: str, token: str, what: str) -> dict[str, str]:
        simulator = self.state.simulator
        upload = f"upload-{secrets.token_hex(12)}"
        simulator.uploads[upload] = (token, what)
        kind = "bucketId" if op == "b2_upload_file" else "fileId"
        return {
            kind: what,
            "uploadUrl": f"{simulator.API_URL}/b2api/v4/{op}/{upload[-6:]}",
            "authorizationToken": upload,
        }

    def _upload(self, op: str) -> tuple[int, dict[str, str], bytes]:
        simulator = self.state.simulator
        name = urllib.parse.unquote(self.headers.get("x-bz-file-name", ""))
        sha1, data = self.headers["x-bz-content-sha1"], io.BytesIO(self._body)
        with self.state.lock:
            self._hit(op, "before", name)
            token, what = simulator.uploads.get(self.headers["authorization"], ("", ""))
            if op == "b2_upload_file":
                simulator.check(token, "writeFiles", what, name)
                bucket = simulator._get_bucket_by_id(what)
                kind = self.headers["content-type"]
                answer = bucket.upload_file("", f"/{token}", name, len(self._body), kind, sha1, {}, data)
                simulator.file_id_to_bucket_id[answer["fileId"]] = what
            else:
                bucket = simulator._get_bucket_by_id(simulator.file_id_to_bucket_id[what])
                simulator.check(token, "writeFiles", bucket.bucket_id, None)
                number = int(self.headers["x-bz-part-number"])
                answer = bucket.upload_part(what, number, len(self._body), sha1, data)
            bucket.remember()
            self._hit(op, "after", name)
            return self._json(answer)

    def _download(self) -> tuple[int, dict[str, str], bytes]:
        simulator = self.state.simulator
        url = urllib.parse.urlsplit(self.path)
        with self.state.lock:
            if url.path.startswith("/file/"):
                bucket_name, _, quoted = url.path.removeprefix("/file/").partition("/")
                name = urllib.parse.unquote(quoted)
                bucket = simulator.bucket_name_to_bucket.get(bucket_name)
                file = bucket.newest().get(name) if bucket else None
            else:
                identity = urllib.parse.parse_qs(url.query)["fileId"][0]
                bucket = simulator.bucket_id_to_bucket.get(simulator.file_id_to_bucket_id.get(identity))
                file = bucket.file_id_to_file.get(identity) if bucket else None
                name = file.name if file else ""
            op = "head" if self.command == "HEAD" else "download"
            fault = self._hit(op, "before", name)
            token = self.headers.get("authorization", "")
            simulator.check(token, "readFiles", bucket.bucket_id if bucket else None, name)
            if bucket is None:
                return self._error(404, "not_found", f"Bucket does not exist: {bucket_name}")
            if file is None or file.action != "upload":
                return self._error(404, "not_found", "File with such name does not exist.")
            headers, data = dict(file.as_download_headers(token)), file.data_bytes
        del headers["content-length"]
        status, size = 200, len(data)
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", "")):
            first, last = int(wanted[1]), min(int(wanted[2] or size), size - 1)
            if first >= size:
                return self._error(416, "range_not_satisfiable", "the range is behind the end")
            status, data = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        if fault and fault["kind"] == "truncate":
            headers["X-Shown-Length"] = str(len(data))
            data = data[: len(data) // 2]
        elif fault and fault["kind"] == "corrupt":
            data = bytes([data[0] ^ 1]) + data[1:]
        elif self.command == "HEAD":
            headers["X-Shown-Length"], data = str(len(data)), b""
        return status, headers, data

    def _admin(self, what: str) -> tuple[int, dict[str, str], bytes]:
        asked, state = json.loads(self._body or b"{}"), self.state
        simulator = state.simulator
        with state.lock:
            match what:
                case "bucket":
                    made = simulator.create_bucket(
                        simulator.API_URL, simulator.root, simulator.account, asked["name"], "allPrivate"
                    )
                    return self._json({"id": made["bucketId"]})
                case "vanish":
                    bucket = simulator._get_bucket_by_name(asked["name"])
                    simulator.delete_bucket(simulator.API_URL, simulator.root, simulator.account, bucket.bucket_id)
                case "key":
                    buckets = [simulator._get_bucket_by_name(name).bucket_id for name in asked["buckets"]] or None
                    args = (list(asked["rights"]), "test", None, buckets, asked["prefix"])
                    made = simulator.create_key(simulator.API_URL, simulator.root, simulator.account, *args)
                    return self._json({"id": made["applicationKeyId"], "key": made["applicationKey"]})
                case "fault":
                    state.faults.append(asked)
                case "clear":
                    state.faults.clear()
                case "counts":
                    counts, state.counts = state.counts, {}
                    return self._json(counts)
                case "versions":
                    bucket = simulator._get_bucket_by_name(asked["name"])
                    return self._json([[f.name, f.action] for _, f in sorted(bucket.file_name_and_id_to_file.items())])
                case "info":
                    bucket = simulator._get_bucket_by_name(asked["name"])
                    return self._json({"revision": bucket.revision, "info": bucket.bucket_info})
        return self._json({})


def _as_answer(error: Any) -> tuple[int, str, str]:
    """Return the status, code and message with which B2 says what the simulator raised."""
    table: list[tuple[Any, int, str]] = [
        (errors.InvalidAuthToken, 401, getattr(error, "code", "")),
        (errors.Unauthorized, 401, "unauthorized"),
        (errors.Conflict, 409, "conflict"),
        (errors.NonExistentBucket, 400, "bad_bucket_id"),
        (errors.FileNotPresent, 400, "file_not_present"),
        (errors.BadRequest, 400, "bad_request"),
        (errors.MissingPart, 400, "missing_part"),
    ]
    for kind, status, code in table:
        if isinstance(error, kind):
            return status, code, str(error)
    return 400, "bad_request", f"{type(error).__name__}: {error}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def _serve(connection: Any) -> None:
    server = _Server(("127.0.0.1", 0), _Handler)
    base = f"http://127.0.0.1:{server.server_address[1]}"
    _Handler.state = _State(base)
    connection.send(base)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Ends with the process that started it, however that ends.
    with suppress(EOFError):
        connection.recv()


class Simulator:
    """A running simulator; its methods prepare it, hurt it, and ask it what it saw."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.url: str = self._ours.recv()

    def close(self) -> None:
        self._ours.close()
        self._process.join(5)
        self._process.kill()

    def make_bucket(self) -> str:
        name = f"b2m-test-{secrets.token_hex(6)}"
        self._ask("bucket", name=name)
        return name

    def make_key(self, *buckets: str, rights: tuple[str, ...] = DATA, prefix: str | None = None) -> tuple[str, str]:
        """Return the id and the secret of a new key; without buckets it is the whole account's."""
        made = self._ask("key", buckets=buckets, rights=rights, prefix=prefix)
        return made["id"], made["key"]

    def config(self, *, locks: bool = False, prefix: str = "") -> dict[str, object]:
        """Return an entry for a new, empty bucket, and a new lock bucket if asked for."""
        bucket = self.make_bucket()
        key_id, key = self.make_key(bucket, prefix=f"{prefix}/" if prefix else None)
        url = f"b2://{bucket}/{prefix}".rstrip("/")
        entry: dict[str, object] = {"type": "b2", "url": url, "realm": self.url, "key_id": key_id, "key": key}
        if locks:
            lock_bucket = self.make_bucket()
            lock_id, lock_key = self.make_key(rights=LOCKS)
            entry["locks"] = {"url": f"b2://{lock_bucket}", "key_id": lock_id, "key": lock_key}
        return entry

    def vanish(self, config: Mapping[str, object]) -> None:
        self._ask("vanish", name=str(config["url"]).split("/")[2])

    def fault(
        self,
        *,
        op: str,
        kind: int | str,
        when: str = "before",
        times: int = 1,
        chance: float = 1.0,
        match: str = "",
        age: float = 0.0,
        retry_after: int | None = None,
    ) -> None:
        self._ask(
            "fault",
            op=op,
            kind=kind,
            when=when,
            times=times,
            chance=chance,
            match=match,
            age=age,
            retry_after=retry_after,
        )

    def clear(self) -> None:
        self._ask("clear")

    def counts(self) -> dict[str, int]:
        """Return how often each operation was asked for since the last time."""
        counts = self._ask("counts")
        assert isinstance(counts, dict)
        return counts

    def versions(self, config: Mapping[str, object]) -> list[tuple[str, str]]:
        """Return all that is stored: names and kinds, hidden, old and unfinished versions included."""
        return [(name, action) for name, action in self._ask("versions", name=str(config["url"]).split("/")[2])]

    def info(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the revision and the bucketInfo of an entry's lock bucket."""
        found = self._ask("info", name=config["locks"]["url"].removeprefix("b2://"))
        assert isinstance(found, dict)
        return found

    def _ask(self, what: str, **asked: Any) -> Any:
        request = urllib.request.Request(f"{self.url}/_admin/{what}", json.dumps(asked).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


_running: list[Simulator] = []


def simulator() -> Simulator:
    """Return this process's simulator, started at the first call."""
    if not _running:
        _running.append(Simulator())
        atexit.register(_running[0].close)
    return _running[0]
