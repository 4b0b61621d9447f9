"""A gateway without sockets: the shipped application on a real folder, reached through ASGI."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from msgspec import structs

from cloud_gateway.app import Gateway, create_app
from cloud_gateway.settings import BrokerSettings, Settings
from cloud_gateway.shapes import PUBLISHER
from models import release
from models.release import Packed
from models.twins import build_twin
from sync.clock import Clock
from sync.runner import Runner, ThreadRunner
from sync.trust import keys
from sync.wire import codec, v1

TASK = "sides"
PLAIN = Settings(broker=BrokerSettings(kind="none"))


class AsgiGateway:
    """One running gateway, its operator and whatever devices are added."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient, key: keys.PrivateKey) -> None:
        self.gateway = gateway
        self.http = http
        """Nobody in particular."""
        self.key = key
        token = (gateway.settings.data / "admin.token").read_text().strip()
        self.admin = {"Authorization": f"Bearer {token}"}

    async def add(self, name: str) -> "AsgiDevice":
        answer = await self.http.post("/v1/admin/devices", json={"name": name}, headers=self.admin)
        assert answer.status_code == 201, answer.text
        return AsgiDevice(name, answer.json()["token"], self.http)

    async def upload(self, packed: Packed) -> None:
        """Both archives, without the release."""
        for ref, data in (
            (packed.release.edge, packed.edge),
            (packed.release.cloud, packed.cloud),
        ):
            answer = await self.http.put(
                f"/v1/admin/blobs/{ref.sha256}", content=data, headers=self.admin
            )
            assert answer.status_code in (200, 201), answer.text

    async def publish(self, folder: Path) -> Packed:
        """A package folder, signed with the right key."""
        packed = release.prepare(folder)
        await self.upload(packed)
        answer = await self.http.post(
            "/v1/admin/releases", content=release.sign(packed.release, self.key), headers=self.admin
        )
        assert answer.status_code in (200, 201), answer.text
        return packed

    async def publish_twin(self, version: str, into: Path, *, task: str = TASK) -> Packed:
        """A package whose models say what their input says."""
        return await self.publish(build_twin(task, version, into / f"{task}-{version}"))

    async def desire(self, version: str, *devices: str, task: str = TASK) -> httpx.Response:
        wanted = {"task": task, "version": version, "devices": devices, "all": not devices}
        return await self.http.put("/v1/admin/desired", json=wanted, headers=self.admin)


class AsgiDevice:
    """A device's side of the API."""

    def __init__(self, name: str, token: str, http: httpx.AsyncClient) -> None:
        self.name = name
        self.token = token
        self.http = http
        self.headers = {"Authorization": f"Bearer {token}"}

    async def up(self, message: v1.Up) -> v1.Down:
        answer = await self.http.post("/v1/up", content=codec.encode(message), headers=self.headers)
        assert answer.status_code == 200, answer.text
        return codec.decode_down(answer.content)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=self.headers | headers)


@asynccontextmanager
async def asgi_gateway(
    data: Path,
    settings: Settings = PLAIN,
    *,
    clock: Clock | None = None,
    runners: Callable[[str], Runner] = ThreadRunner,
    in_memory: bool = False,
    key: keys.PrivateKey | None = None,
) -> AsyncIterator[AsgiGateway]:
    """A gateway on `data`, with a publisher's key in it."""
    key = key or keys.generate()
    trusted = data / PUBLISHER
    trusted.parent.mkdir(parents=True, exist_ok=True)
    trusted.write_text(keys.public_text(key))
    app = create_app(
        structs.replace(settings, data=data), clock=clock, runners=runners, in_memory=in_memory
    )
    # A handler that answers 500 re-raises for the server's log; here the answer is what counts.
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as http,
    ):
        yield AsgiGateway(app.state.gateway, http, key)
