"""The near end of an agent: starts it over SSH, and lets it do verbs on its host."""

from __future__ import annotations

import json
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2m import errors, faults, secrets
from b2m.remote import wire
from b2m.remote.channel import MAGIC, NOISE, PROTOCOL, Channel, Closed, Message

if TYPE_CHECKING:
    from b2m.buckets.protocol import Bucket
    from b2m.events import Events
    from b2m.project import Target

HELLO = 20.0  # seconds that an agent may take to say hello
_STDERR_KEPT = 20  # lines of the agent's standard error, to be shown if it dies

MISSING = "b2m-agent-missing"


class Link:
    """One agent on one host, for one project."""

    def __init__(self, target: Target) -> None:
        """Connect and shake hands; HostUnreachable."""
        from b2m.remote.address import Address
        from b2m.remote.bootstrap import agent_command, bootstrap
        from b2m.remote.ssh import Ssh

        self.host = target.host
        self._ssh = Ssh(Address.of(target.host, target.address))
        self._errors: deque[str] = deque(maxlen=_STDERR_KEPT)
        self._buckets: dict[str, Bucket] = {}
        self._turn = threading.Lock()
        self._target = target
        self._ssh.open()
        try:
            hello = self._start(agent_command())
            if target.bootstrap == "auto" and (hello is None or hello["protocol"] != PROTOCOL):
                bootstrap(self._ssh)
                hello = self._start(agent_command())
            self._check(hello)
            try:
                self._send_project(target.root)
            except Closed:
                raise self._lost() from None
        except BaseException:
            self._ssh.close()
            raise

    def call(
        self, verb: str, target: Target, events: Events | None, tell: Callable[[Any], None] | None, **options: Any
    ) -> Any:
        """Do a verb of b2m's on the host; what it raises there is raised here, HostUnreachable if the link is cut."""
        gets = [name for name, given in (("events", events), ("tell", tell)) if given is not None]
        overrides = {name: value for layer in target.overrides for name, value in layer.values.items()}
        message = {
            "type": "call",
            "verb": verb,
            "db": target.db,
            "host": target.host,
            "overrides": overrides,
            "gets": gets,
            "options": wire.encode(options),
            "secrets": wanted_secrets(target),
        }
        finished = False
        with self._turn, _Forwarded(self._channel):
            self._target = target
            try:
                self._channel.send(message)
                while (answer := self._next()) is not None:
                    finished = answer["type"] in ("result", "failed")
                    if answer["type"] == "event" and events is not None:
                        events.relay(answer["event"])
                    elif answer["type"] == "tell" and tell is not None:
                        tell(wire.decode(answer["what"]))
                    elif answer["type"] == "result":
                        return wire.decode(answer["value"])
                    elif answer["type"] == "failed":
                        raise wire.decode(answer["error"])
            except Closed:
                raise self._lost() from None
            finally:
                if not finished:
                    self._channel.close()  # what is still under way there must not answer the next call
        raise self._lost()

    @property
    def closed(self) -> bool:
        return self._channel.closed

    def close(self) -> None:
        """End the agent and the connection."""
        self._channel.close()

    def _send_project(self, root: Path) -> None:
        """Give the agent the project's files, and who asks."""
        from b2m.run import caller

        files = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in _files(root)}
        who, settings = vars(caller(root)), faults.settings()
        self._channel.send({"type": "project", "files": files, "caller": who, "settings": settings})

    def _next(self) -> Message | None:
        while True:
            try:
                # A bound, so that a signal gets its turn.
                return self._channel.inbox.get(timeout=0.2)
            except queue.Empty:
                continue

    def _start(self, command: str) -> Message | None:
        """Start the agent; return what it says of itself, None if there is none."""
        stream = self._ssh.start(command)
        threading.Thread(target=self._drain, args=(stream,), name="agent stderr", daemon=True).start()
        hello, rest = self._hello(stream, time.monotonic() + faults.setting("HELLO", HELLO))
        stream.settimeout(None)
        if hello is None or hello["protocol"] != PROTOCOL:
            stream.close()
            return hello
        head = deque([rest] if rest else [])

        def read(size: int) -> bytes:
            return head.popleft() if head else bytes(stream.recv(size))

        self._channel = Channel(read, stream.sendall, self._ssh.close)
        self._channel.start(self._on_message)
        return hello

    def _hello(self, stream: Any, until: float) -> tuple[Message | None, bytes]:
        """Read past what the login prints to the agent's first line, which has come by ``until`` (monotonic)."""
        data = b""
        try:
            while len(data) < NOISE:
                stream.settimeout(max(0.01, until - time.monotonic()))
                part = bytes(stream.recv(4096))
                if not part:
                    break
                data += part
                for line in data.split(b"\n")[:-1]:
                    if line.startswith(MAGIC):
                        return json.loads(line.removeprefix(MAGIC)), data.partition(line + b"\n")[2]
                    if line.strip() == MISSING.encode():
                        return None, b""
        except (OSError, EOFError, ValueError):
            pass
        said = "; ".join([*data.decode(errors="replace").strip().splitlines()[-3:], *list(self._errors)[-3:]])
        what = f"b2m's agent did not start there{': ' + said if said else ''}; look with: {self._bootstrap('--check')}"
        raise errors.HostUnreachable(host=self.host, what=what)

    def _check(self, hello: Message | None) -> None:
        if hello is None:
            what = f"b2m is not installed there; install it with: {self._bootstrap()}"
            raise errors.HostUnreachable(host=self.host, what=what)
        if hello["protocol"] != PROTOCOL:
            what = f"b2m {hello['version']} there speaks protocol {hello['protocol']}, this one {PROTOCOL}; run: "
            raise errors.HostUnreachable(host=self.host, what=what + self._bootstrap())

    def _bootstrap(self, flag: str = "") -> str:
        return f"b2m bootstrap --host {self.host} {flag}".strip()

    def _lost(self) -> errors.HostUnreachable:
        said = f" ({self._errors[-1]})" if self._errors else ""
        what = f"the connection was cut{said}; what ran there is undone or finished by itself, see: b2m doctor --host "
        return errors.HostUnreachable(host=self.host, what=what + self.host)

    def _drain(self, stream: Any) -> None:
        rest = b""
        while True:
            try:
                data = stream.recv_stderr(4096)
            except TimeoutError:
                continue  # the stream's timeout is that of the first line, and for others than us
            except OSError:
                return
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            self._errors.extend(line.decode(errors="replace") for line in whole if line.strip())

    def _on_message(self, message: Message) -> bool:
        """Make creates for the agent; called by the thread that listens."""
        if message["type"] != "create":
            return False
        # In a thread of its own: a slow store must not look like a dead connection.
        threading.Thread(target=self._create, args=(message,), daemon=True).start()
        return True

    def _create(self, message: Message) -> None:
        answer: Message = {"type": "answer", "id": message["id"]}
        try:
            self._bucket(message["bucket"]).create(message["name"], wire.decode(message["data"]))
        except errors.B2mError as error:
            answer["error"] = wire.encode(error)
        except Exception as error:
            failed = errors.BucketError(bucket=message["bucket"], what=f"{type(error).__name__}: {error}")
            answer["error"] = wire.encode(failed)
        try:
            self._channel.send(answer)
        except OSError:
            return

    def _bucket(self, name: str) -> Bucket:
        """Return the bucket of the database that is worked on: an agent may create in no other."""
        from b2m.buckets import open_bucket

        if name != self._target.bucket.get("url"):
            raise errors.BucketError(bucket=name, what="it is not the bucket of this database")
        if name not in self._buckets:
            self._buckets[name] = open_bucket(self._target.bucket)
        return self._buckets[name]


