"""Messages reach a real server, or somebody is told that they did not; nobody waits for them, and no address shows."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import apprise
import pytest

from b2m import __version__
from b2m.messages import Delivery, delivery, web
from b2m.messages.post import shortened
from tests.support.listener import Listener, listening


@pytest.fixture(scope="module", autouse=True)
def _apprise_is_loaded() -> None:
    """Its first use loads a hundred modules, which may take longer on a busy machine than patience lasts here."""
    apprise.Apprise.instantiate("json://127.0.0.1/")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PAUSE", 0.05)
    monkeypatch.setattr(delivery, "PATIENCE", 2.0)
    monkeypatch.setattr(web, "TIMEOUT", 1.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def deliver(*texts: str, to: str = "ops") -> list[str]:
    """Send messages to the secrets OPS and, as the database's own, IPM if it is set; return what was not delivered."""
    made = Delivery({"ops": ["OPS"], "both": ["OPS", "IPM"]})
    for text in texts:
        made({"type": "message", "to": to, "text": text})
    return made.close()


def set_to(monkeypatch: pytest.MonkeyPatch, value: str, secret: str = "OPS") -> None:
    monkeypatch.setenv(secret, value)


def test_a_discord_webhook_gets_exactly_this(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as server:
        set_to(monkeypatch, server.webhook)
        assert deliver("ipm on prod failed: @everyone look — ü") == []
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/webhooks/1234/to-Ken_5ecret")
    assert request.json == {
        "content": "ipm on prod failed: @everyone look — ü",
        "allowed_mentions": {"parse": []},
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"b2m/{__version__}"


def test_what_is_said_without_a_name_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as server:
        set_to(monkeypatch, server.webhook)
        made = Delivery({"ops": ["OPS"]}, ["OPS"])
        made({"type": "message", "to": None, "text": "x"})
        made({"type": "message", "text": "x"})
        made({"type": "warning", "text": "x"})
        assert made.close() == []
    assert server.requests == []


def test_a_list_and_a_databases_own_address_all_get_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as one, listening() as two, listening() as own:
        set_to(monkeypatch, one.webhook)
        set_to(monkeypatch, two.webhook, "IPM")
        set_to(monkeypatch, own.webhook, "OWN")
        made = Delivery({"both": ["OPS", "IPM"]}, ["OWN", "IPM"])
        made({"type": "message", "to": "both", "text": "hello"})
        assert made.close() == []
    for each in (one, two, own):
        assert [request.json["content"] for request in each.requests] == ["hello"]


@pytest.mark.parametrize("answer", [500, 503, 408, 429])
def test_a_passing_failure_is_tried_again_with_growing_pauses(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    with listening(answer, answer, answer) as server:
        set_to(monkeypatch, server.webhook)
        assert deliver("a") == []
    assert len(server.requests) == 4
    assert len({request.body for request in server.requests}) == 1
    gaps = [b.at - a.at for a, b in zip(server.requests, server.requests[1:], strict=False)]
    assert [gap >= wanted for gap, wanted in zip(gaps, (0.05, 0.1, 0.2), strict=True)] == [True] * 3


def test_what_discord_asks_for_is_waited_for_and_the_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening((429, {"Retry-After": "0.6"})) as server:
        set_to(monkeypatch, server.webhook)
        assert deliver("one", "two", "three") == []
    assert [request.json["content"] for request in server.requests] == ["one", "one", "two", "three"]
    assert server.requests[1].at - server.requests[0].at >= 0.6


def test_who_asks_for_too_long_a_pause_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening((429, {"Retry-After": "3600"})) as server:
        set_to(monkeypatch, server.webhook)
        began = time.monotonic()
        assert deliver("a") == [
            "message to ops ($OPS) was not delivered: it answered 429, and asks to be left alone for 3600 s"
        ]
        assert time.monotonic() - began < 1.0
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (400, "it answered 400"),
        (401, "it answered 401, its address is wrong or no longer good"),
        (404, "it answered 404, its address is wrong or no longer good"),
        ((302, {"Location": "http://127.0.0.1:9/"}), "it answered 302"),
    ],
)
def test_a_lasting_failure_is_told_at_once(monkeypatch: pytest.MonkeyPatch, answer: Any, why: str) -> None:
    with listening(answer) as server:
        set_to(monkeypatch, server.webhook)
        assert deliver("a") == [f"message to ops ($OPS) was not delivered: {why}"]
    assert len(server.requests) == 1


def test_a_server_that_stays_broken_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(then=500) as server:
        set_to(monkeypatch, server.webhook)
        began = time.monotonic()
        assert deliver("a") == ["message to ops ($OPS) was not delivered: it answered 500"]
        assert time.monotonic() - began < 2.5
    assert len(server.requests) > 3


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        set_to(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}/api/webhooks/1/s5ecret")
        assert deliver("a") == ["message to ops ($OPS) was not delivered: connection refused"]


def test_a_server_that_never_answers_delays_no_other_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, listening() as well:
        set_to(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/api/webhooks/1/s5ecret")
        set_to(monkeypatch, well.webhook, "IPM")
        began = time.monotonic()
        failed = deliver("a", "b", to="both")
        assert time.monotonic() - began < 2.6
    assert [request.json["content"] for request in well.requests] == ["a", "b"]
    assert failed[-1] == "message to both ($OPS) was not delivered in time"
    assert len(failed) == 2


def test_taking_a_message_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(slow=0.5) as server:
        set_to(monkeypatch, server.webhook)
        made = Delivery({"ops": ["OPS"]})
        began = time.monotonic()
        for number in range(3):
            made({"type": "message", "to": "ops", "text": str(number)})
        assert time.monotonic() - began < 0.1
        assert made.close() == []
    assert len(server.requests) == 3


def test_nothing_is_sent_while_a_hold_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as server:
        set_to(monkeypatch, server.webhook)
        made = Delivery({"ops": ["OPS"]})
        made({"type": "task", "module": "hold", "status": "started"})
        made({"type": "message", "to": "ops", "text": "from inside"})
        made({"type": "task", "module": "swap", "status": "changed"})
        time.sleep(0.3)
        assert server.requests == []
        made({"type": "task", "module": "hold", "status": "changed"})
        assert made.close() == []
    assert [request.json["content"] for request in server.requests] == ["from inside"]


def test_a_secret_that_is_missing_and_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPS", raising=False)
    monkeypatch.delenv("B2M_SECRETS_FILE", raising=False)
    assert deliver("a") == [
        "message to ops ($OPS) was not delivered: secret OPS: it is not set; set it in the environment, OPS_FILE, "
        "or a file that B2M_SECRETS_FILE names"
    ]
    assert deliver("a", to="nobody") == [
        "message to nobody: inventory.yaml has no such name under messages, only both, ops"
    ]


@pytest.mark.parametrize("length", [1999, 2000, 2001, 9000])
def test_a_long_text_is_cut_with_an_ellipsis_and_still_fits_discord(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    with listening() as server:
        set_to(monkeypatch, server.webhook)
        assert deliver("ä" * length) == []
    sent = server.requests[0].json["content"]
    assert sent == ("ä" * length if length <= 2000 else "ä" * 1999 + "…")


def test_a_cut_never_halves_a_character() -> None:
    cut = shortened("x" + "🗄" * 2000)
    assert len(cut.encode("utf-16-le")) // 2 == 2000
    assert cut == "x" + "🗄" * 999 + "…" or cut == "x" + "🗄" * 998 + "…"


# -- through Apprise -----------------------------------------------------------------------------------------------


def test_an_address_of_apprises_gets_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as server:
        set_to(monkeypatch, server.url.replace("http://", "json://") + "/hook")
        assert deliver("ipm v3 -> v4 <b>") == []
    (request,) = server.requests
    assert request.path == "/hook"
    assert request.json["message"] == "ipm v3 -> v4 <b>"


def test_apprise_is_tried_again_after_500_and_not_after_403(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(500) as server:
        set_to(monkeypatch, server.url.replace("http://", "json://"))
        assert deliver("a") == []
    assert len(server.requests) == 2
    with listening(403) as server:
        set_to(monkeypatch, server.url.replace("http://", "json://"))
        assert deliver("a") == [
            "message to ops ($OPS) was not delivered: it answered 403, its address is wrong or no longer good"
        ]
    assert len(server.requests) == 1


@pytest.mark.parametrize("value", ["https://example.org/tok-5ecret", "nonsense 5ecret", "https://", "http://[::1/api/"])
def test_what_nobody_understands_is_told_without_its_value(
    monkeypatch: pytest.MonkeyPatch, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    set_to(monkeypatch, value)
    assert deliver("a") == [
        "message to ops ($OPS) was not delivered: its value is neither a Discord webhook nor an address that "
        "Apprise knows"
    ]
    assert capfd.readouterr() == ("", "")


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.fixture
def everything_logged() -> Iterator[list[str]]:
    """Collect whatever any library logs, at every level."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    root, collector, level = logging.getLogger(), Collector(), logging.getLogger().level
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    yield found
    root.removeHandler(collector)
    root.setLevel(level)


def _addresses(server: Listener, dead: int) -> list[str]:
    return [
        server.webhook,
        f"http://127.0.0.1:{dead}/api/webhooks/1/to-Ken_5ecret",
        "http://no.such.host.invalid/api/webhooks/1/to-Ken_5ecret",
        server.url.replace("http://", "json://") + "/to-Ken_5ecret",
        f"json://127.0.0.1:{dead}/to-Ken_5ecret",
        "http://127.0.0.1:1/to-Ken_5ecret with a space",
    ]


@pytest.mark.parametrize("number", range(6))
def test_no_address_is_in_a_warning_a_log_or_an_exception(
    monkeypatch: pytest.MonkeyPatch, number: int, everything_logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", 0.3)
    with socket.socket() as taken, listening(then=500) as server:
        taken.bind(("127.0.0.1", 0))
        set_to(monkeypatch, _addresses(server, taken.getsockname()[1])[number])
        (failed,) = deliver("a")
    out, err = capfd.readouterr()
    assert "5ecret" not in failed + out + err + "".join(everything_logged)


def test_what_is_raised_carries_nothing_of_the_library_that_knew_the_address() -> None:
    with pytest.raises(web.NotDelivered) as caught:
        web.send("http://127.0.0.1:1/\x00to-Ken_5ecret")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert str(caught.value) == "its value is no address"


# -- the ping ------------------------------------------------------------------------------------------------------


def test_a_ping_is_a_plain_get(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(500, then=200) as server:
        monkeypatch.setenv("PING", f"{server.url}/uuid")
        made = Delivery({})
        made.ping("PING")
        assert made.close() == []
    assert [(request.method, request.path, request.body) for request in server.requests] == [("GET", "/uuid", b"")] * 2


def test_a_ping_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(404) as server:
        monkeypatch.setenv("PING", f"{server.url}/uuid")
        made = Delivery({})
        made.ping("PING")
        assert made.close() == [
            "ping ($PING) was not delivered: it answered 404, its address is wrong or no longer good"
        ]


def test_nothing_heavy_is_loaded_before_something_is_sent() -> None:
    program = (
        "from b2m.messages import Delivery; made = Delivery({'ops': ['OPS']}); assert made.close() == []; "
        "import json, sys; print(json.dumps(sorted(sys.modules)))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert {"apprise", "requests", "urllib.request"}.isdisjoint(loaded)
