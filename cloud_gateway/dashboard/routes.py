"""The page: the fleet, one device, and what they are drawn with. Every route only reads."""

from pathlib import Path
from typing import Protocol

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from cloud_gateway.dashboard import wording
from cloud_gateway.dashboard.assets import addresses, read_assets
from cloud_gateway.errors import NotFound
from cloud_gateway.facts import DeviceFacts, DevicePage, Fleet
from cloud_gateway.listing import Query, read, select

HEADERS = {
    # Nothing but our own files, no inline script, no inline style, in nobody's frame.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
BLANK = DeviceFacts(
    name="-",
    state="never",
    added_at=0.0,
    contact_at=None,
    link=None,
    agent_version=None,
    tasks=(),
    answers=None,
    records_at=None,
    issued=None,
    pending=None,
    escalations_waiting=None,
    said_at=None,
    clock_ahead_s=None,
    refusals=(),
)
"""A device nobody knows anything of: the row the browser clones."""
KEEP = "public, max-age=31536000, immutable"


class Watching(Protocol):
    """Where the page's numbers come from."""

    async def fleet(self) -> Fleet: ...

    async def device(self, name: str) -> DevicePage | None: ...


def router(watch: Watching) -> APIRouter:
    """The page's routes. Templates and assets are read here, once."""
    routes = APIRouter(include_in_schema=False)
    assets = read_assets()
    pages = _environment()
    pages.globals["asset"] = addresses(assets)

    def page(template: str, status: int = 200, **values: object) -> HTMLResponse:
        return HTMLResponse(pages.get_template(template).render(values), status, HEADERS)

    @routes.get("/")
    async def fleet_page(request: Request) -> HTMLResponse:
        query = read(Query, request.query_params)
        fleet = await watch.fleet()
        return page(
            "fleet.html",
            id=fleet.id,
            now=fleet.at,
            summary=fleet.summary,
            query=query,
            blank=BLANK,
            window=select(fleet.devices, query),
            tasks=sorted({task.task for one in fleet.devices for task in one.tasks}),
            versions=sorted(
                {task.version for one in fleet.devices for task in one.tasks if task.version}
            ),
        )

    @routes.get("/devices/{name}")
    async def device_page(name: str) -> HTMLResponse:
        found = await watch.device(name)
        if found is None:
            fleet = await watch.fleet()
            return page("unknown_device.html", 404, id=fleet.id, now=fleet.at, name=name)
        return page("device.html", id="", now=found.at, page=found, device=found.device)

    @routes.get("/static/{path:path}")
    async def static(path: str, request: Request) -> Response:
        asset = assets.get(path)
        if asset is None:
            raise NotFound(f"the page has no file {path[:200]!r}")
        named = request.query_params.get("v") == asset.tag
        tag = f'"{asset.tag}"'
        headers = {**HEADERS, "Cache-Control": KEEP if named else "no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, media_type=asset.media_type, headers=headers)

    return routes


def _environment() -> jinja2.Environment:
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    pages.filters.update(
        age=wording.age,
        count=wording.count,
        percent=wording.percent,
        utc=wording.utc,
        clock=wording.clock,
    )
    return pages
