"""Opens the doors of programs that do not use the SDK, each where it is set: HTTP, a local broker.

A device answers its other programs, too, when one of them cannot be opened; the log says why, and
the status of the broker.
"""

import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_agent import __version__
from edge_agent.settings import AgentSettings, local_mqtt_password, run_folder
from sync.errors import SettingsError
from sync.wire import v1

if TYPE_CHECKING:
    from edge_agent.local_api.broker import Broker
    from edge_agent.local_api.callers import Served

log = logging.getLogger(__name__)


class Device(Protocol):
    """Who answers."""

    def served(self, task: str) -> "Served | None": ...

    def tasks(self) -> tuple[str, ...]: ...

    async def revisions(self, client: str, limit: int) -> tuple[v1.Revised, ...]: ...

    async def take(self, client: str, request_ids: tuple[str, ...]) -> None: ...


class Listeners:
    """What is open."""

    def __init__(self, settings: AgentSettings, data: Path, device: Device) -> None:
        self._settings = settings
        self._data = data
        self._device = device
        self._folder = run_folder(settings, data)
        self._broker: Broker | None = None
        self._trouble: str | None = None

    @property
    def broker_trouble(self) -> str | None:
        """Why nobody can ask on the broker now; empty: they can, None: none is set."""
        return self._trouble if self._broker is None else self._broker.trouble

    async def open(self, stack: AsyncExitStack) -> None:
        await self._http(stack)
        await self._mqtt(stack)

    def revised(self, client: str) -> None:
        """A revision waits for this client."""
        if self._broker is not None:
            self._broker.revised(client)

    async def _http(self, stack: AsyncExitStack) -> None:
        listen = self._settings.http.listen
        if not listen:
            return
        try:
            from edge_agent.local_api import oip
        except ModuleNotFoundError as error:
            log.error("http.not_listening why=%s next=pip_install_longstop[http]", error)
            return
        opened = oip.listening(listen, self._folder, self._device, __version__)
        try:
            port = await stack.enter_async_context(opened)
        except OSError as error:
            log.error("http.not_listening at=%s why=%s", listen, error)
        else:
            log.info("http.listening at=%s port=%d", listen, port)

    async def _mqtt(self, stack: AsyncExitStack) -> None:
        settings = self._settings.local_mqtt
        if not settings.host:
            return
        try:
            password = local_mqtt_password(self._settings, self._data)
        except SettingsError as error:
            self._trouble = f"{error.code}: {error}"
            log.error("local_mqtt.not_listening why=%s", error)
            return
        from edge_agent.local_api.broker import Broker

        self._broker = Broker(settings, password, self._folder, self._device)
        stack.push_async_callback(self._broker.close)
        await self._broker.start()
