"""What an HTTP status means to a device.

1. 401 and 403: this device may not, as things are. Not permanent: enrolled again, the same message
   passes.
2. 408, 425, 429 and every 5xx: time may heal it, after `Retry-After` where it is given.
3. Any other 4xx: sending the same again is useless.
4. The code is the gateway's own (problem+json) where it gives one.

The gateway marks its refusals over other links by the same rules.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Struct

from sync.wire import v1

UNAUTHORISED = "unauthorised"
UNAUTHORISED_RETRY_S = 30.0
_LONGEST_RETRY_S = 3600.0
_ABOUT_THE_DEVICE = frozenset({401, 403})
_TRANSIENT = frozenset({408, 425, 429})
_CODES = {413: "message_too_large", 429: "overloaded", 503: "unavailable"}


class _Problem(Struct):
    """What we read of an error body: RFC 9457, or the Open Inference Protocol's `error`."""

    code: str = ""
    detail: str = ""
    title: str = ""
    error: str = ""


_problem = msgspec.json.Decoder(_Problem)


def is_permanent(status: int) -> bool:
    """Whether sending the same again is useless."""
    return 400 <= status < 500 and status not in _ABOUT_THE_DEVICE | _TRANSIENT


def refusal(status: int, headers: Mapping[str, str], body: bytes, now: float) -> v1.Refused:
    """The refusal behind any status but 200.

    Names of headers are in lower case; `now` is seconds since 1970.
    """
    try:
        problem = _problem.decode(body)
    except (msgspec.DecodeError, RecursionError):
        problem = _Problem()
    message = problem.detail or problem.error or problem.title or f"HTTP status {status}"
    if status in _ABOUT_THE_DEVICE:
        code = problem.code or UNAUTHORISED
        return v1.Refused(code, message, permanent=False, retry_after_s=UNAUTHORISED_RETRY_S)
    code = problem.code or _CODES.get(status, f"http_{status}")
    permanent = is_permanent(status)
    wait_s = 0.0 if permanent else _retry_after_s(headers.get("retry-after"), now)
    return v1.Refused(code, message, permanent, wait_s)


def _retry_after_s(text: str | None, now: float) -> float:
    """Both forms: seconds, or a date."""
    if text is None:
        return 0.0
    try:
        wait = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        wait = (date - datetime.fromtimestamp(now, tz=date.tzinfo or UTC)).total_seconds()
    # A gateway whose clock is wrong must not silence its fleet for a year; NaN falls to 0 too.
    return min(wait, _LONGEST_RETRY_S) if wait > 0 else 0.0
