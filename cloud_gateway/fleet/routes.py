"""Admin routes for devices: add, list, remove."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import Struct

from cloud_gateway.bodies import parsed
from cloud_gateway.fleet.store import Enrolled
from cloud_gateway.shapes import Devices, Invitation, ListedDevice, NewDevice


class Enrolling(Protocol):
    """What these routes ask; `run.Devices` is the real one."""

    def present(self) -> list[Enrolled]: ...

    async def add(self, name: str) -> str: ...

    async def remove(self, name: str) -> None: ...


class Addresses(Struct, frozen=True):
    """Where devices find this gateway, and the key they check packages with."""

    gateway: str
    mqtt: str | None
    key: str | None


def router(
    devices: Enrolling,
    addresses: Callable[[], Addresses],
    admin: Callable[[Request], Awaitable[None]],
) -> APIRouter:
    """Routes under /v1/admin/devices."""
    routes = APIRouter(prefix="/v1/admin/devices", dependencies=[Depends(admin)])

    @routes.post("")
    async def add(request: Request) -> Response:
        asked = await parsed(request, NewDevice)
        token = await devices.add(asked.name)
        found = addresses()
        return _json(
            Invitation(asked.name, token, found.gateway, found.mqtt, found.key), status=201
        )

    @routes.get("")
    async def listing() -> Response:
        present = tuple(ListedDevice(one.name, one.added_at) for one in devices.present())
        return _json(Devices(present))

    @routes.delete("/{name}")
    async def remove(name: str) -> Response:
        await devices.remove(name)
        return Response(status_code=204)

    return routes


def _json(value: Struct, *, status: int = 200) -> Response:
    # A token must stay in no cache between here and the operator.
    return Response(
        msgspec.json.encode(value),
        status,
        {"Cache-Control": "no-store"},
        media_type="application/json",
    )
