"""The demo's fleet: a gateway with its broker, a proxy per device, agents, and their callers.

Everything an operator or an installer would type is done by the installed commands, not by calls
into the programs.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge_agent.commands import status
from edge_agent.control.messages import StatusReport, TaskReport
from edge_agent.sdk.errors import LongstopError
from models.zoo.packages import build_zoo
from sim.demo.caller import Enough, Errand, Go
from sim.demo.plan import Device
from sim.demo.programs import DemoError, Programs, free_port, installed, until
from sim.proxy import FaultProxy, Upstream

_BEAT_S = 2.0
"""Heartbeats in the demo: short, so that a minute shows something."""


class _Invited(msgspec.Struct, frozen=True):
    token: str
    key: str


class _Serving(msgspec.Struct, frozen=True):
    broker: str


class _Published(msgspec.Struct, frozen=True):
    edge_sha256: str


@dataclass
class Fleet:
    """Running programs and where they are."""

    home: Path
    programs: Programs
    say: Callable[[str], None]
    http_port: int = field(default_factory=free_port)
    mqtt_port: int = field(default_factory=free_port)
    broker: str = ""
    proxies: dict[str, FaultProxy] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    _archives: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def gateway_data(self) -> Path:
        return self.home / "gateway"

    @property
    def database(self) -> Path:
        return self.gateway_data / "gateway.db"

    def token(self, device: Device) -> str:
        """The device's own secret, as the gateway gave it out."""
        return self._tokens[device.name]

    def run_folder(self, device: Device) -> Path:
        return self.home / device.name / "run"

    def outbox(self, device: Device) -> Path:
        return self.home / device.name / "outbox" / "outbox.db"

    def book(self, device: Device) -> Path:
        return self.home / f"{device.name}.book"

    async def start_gateway(self) -> None:
        """Key first, then the gateway with its broker; returns when it is ready to serve."""
        await self._operator("key", "init", "--private", str(self.home / "publisher.key"))
        await self._serve()

    async def publish(self, task: str, version: str) -> None:
        """Build a package version of the zoo, sign it and hand it to the gateway."""
        folder = self.home / "packages" / f"{task}-{version}"
        folder.parent.mkdir(exist_ok=True)
        await asyncio.to_thread(build_zoo, task, version, folder)
        said = await self._operator(
            "package", "publish", str(folder), "--key", str(self.home / "publisher.key")
        )
        self._archives[task, version] = msgspec.json.decode(said, type=_Published).edge_sha256

    async def desire(self, task: str, version: str, cast: Sequence[Device]) -> None:
        """Ask the devices that run this task to move to a version."""
        names = [arg for one in cast if one.task == task for arg in ("--device", one.name)]
        await self._operator("package", "desire", task, version, *names)

    def alter_archive(self, task: str, version: str) -> None:
        """Flip one bit of the stored archive, as a disk or an intruder would."""
        sha256 = self._archives[task, version]
        archive = self.gateway_data / "blobs" / sha256[:2] / sha256
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 1
        archive.write_bytes(content)

    async def invite(self, device: Device) -> None:
        """Add a device at the gateway and enrol its agent through a proxy of its own."""
        proxy = FaultProxy(Upstream("127.0.0.1", self.http_port, self.mqtt_port))
        address = f"127.0.0.1:{await proxy.start()}"
        self.proxies[device.name] = proxy
        said = await self._operator("device", "add", device.name)
        invited = msgspec.json.decode(said, type=_Invited)
        self._tokens[device.name] = invited.token
        argv = ["enroll", "--gateway", f"http://{address}", "--mqtt", address]
        argv += ["--link", device.link, "--device", device.name]
        argv += ["--token", invited.token, "--key", invited.key]
        argv += ["--data", str(self.home / device.name)]
        await self.programs.finish(f"enroll-{device.name}", installed("longstop-agent"), *argv)

    async def start_agent(self, device: Device) -> None:
        """Start the agent of an enrolled device."""
        await self.programs.start(
            device.name,
            installed("longstop-agent"),
            "run",
            "--data",
            str(self.home / device.name),
            "--set",
            f"cloud.pace.beat_s={_BEAT_S}",
            # Many devices on one machine at once: what they measured would say nothing.
            "--set",
            "runtime.choose=false",
        )

    async def serving(self, device: Device, version: str, *, timeout_s: float = 60) -> None:
        """Wait until a device's agent serves a version of its task."""

        async def there() -> bool:
            if self.programs.ended(device.name):
                raise DemoError(f"{device.name} ended:\n{self.programs.tail(device.name)}")
            return await self.version(device) == version

        await until(f"{device.name} serves {version}", there, timeout_s=timeout_s)

    async def version(self, device: Device) -> str:
        """The version an agent says it serves, or empty."""
        task = await self._task(device)
        return task.version or "" if task is not None and task.state == "serving" else ""

    async def refusal(self, device: Device, version: str) -> str:
        """Why an agent refused a version, in its own words, or empty."""
        task = await self._task(device)
        refused = () if task is None else task.refused
        return next((f"{r.code}: {r.reason}" for r in refused if r.version == version), "")

    async def worker_pid(self, device: Device) -> int:
        """The process that answers for a device."""
        task = await self._task(device)
        if task is None or task.pid is None:
            raise DemoError(f"{device.name} has no worker")
        return task.pid

    async def drained(self, device: Device) -> bool:
        """Whether an agent owes the gateway nothing any more."""
        report = await self._status(device)
        return report is not None and not (
            report.pending or report.lost_unreported or report.escalations_waiting
        )

    async def send_caller(self, device: Device, errand: Errand) -> None:
        """Start the application of one device and wait until it is ready to begin."""
        name = f"caller-{device.name}"
        python = [installed("python"), "-P", "-m", "sim.demo.caller"]
        self.book(device).unlink(missing_ok=True)
        await self.programs.start(name, *python, told=msgspec.json.encode(errand))

        async def ready() -> bool:
            if self.programs.ended(name):
                raise DemoError(f"{name} ended at once:\n{self.programs.tail(name)}")
            return self.book(device).exists()

        await until(f"{name} is ready", ready, timeout_s=60)

    async def go(self, device: Device, start_at: float) -> None:
        """Let the application of one device begin at a moment of the monotonic clock."""
        await self.programs.tell(f"caller-{device.name}", msgspec.json.encode(Go(start_at)))

    async def enough(self, device: Device) -> None:
        """Let the application of one device end once it has sent for as long as it was asked to."""
        with contextlib.suppress(ConnectionError):  # it has died, and whoever waits for it says so
            await self.programs.tell(f"caller-{device.name}", msgspec.json.encode(Enough()))

    async def stop(self, cast: Sequence[Device]) -> None:
        """End the agents properly, then the gateway."""
        await self.programs.stop(*(device.name for device in cast))
        await self.programs.stop("gateway")

    async def start_again(self, cast: Sequence[Device]) -> None:
        """Bring gateway and agents up on the data they had."""
        await self._serve()
        for device in cast:
            await self.start_agent(device)

    async def close(self) -> None:
        """End every program, then the proxies."""
        await self.programs.stop_all()
        for proxy in self.proxies.values():
            await proxy.close()

    async def _serve(self) -> None:
        argv = ["serve", "--data", str(self.gateway_data), "--json"]
        argv += ["--port", str(self.http_port), "--mqtt-port", str(self.mqtt_port)]
        await self.programs.start("gateway", installed("longstop-gateway"), *argv)

        async def ready() -> bool:
            if self.programs.ended("gateway"):
                raise DemoError(f"the gateway ended at once:\n{self.programs.tail('gateway')}")
            for line in self.programs.tail("gateway", 100_000).splitlines():
                with contextlib.suppress(msgspec.DecodeError):
                    self.broker = msgspec.json.decode(line, type=_Serving).broker
            return bool(self.broker)

        self.broker = ""
        await until("the gateway is ready", ready, timeout_s=60)

    async def _operator(self, group: str, verb: str, *arguments: str) -> bytes:
        return await self.programs.finish(
            f"gateway-{group}-{verb}",
            installed("longstop-gateway"),
            group,
            verb,
            *arguments,
            "--data",
            str(self.gateway_data),
            "--json",
        )

    async def _task(self, device: Device) -> TaskReport | None:
        report = await self._status(device)
        tasks = () if report is None else report.tasks
        return next((one for one in tasks if one.task == device.task), None)

    async def _status(self, device: Device) -> StatusReport | None:
        with contextlib.suppress(LongstopError):
            return await asyncio.to_thread(status.ask, self.run_folder(device))
        return None
