"""Delivers what a command has to say: a sink of its events, with a thread for each address.

The work never waits for a delivery, and a dead address delays no other. What could not be delivered is said at the end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from b2m import errors, faults, secrets
from b2m.events import Event

PATIENCE = 30.0  # seconds in which one message is tried again, and for which the end of a command waits for all
PAUSE = 1.0  # seconds before the second try, doubled each time


def patience() -> float:
    """Return how long one message is tried again, and all are waited for at the end, in seconds."""
    return faults.setting("PATIENCE", PATIENCE)


@dataclass(frozen=True)
class Letter:
    """Something for one address; ``what`` names it for people, ``text`` is None for a ping."""

    what: str
    secret: str
    text: str | None


class Delivery:
    """Where a command's messages go: ``targets`` are names and their secrets, ``own`` gets every message too."""

    def __init__(self, targets: Mapping[str, Iterable[str]], own: Iterable[str] = ()) -> None:
        self._targets = {name: tuple(known) for name, known in targets.items()}
        self._own = tuple(own)
        self._couriers: dict[str, _Courier] = {}
        self._failed: list[str] = []
        self._free = threading.Event()  # no hold is open: nothing else may want the processor
        self._free.set()

    def __call__(self, event: Event) -> None:
        """Take note of a run's event; returns at once."""
        if event["type"] == "task" and event.get("module") == "hold":
            if event["status"] == "started":
                self._free.clear()
            else:
                self._free.set()
        if event["type"] == "message" and event.get("to") is not None:
            self._message(str(event["to"]), str(event["text"]))

    def _message(self, to: str, text: str) -> None:
        if to not in self._targets:
            known = ", ".join(sorted(self._targets)) or "nothing"
            self._failed.append(f"message to {to}: inventory.yaml has no such name under messages, only {known}")
            return
        for secret in dict.fromkeys((*self._targets[to], *self._own)):
            self._send(Letter(f"message to {to}", secret, text))

    def ping(self, secret: str) -> None:
        """Tell a dead-man's switch that all is well."""
        self._send(Letter("ping", secret, None))

    def _send(self, letter: Letter) -> None:
        courier = self._couriers.get(letter.secret)
        if courier is None:
            courier = self._couriers[letter.secret] = _Courier(self._free, self._failed.append)
        courier.take(letter)

    def close(self) -> list[str]:
        """Wait for what is on its way, 30 seconds at most; return what was not delivered, and why."""
        self._free.set()
        until = time.monotonic() + patience()
        left: list[str] = []
        for courier in self._couriers.values():
            left += courier.finish(until)
        return [*self._failed, *left]


class _Courier:
    """Brings letters to one address, in their order, in a thread that ends with the process."""

    def __init__(self, free: threading.Event, failed: Callable[[str], None]) -> None:
        self._free = free
        self._failed = failed
        self._letters: deque[Letter] = deque()
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="b2m messages")
        self._thread.start()

    def take(self, letter: Letter) -> None:
        with self._changed:
            self._letters.append(letter)
            self._changed.notify_all()

    def finish(self, until: float) -> list[str]:
        """Let it end by ``until``, in monotonic seconds; return what is then still to be delivered."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            left, self._letters = list(self._letters), deque()
        return [f"{letter.what} (${letter.secret}) was not delivered in time" for letter in left]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._letters or self._over)
                if not self._letters:
                    return
                letter = self._letters[0]
            why = self._deliver(letter)
            with self._changed:
                if not self._letters or self._letters[0] is not letter:
                    return  # it took too long, and was reported
                self._letters.popleft()
                if why is not None:
                    self._failed(f"{letter.what} (${letter.secret}) was not delivered: {why}")

    def _deliver(self, letter: Letter) -> str | None:
        """Try until it works; return why it did not in the end."""
        # Most runs have nothing to deliver, and need not load what does it.
        from b2m.messages.post import post
        from b2m.messages.web import NotDelivered, send

        until = time.monotonic() + patience()
        pause = PAUSE
        while True:
            self._free.wait()
            try:
                address = secrets.read(letter.secret)
                send(address) if letter.text is None else post(address, letter.text)
                return None
            except errors.SecretMissing as error:
                return str(error)
            except NotDelivered as error:
                if error.again is None:
                    return error.why
                wait = max(pause, error.again)
                if time.monotonic() + wait > until:
                    asked = f", and asks to be left alone for {error.again:.0f} s" if error.again > patience() else ""
                    return f"{error.why}{asked}"
            except Exception as error:  # a library's, whose text may have the address in it
                return f"a bug: {type(error).__name__}"
            time.sleep(wait)
            pause *= 2
