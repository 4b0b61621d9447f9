"""The fleet as JSON and as a stream: what the page reads, and any script may."""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from msgspec import Struct

from cloud_gateway.errors import UnknownDevice
from cloud_gateway.facts import DeviceFacts, DevicePage, Fleet, Series
from cloud_gateway.listing import Chart, Query, read, select


class Watching(Protocol):
    """What these routes ask; `watch.Watch` is the real one."""

    async def fleet(self) -> Fleet: ...

    async def device(self, name: str) -> DevicePage | None: ...

    async def series(self, minutes: int, *, task: str = "", device: str = "") -> Series: ...

    def stream(self, after: str | None = None) -> AsyncIterator[bytes]: ...


class Listed(Struct, frozen=True):
    """A stretch of a list of devices. `id` is the picture it was cut from, as in the stream."""

    id: str
    at: float
    total: int
    offset: int
    window_since: float
    next: str | None
    devices: tuple[DeviceFacts, ...]


def router(watch: Watching) -> APIRouter:
    """Routes under /v1/fleet; all of them only read."""
    routes = APIRouter(prefix="/v1/fleet", tags=["fleet"])

    @routes.get("")
    async def devices(request: Request) -> Response:
        """Devices, windowed: `total` is how many match, `devices` the stretch asked for.

        Parameters are the fields of `listing.Query`.
        """
        query = read(Query, request.query_params)
        fleet = await watch.fleet()
        window = select(fleet.devices, query)
        end = query.offset + len(window.devices)
        return _json(
            Listed(
                id=fleet.id,
                at=fleet.at,
                total=window.total,
                offset=query.offset,
                window_since=fleet.summary.window_since,
                next=f"/v1/fleet?{query.link(offset=end)}" if end < window.total else None,
                devices=window.devices,
            )
        )

    @routes.get("/summary")
    async def summary() -> Response:
        """Counts, each with the link to the list it is the length of, and sums."""
        return _json((await watch.fleet()).summary)

    @routes.get("/series")
    async def series(request: Request) -> Response:
        """Requests by route, and latency, over time. A time without a bucket is not known.

        Parameters are the fields of `listing.Chart`.
        """
        chart = read(Chart, request.query_params)
        return _json(await watch.series(chart.minutes, task=chart.task, device=chart.device))

    @routes.get("/devices/{name}")
    async def device(name: str) -> Response:
        """One device in full."""
        page = await watch.device(name)
        if page is None:
            raise UnknownDevice(
                f"no device {name!r} is enrolled; `device list` shows those that are"
            )
        return _json(page)

    @routes.get("/events")
    async def events(request: Request) -> StreamingResponse:
        """A snapshot, then what changes. Resumes after the id of the last event seen.

        A browser sends that id as `Last-Event-ID`; anybody else may send it as `after`.
        """
        seen = request.headers.get("last-event-id") or request.query_params.get("after")
        return StreamingResponse(
            watch.stream(seen),
            media_type="text/event-stream",
            # A proxy that collects the stream before it passes it on would make it worthless.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return routes


def _json(value: Struct) -> Response:
    return Response(
        msgspec.json.encode(value),
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