class _Forwarded:
    """Sends the first SIGINT, SIGTERM or SIGHUP on to the agent, which undoes; the second ends this process's wait."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._before: dict[int, Any] = {}
        self._seen = 0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._before[number] = signal.signal(number, self._caught)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _caught(self, number: int, _: object) -> None:
        self._seen += 1
        if self._seen == 1:
            # Not in the handler: the lock of a message that is being sent may be held by this very thread.
            threading.Thread(target=self._send, args=(number,), daemon=True).start()
        else:
            stop = errors.Interrupted(number)
            stop.outcome = "the host goes on undoing by itself; see: b2m doctor"
            raise stop

    def _send(self, number: int) -> None:
        try:
            self._channel.send({"type": "signal", "signal": number})
        except OSError:
            return


def _files(root: Path) -> Iterator[Path]:
    """Yield the files that make up a project: those that the loader reads."""
    yield root / "inventory.yaml"
    for path in (*sorted((root / "playbooks").glob("*.yaml")), *sorted((root / "roles").glob("*/role.yaml"))):
        # An editor leaves links that lead nowhere.
        if path.is_file() and not path.parent.name.startswith("."):
            yield path


def wanted_secrets(target: Target) -> dict[str, str]:
    """Return the secrets that a host needs for a database's bucket; what may change locks is not among them."""
    config = {key: value for key, value in target.bucket.items() if key != "locks"}
    return secrets.collect(secrets.names(config))


__all__ = ["Link", "wanted_secrets"]
