"""Request bodies, read within their limit: what is too large is refused before it is read whole."""

from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from cloud_gateway.errors import BadRequest, BodyTooLarge

T = TypeVar("T")
MAX_JSON = 1 << 20


async def pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `BodyTooLarge`, `BadRequest`."""
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > limit:
        raise BodyTooLarge(f"the body has {claimed} bytes, over the limit of {limit}; send less")
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(f"the body is over the limit of {limit} bytes; send less")
            if piece:
                yield piece
    except ClientDisconnect as error:
        raise BadRequest("the connection ended inside the body; send it again") from error


async def whole(request: Request, limit: int) -> bytes:
    """The body. Raises `BodyTooLarge`, `BadRequest`."""
    return b"".join([piece async for piece in pieces(request, limit)])


async def parsed(request: Request, shape: type[T]) -> T:
    """A JSON body of this shape. Raises `BodyTooLarge`, `BadRequest`."""
    body = await whole(request, MAX_JSON)
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not what this route takes: {error}") from error
