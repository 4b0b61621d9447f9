"""POST /v1/up: the desk over HTTP. One message of a device in, the gateway's reply out.

A refusal is a reply like any other and comes with status 200; only a request that never reaches the
desk (no token, too large) is answered with a problem document.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from cloud_gateway.bodies import whole
from cloud_gateway.desk import Desk

MEDIA_TYPE = "application/vnd.longstop"


def up_endpoint(
    desk: Desk,
    device: Callable[[Request], str],
    heard: Callable[[str], None],
    *,
    max_body_bytes: int,
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint; `heard` is told what carried the message."""

    async def up(request: Request) -> Response:
        name = device(request)
        message = await whole(request, max_body_bytes)
        heard("http")
        return Response(await desk.hear(name, message), media_type=MEDIA_TYPE)

    return up
