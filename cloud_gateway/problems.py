"""Errors as the outside sees them: problem+json over HTTP, `Refused` over any transport.

The only place that knows which error of another package is whose fault. An error nobody named is
logged whole and told as `internal`: its text stays here.
"""

import logging
import math

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cloud_gateway.errors import GatewayError
from cloud_gateway.shapes import Problem
from models.errors import InputError, ModelsError, PackageError
from sync.errors import MessageTooLarge, SyncError, TrustError, WireError
from sync.transport.status import is_permanent
from sync.wire import v1

_CODES = {404: "not_found", 405: "method_not_allowed"}
_log = logging.getLogger(__name__)


def problem(error: Exception) -> Problem:
    """What to tell about an error."""
    status, code, retry_after_s = _kind(error)
    detail = _words(error)
    if code == "internal":
        _log.error("request.failed", exc_info=error)
        detail = "the gateway failed in a way nobody foresaw; its log says how"
    return Problem(
        title=code.replace("_", " "),
        status=status,
        code=code,
        detail=detail,
        permanent=is_permanent(status),
        retry_after_s=retry_after_s,
    )


def refusal(error: Exception) -> v1.Refused:
    """The same, as a message to a device."""
    told = problem(error)
    return v1.Refused(
        code=told.code,
        message=told.detail,
        permanent=told.permanent,
        retry_after_s=told.retry_after_s,
    )


def response(error: Exception) -> Response:
    """The same, as an HTTP answer."""
    told = problem(error)
    headers = {}
    if told.retry_after_s:
        headers["Retry-After"] = str(math.ceil(told.retry_after_s))
    if told.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(told), told.status, headers, media_type="application/problem+json"
    )


async def on_error(request: Request, error: Exception) -> Response:
    """Exception handler of the application."""
    del request
    return response(error)


def _words(error: Exception) -> str:
    match error:
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return f"{where}: {first['msg']}; correct the request"
        case HTTPException(status_code=404):
            return "there is no such route; docs/reference/gateway-api.md lists those there are"
        case HTTPException():
            return str(error.detail)
        case _:
            return str(error)


def _kind(error: Exception) -> tuple[int, str, float]:
    """Status, code, seconds to wait."""
    match error:
        case GatewayError():
            return error.status, error.code, error.retry_after_s
        case MessageTooLarge():
            return 413, error.code, 0.0
        case InputError() | PackageError() | WireError() | TrustError():
            return 400, error.code, 0.0
        case RequestValidationError():
            return 400, "bad_request", 0.0
        case HTTPException():
            return error.status_code, _CODES.get(error.status_code, "http_error"), 0.0
        case ModelsError() | SyncError():
            return 500, error.code, 1.0
        case _:
            return 500, "internal", 1.0
