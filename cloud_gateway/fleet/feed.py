"""The fleet as JSON and as a stream: what the page reads, and any script may."""

from collections.abc import AsyncIterator
from typing import Annotated, Protocol

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse
from msgspec import Struct

from cloud_gateway.errors import UnknownDevice
from cloud_gateway.facts import DeviceFacts, DevicePage, Fleet, Mark, Series, State
from cloud_gateway.fleet import listing

MAX_MINUTES = 24 * 60
Text = Annotated[str, Query(max_length=200)]


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


async def asked(
    name: Text = "",
    state: State | None = None,
    task: Text = "",
    version: Text = "",
    mark: Mark | None = None,
    sort: listing.Sort = "name",
    descending: bool = False,  # noqa: FBT001, FBT002 - FastAPI passes query parameters by name
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=listing.MAX_LIMIT)] = 100,
) -> listing.Query:
    """The list a request asks for, by its query parameters."""
    return listing.Query(
        name=name,
        state=state,
        task=task,
        version=version,
        mark=mark,
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
    )


def router(watch: Watching) -> APIRouter:
    """Routes under /v1/fleet; all of them only read."""
    routes = APIRouter(prefix="/v1/fleet", tags=["fleet"])

    @routes.get("")
    async def devices(query: Annotated[listing.Query, Depends(asked)]) -> Response:
        """Devices, windowed: `total` is how many match, `devices` the stretch asked for."""
        fleet = await watch.fleet()
        window = listing.select(fleet.devices, query)
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
    async def series(
        minutes: Annotated[int, Query(ge=1, le=MAX_MINUTES)] = 60,
        task: Text = "",
        device: Text = "",
    ) -> Response:
        """Requests by route, and latency, over time. A time without a bucket is not known."""
        return _json(await watch.series(minutes, task=task, device=device))

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
    async def events(
        after: Annotated[str | None, Query(max_length=64)] = None,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> StreamingResponse:
        """A snapshot, then what changes. Resumes after the id of the last event seen."""
        return StreamingResponse(
            watch.stream(last_event_id or after),
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
