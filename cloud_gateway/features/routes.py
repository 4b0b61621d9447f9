"""Features over HTTP: devices look one row up, the operator feeds, lists and removes tables."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Protocol

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as InPath

from cloud_gateway.bodies import parsed
from cloud_gateway.features.store import TableFacts
from cloud_gateway.shapes import FeatureRow, FeatureRows, FeatureTables, ListedTable
from models.pipeline.features import Key, Row
from models.pipeline.features_http import Answer, Question

Table = Annotated[str, InPath(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""As a package names its source."""


class Tables(Protocol):
    """What these routes ask; `run.FeatureTables` is the real one."""

    async def put(self, table: str, rows: Sequence[FeatureRow]) -> None: ...

    async def remove(self, table: str) -> None: ...

    async def listing(self) -> list[TableFacts]: ...

    async def look_up(self, table: str, key: Key, names: tuple[str, ...]) -> Row | None: ...


def device_router(tables: Tables, device: Callable[[Request], Awaitable[None]]) -> APIRouter:
    """The route under /v1/features."""
    routes = APIRouter(prefix="/v1/features", dependencies=[Depends(device)])

    @routes.post("/{table}")
    async def look_up(table: Table, request: Request) -> Response:
        asked = await parsed(request, Question)
        row = await tables.look_up(table, asked.key, asked.names)
        return _json(Answer(None) if row is None else Answer(row.values, row.age_s))

    return routes


def admin_router(tables: Tables, admin: Callable[[Request], Awaitable[None]]) -> APIRouter:
    """Routes under /v1/admin/features."""
    routes = APIRouter(prefix="/v1/admin/features", dependencies=[Depends(admin)])

    @routes.get("")
    async def listing() -> Response:
        found = await tables.listing()
        return _json(
            FeatureTables(tuple(ListedTable(one.table, one.rows, one.newest_at) for one in found))
        )

    @routes.put("/{table}")
    async def put(table: Table, request: Request) -> Response:
        given = await parsed(request, FeatureRows)
        await tables.put(table, given.rows)
        return Response(status_code=204)

    @routes.delete("/{table}")
    async def remove(table: Table) -> Response:
        await tables.remove(table)
        return Response(status_code=204)

    return routes


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
