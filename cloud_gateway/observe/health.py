"""/health/live, /health/ready, /metrics: open to everybody who reaches the port."""

from collections.abc import Callable, Sequence

import msgspec
from fastapi import APIRouter, Response
from msgspec import Struct

from cloud_gateway.observe.metrics import CONTENT_TYPE, Metrics


class Check(Struct, frozen=True):
    """One thing that should work; without what is `needed` the gateway is of no use to anybody."""

    name: str
    ok: bool
    why: str = ""
    needed: bool = True


class Health(Struct, frozen=True):
    """Answer of /health/ready."""

    ready: bool
    checks: tuple[Check, ...]


def router(metrics: Metrics, checks: Callable[[], Sequence[Check]]) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/health/live")
    async def live() -> Response:
        """The process answers; that is all this says."""
        return Response()

    @routes.get("/health/ready")
    async def ready() -> Response:
        found = tuple(checks())
        is_ready = all(check.ok for check in found if check.needed)
        return Response(
            msgspec.json.encode(Health(is_ready, found)),
            200 if is_ready else 503,
            media_type="application/json",
        )

    @routes.get("/metrics")
    async def page() -> Response:
        return Response(metrics.page(), headers={"Content-Type": CONTENT_TYPE})

    return routes
