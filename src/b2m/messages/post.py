"""How a text gets to an address: a Discord webhook directly, everything else through Apprise.

Apprise does Discord too, but it neither waits as Discord asks nor keeps a text from calling @everyone.
"""

from __future__ import annotations

import json
import logging
import re
import threading

from b2m.messages.web import NotDelivered, answered, send

LIMIT = 2000  # characters of a Discord message, counted in UTF-16 so that it is never too long
WEBHOOK = re.compile(r"https?://[^/?#\s]+/api/(?:v\d+/)?webhooks/\d+/[\w-]+(?:\?\S*)?")
BY_APPRISE = re.compile(r"discord://(?:(?P<name>[^/?@\s]+)@)?(?P<id>\d+)/(?P<token>[\w-]+)/?")


def post(address: str, text: str) -> None:
    """Send a text to a Discord webhook or an address of Apprise's; NotDelivered."""
    address = address.strip()
    if found := BY_APPRISE.fullmatch(address):
        _discord(f"https://discord.com/api/webhooks/{found['id']}/{found['token']}", text, found["name"])
    elif WEBHOOK.fullmatch(address):
        _discord(address, text)
    else:
        _apprise(address, text)


def shortened(text: str, limit: int = LIMIT) -> str:
    """Cut a text to so many UTF-16 units, the last one an ellipsis; the run's record has it whole."""
    raw = text.encode("utf-16-le", "replace")
    if len(raw) <= 2 * limit:
        return text
    return raw[: 2 * (limit - 1)].decode("utf-16-le", "ignore").rstrip() + "…"


def _discord(webhook: str, text: str, name: str | None = None) -> None:
    content = {"content": shortened(text), "allowed_mentions": {"parse": []}, **({"username": name} if name else {})}
    send(webhook, json.dumps(content).encode(), {"Content-Type": "application/json"})


class _Codes(logging.Handler):
    """Takes what Apprise logs, which may name an address, and keeps the HTTP codes in it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.found += map(int, re.findall(r"error=(\d{3})\b", record.getMessage()))


def _apprise(address: str, text: str) -> None:
    logger = logging.getLogger("apprise")
    codes = _Codes()
    logger.propagate = False
    logger.addHandler(codes)
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # what it tells besides is addresses
    try:
        import apprise

        service = apprise.Apprise.instantiate(address, suppress_exceptions=True)
        if not isinstance(service, apprise.NotifyBase):
            raise NotDelivered("its value is neither a Discord webhook nor an address that Apprise knows", None)
        if service.notify(body=text, body_format=apprise.NotifyFormat.TEXT):
            return
    finally:
        logger.removeHandler(codes)
    raise answered(codes.found[-1]) if codes.found else NotDelivered("it could not be reached", 0.0)
