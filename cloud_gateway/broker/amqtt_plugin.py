"""amqtt held to the same files and rules as mosquitto.

amqtt asks plugins at connect, publish, subscribe and receive. That leaves doors open, which are
shut here by overriding (its version is pinned, and one suite checks both brokers):
1. A CONNECT may name anybody's client id, and touches that session before any plugin is asked: here
   the password comes first, and the client id is the user name.
2. Retained messages and wills reach others without a question: here there are neither.
3. A packet may be as large as it says: here reading ends at a limit.
4. A second connection leaves the first one half alive: here the first is ended.
"""

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connack import NOT_AUTHORIZED, ConnackPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from cloud_gateway.broker.passwords import matches, may, read_password_file

_log = logging.getLogger(__name__)


class Access:
    """The password file, read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, int] | None = None
        self._hashes: dict[str, str] = {}

    def hash_of(self, user: str | None) -> str | None:
        """What the user's password hashes to; None for nobody we know."""
        found = os.stat(self._path)
        if self._read != (found.st_ino, found.st_mtime_ns):
            self._hashes = read_password_file(self._path.read_text(encoding="utf-8"))
            self._read = (found.st_ino, found.st_mtime_ns)
        return None if user is None else self._hashes.get(user)

    def may_connect(self, user: str | None, password: str | None) -> bool:
        hashed = self.hash_of(user)
        return hashed is not None and password is not None and matches(password, hashed)


class AccessPlugin(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc]  # untyped
    """Asked by amqtt about every session and every topic."""

    @dataclass
    class Config:
        """Where the password file lies."""

        passwords: str

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self.access = Access(Path(self._get_config_option("passwords")))

    async def authenticate(self, *, session: Session) -> bool:
        return self.access.may_connect(session.username, session.password)

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,
        topic: str | None = None,
        action: Action | None = None,
    ) -> bool:
        if session is None or topic is None or action is None or session.username is None:
            return False
        known = self.access.hash_of(session.username) is not None
        return known and may(session.username, action.value, topic)


class GatewayBroker(Broker):  # type: ignore[misc]  # untyped
    """amqtt's broker with the doors shut."""

    def __init__(self, host: str, port: int, passwords: Path, max_bytes: int) -> None:
        plugin = f"{AccessPlugin.__module__}.{AccessPlugin.__qualname__}"
        super().__init__(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
                "plugins": {plugin: {"passwords": str(passwords)}},
            }
        )
        self._access = Access(passwords)
        self._max_bytes = max_bytes
        self._admitted: dict[str, str | None] = {}

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        await self._client_connected(
            listener_name, _LimitedReader(reader, self._max_bytes), _CuttableWriter(writer)
        )

    async def retain_message(self, *_: object, **__: object) -> None:
        """Keep nothing: the gateway retains no message, and a device must not."""

    async def drop_removed(self) -> None:
        """End the sessions of users who are gone or have another password now."""
        for user in list(self._sessions):
            if self._access.hash_of(user) != self._admitted.get(user):
                _log.info("broker.dropped user=%s", user)
                await self._cleanup_session(user)

    async def _cleanup_session(self, client_id: str) -> None:
        _, handler = self._sessions.get(client_id, (None, None))
        if handler is not None and isinstance(handler.writer, _CuttableWriter):
            # Without this the base waits for its reader, which may have missed its cancellation
            # (asyncio.wait_for before Python 3.12): the device would stay.
            handler.writer.cut()
        await super()._cleanup_session(client_id)

    async def _initialize_client_session(
        self,
        reader: ReaderAdapter,
        writer: WriterAdapter,
        remote_address: str,
        remote_port: int,
    ) -> tuple[BrokerProtocolHandler, Session]:
        try:
            handler, session = await BrokerProtocolHandler.init_from_connect(
                reader, writer, self.plugins_manager
            )
        except (AMQTTError, MQTTError, NoDataError) as error:
            await writer.close()
            raise AMQTTError(f"no CONNECT from {remote_address}:{remote_port}") from error
        user = session.username
        if user is None or not self._access.may_connect(user, session.password):
            await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
            await writer.close()
            raise AMQTTError(f"{remote_address}:{remote_port} has no right to connect")
        session.client_id = user
        session.clean_session = True
        session.will_flag = False
        session.parent = 0
        await self._cleanup_session(user)
        self._admitted[user] = self._access.hash_of(user)
        return handler, session


class _CuttableWriter(StreamWriterAdapter):  # type: ignore[misc]  # untyped
    """Can end its connection at once, whoever still waits on it."""

    def cut(self) -> None:
        self._writer.transport.abort()


class _LimitedReader(StreamReaderAdapter):  # type: ignore[misc]  # untyped
    """Reads nothing that is larger than any message may be, and nothing after it."""

    def __init__(self, reader: asyncio.StreamReader, max_bytes: int) -> None:
        super().__init__(reader)
        self._max_bytes = max_bytes
        self._ended = False

    async def read(self, n: int = -1) -> bytes:
        self._ended = self._ended or n > self._max_bytes
        if self._ended:
            # What amqtt takes for the end of the connection.
            raise asyncio.IncompleteReadError(b"", n)
        data: bytes = await super().read(n)
        return data
