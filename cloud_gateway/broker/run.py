"""The broker of this gateway: chosen, started with the gateway's own rules, ended with it."""

import asyncio
import contextlib
import logging
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from cloud_gateway.broker import child, mosquitto
from cloud_gateway.broker.child import Child
from cloud_gateway.broker.link import Counters, Fleet, Hears, Link, Peer
from cloud_gateway.broker.passwords import GATEWAY, hash_password, password_file
from cloud_gateway.errors import BrokerFailed, PortTaken, StorageUnavailable
from cloud_gateway.settings import BrokerSettings
from sync.backoff import Backoff
from sync.wire.codec import MAX_MESSAGE

Kind = Literal["mosquitto", "amqtt", "none"]
MAX_BYTES = MAX_MESSAGE + 1024
"""A message, its envelope and topic."""

_CONNECTED_WITHIN_S = 5.0
_log = logging.getLogger(__name__)


class Broker:
    """One broker process and the gateway's connection to it; `none` is allowed."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        folder: Path,
        host: str,
        desk: Hears,
        fleet: Fleet,
        counters: Counters,
        peer: Callable[[str, int, str, str], Peer] | None = None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._host = host
        self._desk = desk
        self._fleet = fleet
        self._counters = counters
        self._peer = peer or _mqtt_peer
        # A new one at every start: it lives in memory, and hashed in the broker's file.
        self._password = secrets.token_urlsafe(32)
        self._own_hash = hash_password(self._password)
        self._child: Child | None = None
        self._link: Link | None = None
        self.kind: Kind = self._choose()
        self.address: str | None = None
        """host:port for devices; None without a broker."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The broker serves inside. Raises `BrokerFailed`, `PortTaken`."""
        if self.kind == "none":
            yield
            return
        port = self._port()
        near = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104
        self._child = self._make_child(port, (near, port))
        async with self._child.running():
            self.address = f"{self._host}:{port}"
            self._link = Link(
                self._peer(near, port, GATEWAY, self._password),
                self._desk,
                self._fleet,
                self._counters,
                max_in_flight=self._settings.max_in_flight,
            )
            try:
                await self._link.start()
                with contextlib.suppress(TimeoutError):  # then it comes later; devices repeat
                    async with asyncio.timeout(_CONNECTED_WITHIN_S):
                        await self._link.connected.wait()
                yield
            finally:
                await self._link.close()
                self._link, self.address = None, None

    async def access_changed(self, hashes: Mapping[str, str]) -> None:
        """Let in exactly these users from now on, and drop who is not among them."""
        if self.kind == "none":
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        users = {**hashes, GATEWAY: self._own_hash}
        try:
            _write(self._folder / mosquitto.PASSWORDS, password_file(users))
        except OSError as error:
            raise StorageUnavailable(
                f"the broker's password file cannot be written ({error.strerror}), so over MQTT "
                "devices stay as they were; make room and change the device again"
            ) from error
        if self._child is not None:
            self._child.read_again()

    async def notify(self, devices: Iterable[str]) -> None:
        """Tell devices over MQTT that something is new."""
        if self._link is not None:
            self._link.notify(devices)

    @property
    def pid(self) -> int | None:
        """The process that serves now."""
        return None if self._child is None else self._child.pid

    def state(self) -> tuple[bool, str]:
        """Whether devices can reach the broker, and why not."""
        if self.kind == "none" or (self._child is not None and self._child.up):
            return True, ""
        return False, f"{self.kind} does not run; it is started again, the log says why it ended"

    def _choose(self) -> Kind:
        wanted = self._settings.kind
        if wanted == "auto":
            return "mosquitto" if mosquitto.find() else "amqtt"
        return wanted

    def _port(self) -> int:
        wanted = self._settings.port or child.free_port(self._host)
        if not child.is_free(self._host, wanted):
            raise PortTaken(
                f"port {wanted} on {self._host} is taken, so the broker cannot have it; "
                "choose another with --mqtt-port, or 0 for any free one"
            )
        return wanted

    def _make_child(self, port: int, address: tuple[str, int]) -> Child:
        parent = str(os.getpid())
        if self.kind == "mosquitto":
            program = mosquitto.find()
            if program is None:
                raise BrokerFailed(
                    "mosquitto is not installed; install it, or start with --broker amqtt"
                )
            own = mosquitto.command(program, self._folder, self._host, port, MAX_BYTES)
            command = child.python_module("cloud_gateway.broker.tether", parent, *own)
        else:
            command = child.python_module(
                "cloud_gateway.broker.amqtt_child",
                parent,
                str(self._folder / mosquitto.PASSWORDS),
                self._host,
                str(port),
                str(MAX_BYTES),
            )
        return Child(
            self.kind,
            command,
            address=address,
            log=self._folder / "broker.log",
            backoff=Backoff(self._settings.restart_base_s, self._settings.restart_cap_s),
            chance=random.random,
            started=self._counters.broker_started,
        )


def _mqtt_peer(host: str, port: int, user: str, password: str) -> Peer:
    from sync.transport.mqtt import MqttPeer

    return MqttPeer(host, port, username=user, password=password)


def _write(path: Path, text: str) -> None:
    """Replace a file in one step: a broker never reads half of it."""
    part = path.with_name(f".{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    part.rename(path)
