"""One request to somebody who is told: sent once, without following redirects, its address in no text.

An address is a secret: it never stands in what is raised here, nor in what caused that.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from b2m import __version__

TIMEOUT = 10.0  # seconds for each step of a request
PASSING = frozenset({408, 425, 429})  # and every 5xx: worth another try
AGENT = f"b2m/{__version__}"  # Discord refuses what urllib calls itself


class NotDelivered(Exception):
    """Why something could not be delivered, and when to try again: after so many seconds, or never (None)."""

    def __init__(self, why: str, again: float | None) -> None:
        super().__init__(why)
        self.why = why
        self.again = again


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, and perhaps at somebody else's."""

    def redirect_request(self, *_: object) -> None:
        return None


def send(address: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> None:
    """POST a body, or GET without one; NotDelivered unless the answer is 2xx."""
    failure: NotDelivered | None = None
    try:
        request = urllib.request.Request(address, body, {"User-Agent": AGENT, **(headers or {})})
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        failure = answered(error.code, error.headers.get("Retry-After"))
        error.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        failure = _unanswered(error)
    # Raised outside of the handler: what urllib raised may name the address, and must not come along.
    raise failure


def answered(code: int, retry_after: str | None = None) -> NotDelivered:
    """Return what an answer that is no success means."""
    if code in PASSING or code >= 500:
        return NotDelivered(f"it answered {code}", _seconds(retry_after))
    gone = ", its address is wrong or no longer good" if code in (401, 403, 404, 410) else ""
    return NotDelivered(f"it answered {code}{gone}", None)


def _seconds(retry_after: str | None) -> float:
    """Return how long a server asks to be left alone: a number of seconds, or a date; 0 if it does not say."""
    if not retry_after:
        return 0.0
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _unanswered(error: Exception) -> NotDelivered:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return NotDelivered(f"it did not answer within {TIMEOUT:g} s", 0.0)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotDelivered("its certificate is not valid", None)
    if isinstance(cause, OSError):
        return NotDelivered((cause.strerror or "the connection broke").lower(), 0.0)
    if isinstance(error, http.client.InvalidURL | ValueError | urllib.error.URLError):
        return NotDelivered("its value is no address", None)
    return NotDelivered("the connection broke", 0.0)
