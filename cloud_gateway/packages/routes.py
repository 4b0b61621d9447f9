"""Package routes: devices fetch releases and archives, the operator publishes and desires."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from msgspec import Struct

from cloud_gateway.bodies import parsed, pieces, whole
from cloud_gateway.errors import BadRange, BadRequest, BlobMissing, UnknownDevice
from cloud_gateway.packages.blobs import Blobs
from cloud_gateway.packages.registry import Registry
from cloud_gateway.packages.store import Published
from cloud_gateway.shapes import DesiredVersion, ReleaseFacts, Releases, Stored
from models.release import MAX_DOCUMENT

Guard = Callable[[Request], Awaitable[None]]
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


class Fleet(Protocol):
    """Who could be meant by a device's name."""

    def knows(self, name: str) -> bool: ...


def device_router(registry: Registry, blobs: Blobs, device: Guard) -> APIRouter:
    """Routes under /v1/packages. Every enrolled device may fetch every release."""
    routes = APIRouter(prefix="/v1/packages", dependencies=[Depends(device)])

    @routes.get("/{task}/{version}/release")
    async def release(task: str, version: str) -> Response:
        """The signed document, to the byte as it was published."""
        found = registry.release(task, version)
        return Response(found.signed, media_type="application/json")

    @routes.get("/{task}/{version}/archive")
    async def archive(task: str, version: str, request: Request) -> Response:
        """The edge archive as it lies on disk; one Range of it when asked."""
        found = registry.release(task, version)
        size = blobs.size(found.edge_sha256)
        if size is None:
            raise BlobMissing(
                f"the archive of {task} {version} is gone from the gateway's disk; "
                "publish the package again"
            )
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{found.edge_sha256}"'}
        start, end = 0, size
        status = 200
        if (asked := request.headers.get("range")) and _same(request, headers["ETag"]):
            start, end = byte_range(asked, size)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            status = 206
        headers["Content-Length"] = str(end - start)
        return StreamingResponse(
            blobs.read(found.edge_sha256, start, end),
            status,
            headers,
            media_type="application/octet-stream",
        )

    return routes


def admin_router(
    registry: Registry, blobs: Blobs, fleet: Fleet, admin: Guard, *, max_archive_bytes: int
) -> APIRouter:
    """Routes under /v1/admin for archives, releases and desired versions."""
    routes = APIRouter(prefix="/v1/admin", dependencies=[Depends(admin)])

    @routes.put("/blobs/{sha256}")
    async def upload(sha256: str, request: Request) -> Response:
        """Keep an archive; the same again changes nothing."""
        size = await blobs.store(sha256, pieces(request, max_archive_bytes))
        new = await registry.note_archive(sha256, size)
        return _json(Stored(sha256, size), 201 if new else 200)

    @routes.post("/releases")
    async def publish(request: Request) -> Response:
        """Take a signed release whose archives were uploaded."""
        published, new = await registry.publish(await whole(request, MAX_DOCUMENT))
        return _json(_facts(registry, [published])[0], 201 if new else 200)

    @routes.get("/releases")
    async def releases() -> Response:
        return _json(Releases(_facts(registry, registry.releases())))

    @routes.put("/desired")
    async def desire(request: Request) -> Response:
        """Say which version devices should run."""
        asked = await parsed(request, DesiredVersion)
        if asked.all == bool(asked.devices):
            raise BadRequest('name the devices, or say "all": true; one of the two')
        for name in asked.devices:
            if not fleet.knows(name):
                raise UnknownDevice(
                    f"there is no device {name[:80]!r}; nothing was changed, "
                    "`longstop-gateway device list` shows those there are"
                )
        await registry.desire(asked.task, asked.version, None if asked.all else asked.devices)
        return Response(status_code=204)

    return routes


def byte_range(asked: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last, of a Range header. Raises `BadRange`."""
    found = _RANGE.match(asked.strip())
    if found is None or found.groups() == ("", ""):
        raise BadRange(
            f"range {asked[:80]!r} is not one stretch of bytes; ask for bytes=FIRST-LAST"
        )
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= end:
        raise BadRange(f"range {asked[:80]!r} holds no byte of an archive of {size}")
    return start, end


def _same(request: Request, etag: str) -> bool:
    """Whether a part may be sent: not when the rest came from other content."""
    return request.headers.get("if-range", etag) == etag


def _facts(registry: Registry, releases: Sequence[Published]) -> tuple[ReleaseFacts, ...]:
    served = {(one.task, one.version) for one in registry.served().values()}
    return tuple(
        ReleaseFacts(
            task=one.task,
            version=one.version,
            number=one.number,
            name=one.name,
            edge_sha256=one.edge_sha256,
            cloud_sha256=one.cloud_sha256,
            published_at=one.published_at,
            served=(one.task, one.version) in served,
        )
        for one in releases
    )


def _json(value: Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
