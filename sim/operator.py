"""What an operator does at the simulated gateway, through its own admin routes."""

import tempfile
from pathlib import Path

import httpx
import msgspec

from models import release
from models.calibrate.certificate import Certificate
from models.twins import build_twin
from sync.trust import keys


class Invited(msgspec.Struct, frozen=True):
    token: str


class Operator:
    """Holds the publisher's key and the admin token of one gateway."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def publish_twin(
        self,
        task: str,
        version: str,
        trust: Path,
        into: Path,
        certificate: Certificate | None = None,
    ) -> Path:
        """Build, sign and publish a package of twins; returns its folder."""
        key = keys.generate()
        _trust(key, trust)
        folder = build_twin(task, version, into, certificate=certificate)
        packed = release.prepare(folder)
        for ref, data in ((packed.release.edge, packed.edge), (packed.release.cloud, packed.cloud)):
            await self._send("PUT", f"/v1/admin/blobs/{ref.sha256}", data)
        await self._send("POST", "/v1/admin/releases", release.sign(packed.release, key))
        desired = {"task": task, "version": version, "all": True}
        await self._send("PUT", "/v1/admin/desired", msgspec.json.encode(desired))
        return folder

    async def add_device(self, name: str) -> str:
        """Add a device and return its token."""
        reply = await self._send("POST", "/v1/admin/devices", msgspec.json.encode({"name": name}))
        return msgspec.json.decode(reply, type=Invited).token

    async def _send(self, method: str, path: str, body: bytes) -> bytes:
        reply = await self._client.request(method, path, content=body)
        reply.raise_for_status()
        return reply.content


def _trust(key: keys.PrivateKey, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "publisher.pub").write_text(keys.public_text(key.public_key()) + "\n")


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the databases of one run, in memory where the machine has such a place.

    A power cut of the machine that simulates is not part of any scenario, so nothing is lost by it,
    and tens of thousands of real disk syncs are saved.
    """
    shared_memory = Path("/dev/shm")  # noqa: S108 - a fresh private folder is made inside
    return tempfile.TemporaryDirectory(
        prefix="longstop-sim-", dir=shared_memory if shared_memory.is_dir() else None
    )
