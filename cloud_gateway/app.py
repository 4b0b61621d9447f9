"""The gateway, wired: every part is built here, handed what it needs, started and stopped in order.

Clock, runners and broker are handed in, so the simulator runs the same gateway on virtual time.
"""

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from cloud_gateway import problems
from cloud_gateway.auth import Door, admin_token
from cloud_gateway.broker.passwords import hash_password
from cloud_gateway.broker.run import Broker
from cloud_gateway.dashboard import routes as dashboard
from cloud_gateway.database import Database
from cloud_gateway.desk import Desk
from cloud_gateway.errors import DataInUse, DataUnusable, Forbidden, GatewayError
from cloud_gateway.features import routes as feature_routes
from cloud_gateway.features.run import FeatureTables
from cloud_gateway.fleet import feed
from cloud_gateway.fleet import routes as fleet_routes
from cloud_gateway.fleet.routes import Addresses
from cloud_gateway.fleet.run import Beats, Devices, flush_forever
from cloud_gateway.fleet.view import View
from cloud_gateway.fleet.watch import Watch
from cloud_gateway.inference import routes as inference_routes
from cloud_gateway.inference.engines.base import Engine, Wanted
from cloud_gateway.inference.engines.local import open_local
from cloud_gateway.inference.escalations import Escalations
from cloud_gateway.inference.run import Models
from cloud_gateway.observe import health
from cloud_gateway.observe.health import Check
from cloud_gateway.observe.metrics import Metrics
from cloud_gateway.packages import routes as package_routes
from cloud_gateway.packages.blobs import Blobs
from cloud_gateway.packages.registry import Change, Registry
from cloud_gateway.settings import Settings
from cloud_gateway.shapes import PUBLISHER
from cloud_gateway.telemetry.ingest import Ingest
from cloud_gateway.telemetry.rollup import quantile_us
from cloud_gateway.uplink import up_endpoint
from models import package
from models.errors import ModelsError
from sync.clock import Clock, SystemClock
from sync.errors import SyncError
from sync.runner import Runner, ThreadRunner

Runners = Callable[[str], Runner]


