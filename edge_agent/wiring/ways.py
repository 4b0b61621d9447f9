"""The ways to the gateway that the settings name, as one transport."""

import random
from collections.abc import Callable
from pathlib import Path

from edge_agent.settings import AgentSettings, token
from sync.errors import SettingsError
from sync.transport.base import Transport
from sync.wire import v1


class Ways:
    """Made once for a device; `transport` is what its link speaks over."""

    def __init__(
        self,
        settings: AgentSettings,
        data: Path,
        *,
        chance: random.Random,
        probe: Callable[[], v1.Up],
    ) -> None:
        self._settings = settings
        self._data = data
        self._chance = chance
        self._probe = probe
        self._resent: list[Callable[[], int]] = []

    def resent(self) -> int:
        """Messages that went out a second time by themselves, since the start."""
        return sum(resent() for resent in self._resent)

    def transport(self) -> Transport:
        """Raises `SettingsError`, `NotEnrolled`."""
        settings = self._settings
        if not settings.gateway:
            from edge_agent.cloud.unlinked import Unlinked

            return Unlinked()
        secret = token(settings, self._data)
        match settings.link:
            case "http":
                return self._http(secret)
            case "mqtt":
                return self._mqtt(secret)
            case "auto":
                from sync.transport.two_ways import TwoWays

                ways = (self._mqtt(secret), self._http(secret))
                both = TwoWays(
                    *(ways if settings.prefer == "mqtt" else reversed(ways)),
                    probe=self._probe,
                    chance=self._chance,
                    policy=settings.failover,
                )
                self._resent.append(lambda: both.asked_twice)
                return both

    def _http(self, secret: str) -> Transport:
        from sync.transport.http import HttpTransport

        try:
            http = HttpTransport(self._settings.gateway, secret, files=self._settings.tls)
        except ValueError as error:
            raise SettingsError(f"gateway: {error}") from error
        self._resent.append(lambda: http.resent)
        return http

    def _mqtt(self, secret: str) -> Transport:
        from sync.transport.mqtt import MqttTransport

        settings = self._settings
        host, _, port = settings.mqtt.rpartition(":")
        return MqttTransport(
            host.strip("[]"),
            int(port),
            device=settings.device,
            token=secret,
            files=settings.tls if settings.mqtt_tls else None,
        )
