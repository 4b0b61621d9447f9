"""A plain MQTT client for tests, which does what a broker should not let it do, if told to."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

PATIENCE_S = 15.0


class Message(NamedTuple):
    topic: str
    payload: bytes


class Client:
    """One connection. Everything it hears is in `heard`."""

    def __init__(self, address: str, user: str | None, password: str | None, **given: Any) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._changed = threading.Condition()
        self.heard: list[Message] = []
        self.connected = False
        self.refused = False
        self.disconnects = 0
        self._acknowledged: set[int] = set()
        will = given.pop("will", None)
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311, reconnect_on_failure=False, **given
        )
        if user is not None:
            self._client.username_pw_set(user, password)
        if will is not None:
            self._client.will_set(*will)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe

    def __enter__(self) -> Self:
        self._client.connect(self._host, self._port, keepalive=30)
        self._client.loop_start()
        self.wait(lambda: self.connected or self.refused or self.disconnects > 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, topic: str) -> None:
        """Return once the broker has answered, whatever it answered."""
        _, number = self._client.subscribe(topic, qos=1)
        assert number is not None
        self.wait(lambda: number in self._acknowledged or not self.connected)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Return once the broker has the message, or has hung up."""
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        deadline = time.monotonic() + PATIENCE_S
        while not info.is_published() and self.connected and time.monotonic() < deadline:
            time.sleep(0.005)

    def vanish(self) -> None:
        """Go without goodbye, so that the broker speaks the will."""
        sock = self._client.socket()
        assert sock is not None
        self._client.loop_stop()
        sock.close()

    def wait(self, until: Callable[[], bool]) -> bool:
        """Whether it came to be within the patience of a test."""
        with self._changed:
            return self._changed.wait_for(until, PATIENCE_S)

    def _on_connect(self, *args: Any) -> None:
        with self._changed:
            self.refused = args[3].is_failure
            self.connected = not self.refused
            self._changed.notify_all()

    def _on_disconnect(self, *_: Any) -> None:
        with self._changed:
            self.connected = False
            self.disconnects += 1
            self._changed.notify_all()

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        del client, data
        with self._changed:
            self.heard.append(Message(message.topic, bytes(message.payload)))
            self._changed.notify_all()

    def _on_subscribe(self, client: Any, data: Any, number: int, *_: Any) -> None:
        del client, data
        with self._changed:
            self._acknowledged.add(number)
            self._changed.notify_all()
