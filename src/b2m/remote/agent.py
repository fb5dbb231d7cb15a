"""What runs on another host for one command: the same b2m, told over a channel what to do with the files there.

::

    python -m b2m.remote.agent

It says hello, gets the project's files and the secrets that its buckets need, in memory, and then does one verb after
the other as if it had been typed here. Events go back as they come. Only creates in the bucket are asked of the other
side. When the connection ends, what is under way is interrupted as by SIGTERM: undone, and the server given back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from b2m import __version__, errors, faults, secrets
from b2m.remote import wire
from b2m.remote.channel import MAGIC, PROTOCOL, Channel, Closed, Message
from b2m.signals import CAUGHT

LINGER = 120.0  # seconds that an interrupted run has to undo; then its guard does
ANSWER = 90.0  # seconds to wait for the other side to make a create
PROGRESS = 0.1  # seconds between two events that only say how far a task is


class Agent:
    """This process's side of the conversation."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._asked: dict[int, Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._busy = False
        self._stop: int | None = None  # a signal that came before there was anything to interrupt
        self._progress = 0.0

    def on_message(self, message: Message) -> bool:
        """Take what must not wait until a verb is done; called by the thread that listens."""
        if message["type"] == "answer":
            waiting = self._asked.pop(message["id"], None)
            if waiting is not None:
                if "error" in message:
                    waiting.set_exception(wire.decode(message["error"]))
                else:
                    waiting.set_result(None)
        elif message["type"] == "signal":
            self.interrupt(message["signal"])
        else:
            return False
        return True

    def interrupt(self, number: int) -> None:
        """Interrupt the verb that is under way, or the next one before it begins; from any thread."""
        self._stop = self._stop or number
        if self._busy:
            os.kill(os.getpid(), number)

    def serve(self) -> None:
        """Do what is asked until the connection ends."""
        from b2m.buckets import create_elsewhere

        create_elsewhere(lambda bucket: partial(self._create, bucket))
        with TemporaryDirectory(prefix="b2m-project-") as folder:
            project = None
            while (message := self.channel.inbox.get()) is not None:
                if message["type"] == "project":
                    try:
                        project = _project(Path(folder), message)
                    except (errors.B2mError, OSError) as error:
                        project = error  # told when something is asked of it
                elif message["type"] == "call":
                    self._call(project, message)

    def _call(self, project: Any, message: Message) -> None:
        self._busy = True
        try:
            if self._stop is not None:  # asked after saying that we are busy, so that no signal falls in between
                raise errors.Interrupted(self._stop)
            if isinstance(project, Exception):
                raise project
            result = self._verb(project, message)
            self._busy = False
            reply = {"type": "result", "value": wire.encode(result)}
        except (errors.B2mError, errors.Interrupted) as error:
            reply = {"type": "failed", "error": wire.encode(error)}
        except Closed:
            raise
        except OSError as error:
            reply = {"type": "failed", "error": wire.encode(errors.TaskFailed(what=f"on the host: {error}"))}
        except Exception as error:
            traceback.print_exc()
            what = f"{type(error).__name__}: {error} (on the host; that is a bug of b2m)"
            reply = {"type": "failed", "error": wire.encode(errors.B2mError(what=what))}
        finally:
            self._busy = False
        self.channel.send(reply)

    def _verb(self, project: Any, message: Message) -> Any:
        from b2m import api
        from b2m.events import Events
        from b2m.project.overrides import overrides_of

        secrets.give(message["secrets"])
        verb = api.ON_HOSTS[message["verb"]]
        target = project.target(message["db"], message["host"], overrides_of(message["overrides"]), here=True)
        known = {"events": Events(self._event), "tell": self._tell}
        arguments = [known[name] for name in message["gets"]]
        return verb(target, *arguments, **wire.decode(message["options"]))

    def _event(self, event: dict[str, Any]) -> None:
        if event["type"] == "progress":
            now = time.monotonic()
            if now - self._progress < PROGRESS and event.get("done") != event.get("total"):
                return
            self._progress = now
        self.channel.send({"type": "event", "event": event})

    def _tell(self, what: Any) -> None:
        self.channel.send({"type": "tell", "what": wire.encode(what)})

    def _create(self, bucket: str, name: str, data: bytes) -> None:
        """Let the other side create an object; BucketError if it cannot be asked."""
        number = next(self._numbers)
        answer: Future[None] = Future()
        self._asked[number] = answer
        try:
            self.channel.send(
                {"type": "create", "id": number, "bucket": bucket, "name": name, "data": wire.encode(data)}
            )
            until = time.monotonic() + ANSWER
            while not answer.done():
                if self.channel.closed or time.monotonic() > until:
                    raise errors.BucketError(bucket=bucket, what=_CUT)
                time.sleep(0.002)
            answer.result()
        except OSError:
            raise errors.BucketError(bucket=bucket, what=_CUT) from None
        finally:
            self._asked.pop(number, None)


_CUT = "the connection to the machine that this run was started from is cut, and only that one may create versions"


def _project(folder: Path, message: Message) -> Any:
    from b2m import run
    from b2m.modules import MODULES
    from b2m.project import load_project

    os.environ.update(message["settings"])
    run.act_for(run.Caller(**message["caller"]))
    for name, text in message["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{name} is no file of a project")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_project(folder, MODULES)


def main() -> None:
    """Speak with whoever started this process over its standard input and output."""
    source, sink = os.dup(0), os.dup(1)
    # Whatever else prints goes to standard error, and no child holds the channel open.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    agent: Agent

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(sink, view) :]

    def end() -> None:
        # Nobody is there any more. A run that hangs, and does not undo itself, is left to its guard.
        threading.Thread(target=_linger, daemon=True).start()
        agent.interrupt(signal.SIGTERM)

    # A signal between two verbs, or on the way into one, ends this process as it ends a verb.
    for number in CAUGHT:
        signal.signal(number, _interrupted)
    channel = Channel(partial(os.read, source), write, end)
    agent = Agent(channel)
    write(MAGIC + _hello() + b"\n")
    channel.start(agent.on_message)
    with contextlib.suppress(Closed, errors.Interrupted):
        agent.serve()
    sys.stderr.flush()


def _interrupted(number: int, _: object) -> None:
    raise errors.Interrupted(number)


def _linger() -> None:
    time.sleep(faults.setting("LINGER", LINGER))
    os._exit(1)


def _hello() -> bytes:
    hello = {"protocol": PROTOCOL, "version": __version__, "python": platform.python_version(), "pid": os.getpid()}
    return json.dumps(hello).encode()


if __name__ == "__main__":
    main()