class Gateway:
    """All parts of one gateway. `running` brings them up and down."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        runners: Runners,
        in_memory: bool,
    ) -> None:
        data = settings.data
        _usable(data)
        self.settings = settings
        self.clock = clock
        self.http_address = f"http://{settings.host}:{settings.port}"
        """Where devices reach the HTTP side; `cli` corrects it once the socket is bound."""
        self._publisher_key = data / PUBLISHER
        self._runners = [runners("database"), runners("archives")]
        if not in_memory:
            self._runners.append(runners("reads"))
        self.database = Database.at(
            None if in_memory else data / "gateway.db",
            write_runner=self._runners[0],
            read_runner=self._runners[-1] if not in_memory else self._runners[0],
        )
        self.metrics = Metrics()
        self.door = Door(admin_token(data / "admin.token"))
        self.blobs = Blobs(data / "blobs", self._runners[1])
        self.registry = Registry(
            self.database,
            self.blobs,
            clock,
            publisher_key=self._publisher_key,
            changed=self._versions_changed,
        )
        self.features = FeatureTables(self.database, clock)
        self.models = Models(
            self._open_engine,
            runners,
            self.metrics,
            inline_below_us=settings.inference.inline_below_us,
            max_waiting=settings.inference.max_waiting,
        )
        self.escalations = Escalations(self.models, self.database, clock, self.metrics)
        self.beats = Beats(self.database, clock)
        self.ingest = Ingest(
            self.database, clock, self.metrics, dead_letter_bytes=settings.dead_letter_bytes
        )
        self.desk = Desk(
            self.ingest, self.beats, self.escalations, clock, desired=self.registry.desired
        )
        self.broker = Broker(
            settings.broker,
            folder=data / "broker",
            host=settings.host,
            desk=self.desk,
            fleet=self.door,
            counters=self.metrics,
        )
        self.devices = Devices(
            self.database,
            clock,
            self.door,
            broker_password=hash_password,
            access_changed=self.broker.access_changed,
        )
        self.watch = Watch(View(self.database, clock=clock, quantile_us=quantile_us), clock=clock)
        self._flushes = [self.beats.flush, self.escalations.flush]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Up inside, down after. Raises `StartError`s and `StorageUnavailable`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_held(self.settings.data / "lock"))
            for runner in self._runners:
                stack.callback(runner.close)
            stack.push_async_callback(self.database.close)
            self.blobs.sweep()
            package.sweep(self.settings.data / "cloud")
            await self.database.migrate()
            await self.devices.load()
            await self.registry.load()
            stack.callback(self.models.close)
            await self.models.serve(self._wanted())
            flushing = asyncio.create_task(flush_forever(self._flushes, self.settings.beat_flush_s))
            stack.push_async_callback(self._last_flush, flushing)
            stack.push_async_callback(self.watch.close)
            await stack.enter_async_context(self.broker.running())
            yield

    def addresses(self) -> Addresses:
        """What `device add` tells a new device."""
        key = self._publisher_key
        return Addresses(
            gateway=self.http_address,
            mqtt=self.broker.address,
            key=key.read_text(encoding="ascii").strip() if key.exists() else None,
        )

    def checks(self) -> list[Check]:
        """Whether the gateway is of use now."""
        found = [
            Check(
                "database",
                self.database.healthy,
                "" if self.database.healthy else "the last write failed",
            ),
            Check("broker", *self.broker.state()),
        ]
        for task, problem in sorted(self.models.problems().items()):
            found.append(Check(f"model {task}", ok=False, why=problem, needed=False))
        return found

    def device(self, request: Request) -> str:
        """Who sends this request. Raises `AuthError`s."""
        return self.door.device(request.headers.get("authorization"))

    async def only_devices(self, request: Request) -> None:
        self.device(request)

    async def only_admin(self, request: Request) -> None:
        self.door.admin(request.headers.get("authorization"))

    async def only_readers(self, request: Request) -> None:
        """Whoever may look at the fleet."""
        if self.settings.page == "open" or _is_loopback(request):
            return
        if request.headers.get("authorization"):
            self.door.admin(request.headers["authorization"])
            return
        raise Forbidden(
            "the fleet is shown to this machine only; look from there, send the admin token, "
            "or start the gateway with --set page=open"
        )

    def _wanted(self) -> Mapping[str, Wanted]:
        return {
            task: Wanted(task, one.version, one.cloud_sha256)
            for task, one in self.registry.served().items()
        }

    async def _versions_changed(self, change: Change) -> None:
        await self.models.serve(self._wanted())
        whom = change.devices
        await self.broker.notify(
            [one.name for one in self.devices.present()] if whom is None else whom
        )

    def _open_engine(self, wanted: Wanted) -> Engine:
        return open_local(
            self.blobs.path(wanted.archive_sha256),
            wanted,
            folder=self.settings.data / "cloud",
            provider=self.settings.inference.provider,
            allow_custom=self.settings.custom_steps,
            source=self.features.source,
        )

    async def _last_flush(self, flushing: "asyncio.Task[None]") -> None:
        flushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flushing
        for flush in self._flushes:
            with contextlib.suppress(GatewayError):  # said by the last regular flush already
                await flush()


def create_app(
    settings: Settings,
    *,
    clock: Clock | None = None,
    runners: Runners = ThreadRunner,
    in_memory: bool = False,
) -> FastAPI:
    """The application; its lifespan is the gateway's. `app.state.gateway` is the `Gateway`."""
    gateway = Gateway(settings, clock=clock or SystemClock(), runners=runners, in_memory=in_memory)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        async with gateway.running():
            yield

    app = FastAPI(
        title="Longstop",
        lifespan=lifespan,
        # Its generated page would fetch scripts from other people's servers.
        openapi_url=None,
        # It would send spans wherever the environment of whoever starts us points.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.gateway = gateway
    limit = settings.max_body_bytes
    app.add_route(
        "/v1/up",
        up_endpoint(
            gateway.desk, gateway.device, gateway.metrics.message_heard, max_body_bytes=limit
        ),
        methods=["POST"],
    )
    app.add_route(
        "/v2/models/{task}/infer",
        inference_routes.infer_endpoint(gateway.escalations, gateway.device, max_body_bytes=limit),
        methods=["POST"],
    )
    app.include_router(
        inference_routes.router(
            gateway.models.facts, lambda: all(check.ok for check in gateway.checks())
        )
    )
    app.include_router(
        package_routes.device_router(gateway.registry, gateway.blobs, gateway.only_devices)
    )
    app.include_router(
        package_routes.admin_router(
            gateway.registry,
            gateway.blobs,
            gateway.door,
            gateway.only_admin,
            max_archive_bytes=settings.max_archive_bytes,
        )
    )
    app.include_router(feature_routes.device_router(gateway.features, gateway.only_devices))
    app.include_router(feature_routes.admin_router(gateway.features, gateway.only_admin))
    app.include_router(fleet_routes.router(gateway.devices, gateway.addresses, gateway.only_admin))
    app.include_router(health.router(gateway.metrics, gateway.checks))
    readers = [Depends(gateway.only_readers)]
    app.include_router(feed.router(gateway.watch), dependencies=readers)
    app.include_router(dashboard.router(gateway.watch), dependencies=readers)
    for kind in (GatewayError, ModelsError, SyncError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, problems.on_error)
    app.add_exception_handler(Exception, problems.on_error)
    return app


def _usable(data: Path) -> None:
    """Make the data folder. Raises `DataUnusable`."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data):
            pass
    except OSError as error:
        raise DataUnusable(
            f"the data folder {data} cannot be made or written ({error.strerror}); name another "
            "with --data, or give the gateway the right to write there"
        ) from error


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the data folder against a second gateway. Raises `DataInUse`."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataInUse(
                f"another gateway runs on {path.parent}; stop it, or start this one with --data "
                "and a folder of its own"
            ) from error
        yield
    finally:
        os.close(handle)


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
