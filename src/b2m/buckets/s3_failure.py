"""What a failed request to an S3 store came to, and how people are told.

obstore tells everything in the text of its errors: status, the store's XML, and what its HTTP client met. Only what is
picked out here is ever shown, since that text may quote the key's id and what was signed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["answer", "redirect", "tls", "connect", "timeout", "broken"]

# The store says, or its status means, that the request was not carried out or may be carried out twice.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"RequestTimeout", "ConditionalRequestConflict", "OperationAborted", "SlowDown"})
_OTHER_REGION = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"}
)
_UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "InvalidToken", "ExpiredToken", "NotSignedUp", "Unauthorized"})

_TLS = {
    "UnknownIssuer": "its certificate is signed by nobody that this machine trusts",
    "Expired": "its certificate has expired",
    "NotValidYet": "its certificate is not valid yet",
    "NotValidForName": "its certificate is for another name",
    "InvalidContentType": "it does not speak TLS; is it http:// instead?",
    "InvalidCertificate": "its certificate is not valid",
    "HandshakeFailure": "no common way to encrypt was found",
}


@dataclass(frozen=True)
class Failure:
    """How one request failed; ``code`` is S3's word for it, "" without one."""

    kind: Kind
    status: int = 0
    code: str = ""
    detail: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Read an error of obstore's."""
        text, _, debug = str(error).partition("\n\nDebug source:")
        if found := re.search(r"status code: (\d{3})", text):
            code = re.search(r"<Code>([^<]{1,80})</Code>", text)
            detail = re.search(r"<Message>([^<]{1,300})</Message>", text)
            return cls("answer", int(found[1]), code[1] if code else "", " ".join(detail[1].split()) if detail else "")
        if "redirect without LOCATION" in text or "kind: Redirect" in debug:
            return cls("redirect")
        for word, meaning in _TLS.items():
            if word in debug:
                return cls("tls", detail=meaning)
        if "kind: Timeout" in debug or "TimedOut" in debug:
            return cls("timeout")
        if "kind: Connect" in debug:
            said = re.search(r'(?:message|error): "([^"]{1,200})"', debug)
            return cls("connect", detail=said[1].lower() if said else "")
        broken = ("kind: Interrupted", "kind: Request", "kind: Body", "IncompleteMessage", "IncompleteBody")
        if any(word in debug for word in broken):
            return cls("broken", detail="the connection was cut")
        return cls("broken", detail=" ".join(text.rpartition(" - ")[2].split())[:200])

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed a little later. 501 never does, nor does 403."""
        if self.kind == "answer":
            return self.status in _PASSING or self.code in _PASSING_CODES
        return self.kind in ("connect", "timeout", "broken")

    @property
    def asks_to_slow_down(self) -> bool:
        return self.status in (429, 503)

    @property
    def no_bucket(self) -> bool:
        return self.code == "NoSuchBucket"

    @property
    def not_supported(self) -> bool:
        """The store does not know such a request, and never will: conditions on B2's S3 endpoint."""
        return self.status == 501 or self.code == "NotImplemented"

    @property
    def behind_the_end(self) -> bool:
        return self.status == 416

    @property
    def conflict(self) -> bool:
        """Another conditional request on the same name is under way; nothing is said about the object."""
        return self.status == 409


@dataclass(frozen=True)
class Place:
    """Where a bucket is, in the words of inventory.yaml."""

    bucket: str
    where: str  # the store's address, without what may be secret in it
    region: str


def sentence(failure: Failure, doing: str, place: Place, tried: int, seconds: float) -> str:
    """Say what went wrong with a request and what to do now; ``doing`` as in "cannot read a.json"."""
    what, now = _what_and_now(failure, place, seconds)
    again = f" ({tried} times)" if tried > 1 and failure.passing else ""
    return f"{doing}: {what}{again}; {now}"


def _what_and_now(failure: Failure, place: Place, seconds: float) -> tuple[str, str]:
    inventory, mend_key = "inventory.yaml", "set the secrets that key_id and key of inventory.yaml name"
    match failure.kind:
        case "tls" if failure.detail == _TLS["UnknownIssuer"]:
            now = "let SSL_CERT_FILE name a file with the certificate of the authority that signed it"
            return f"TLS with {place.where} failed, {failure.detail}", now
        case "tls":
            return f"TLS with {place.where} failed, {failure.detail}", f"mend the store or endpoint in {inventory}"
        case "connect":
            why = f" ({failure.detail})" if failure.detail else ""
            now = f"is the store running, and endpoint right in {inventory}?"
            return f"{place.where} cannot be reached{why}", now
        case "timeout":
            return f"{place.where} did not answer within {seconds:g} s", "check the network and run again"
        case "broken":
            return f"{place.where}: {failure.detail}", "run again"
        case "redirect":
            return _elsewhere(place, "")
    status, code = failure.status, failure.code
    said = f"{status} {code}".strip()
    if code in _OTHER_REGION or status in (301, 307, 308):
        return _elsewhere(place, failure.detail)
    if code == "RequestTimeTooSkewed":
        return f"the clocks of this machine and of {place.where} differ too much ({code})", "set this machine's clock"
    if code in _UNKNOWN_KEY or status == 401:
        return f"{place.where} does not know the key ({said})", mend_key
    if code == "SignatureDoesNotMatch":
        return f"the key does not fit its id ({said})", mend_key
    if status == 403:
        return f"the key may not do that ({said})", "give it the rights of docs/buckets.md, or see: b2m bucket.check"
    if failure.no_bucket:
        return f"there is no bucket {place.bucket} at {place.where}", f"make it there, or mend url in {inventory}"
    if failure.not_supported:
        return f"{place.where} does not support that ({said})", "see what it can do: b2m bucket.check"
    if status == 429 or status >= 500:
        return f"{place.where} answered {said}", "that passes; run again later"
    detail = f" ({failure.detail})" if failure.detail else ""
    return f"{place.where} answered {said}{detail}", "see what is wrong: b2m bucket.check"


def _elsewhere(place: Place, said: str) -> tuple[str, str]:
    expected = re.search(r"expecting '([a-z0-9-]+)'", said)
    where = f"in {expected[1]}, not in {place.region}" if expected else f"not in region {place.region}"
    return f"bucket {place.bucket} is {where}", "set region, and endpoint if it is given, in inventory.yaml"
