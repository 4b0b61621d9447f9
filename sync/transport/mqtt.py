"""MQTT: the only file that meets paho.

Rules:
1. One paho client is one connection. When it is lost, or given up, another is made by `MqttPeer`,
   after full jitter and never by paho's own policy. Every client has its own client id, so a
   connection the broker still believes in is not fought over.
2. paho has no thread here: the event loop calls it when its socket is ready. Only the connect,
   which blocks, runs in a sender thread.
3. QoS 0 and clean sessions: the acknowledgement that counts is the gateway's own. What has no other
   is delivered (`MqttPeer.deliver`) at QoS 1, and whoever says it hears when the broker has it.
4. Silence on a connection that was asked something ends it (`silence`). Questions that still have
   time are asked again on the next one, under the same number.
"""

import asyncio
import fcntl
import logging
import random
import socket
import ssl
import struct
import termios
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from sync.backoff import Backoff, delay_by_outage_s
from sync.errors import LinkDown, LinkTimeout, LinkUnauthorised, MessageTooLarge, WireError
from sync.runner import ThreadRunner
from sync.transport import tls
from sync.transport.names import Names
from sync.transport.questions import Question, Questions
from sync.transport.silence import Silence
from sync.transport.tls import TlsFiles
from sync.wire import codec, topics, v1

log = logging.getLogger(__name__)

KEEPALIVE_S = 15
USER_TIMEOUT_MS = 3000
FIRST_CONNECT_S = 3.0
CONNECT_S = 1.5
SLOWEST_CONNECT_S = 6.0
RECONNECT = Backoff(base_s=0.5, cap_s=30.0)
UNAUTHORISED_WAIT_S = 5.0
FAULT_WAIT_S = 5.0
TAKEN_S = 10.0
"""Time for a broker to acknowledge what was delivered."""
_TICK_S = 1.0


class _Session:
    """One connection, from CONNECT until it is lost. Lives in the event loop."""

    def __init__(self, peer: "MqttPeer", on_message: Callable[[str, bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._peer = peer
        self._on_message = on_message
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ready.add_done_callback(_seen)
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._untaken: dict[int, asyncio.Future[None]] = {}
        self._socket: socket.socket | None = None
        self._writing = False
        self._ended = False
        self._ticking: asyncio.TimerHandle | None = None
        name = f"{peer.username or 'longstop'}-{random.SystemRandom().getrandbits(32):08x}"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.username_pw_set(peer.username, peer.password)
        if peer.secured is not None:
            client.tls_set_context(_Securing(peer.secured, peer.host))  # type: ignore[arg-type]  # see there
        client.on_socket_open = _tune
        client.on_socket_close = self._socket_closes
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message_came
        client.on_publish = self._taken
        client.on_disconnect = self._disconnected
        self._client = client

    async def open(self, runner: ThreadRunner, timeout_s: float) -> None:
        """Connect and subscribe. Raises `LinkDown`."""
        until = self._loop.time() + timeout_s
        self._client.connect_timeout = timeout_s
        try:
            async with asyncio.timeout_at(until):
                await runner.submit(self._connect)
                self._watch()
                await self._ready
        except TimeoutError as error:
            raise LinkDown(f"{self._peer.name} does not answer") from error
        except OSError as error:
            raise tls.trouble(self._peer.name, error) from error

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand over to the kernel, or to paho where the kernel is full."""
        self._client.publish(topic, payload, qos=0)
        self._watch_writes()

    async def deliver(self, topic: str, payload: bytes) -> None:
        """Say something; returns once the broker has it. Raises `LinkDown`."""
        taken: asyncio.Future[None] = self._loop.create_future()
        number = self._client.publish(topic, payload, qos=1).mid
        self._untaken[number] = taken
        self._watch_writes()
        try:
            await asyncio.wait(
                (taken, self.lost), timeout=TAKEN_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._untaken.pop(number, None)
        if taken.done():
            return
        if self.lost.done():
            raise LinkDown(f"{self._peer.name}: {self.lost.result()}")
        self.end("it acknowledges nothing")
        raise LinkTimeout(f"{self._peer.name} did not acknowledge within {TAKEN_S:g} s")

    def unsent(self) -> bool:
        """Whether something said has not reached the other machine."""
        if self._socket is None:
            return False
        (count,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0\0\0\0"))
        return count > 0 or self._client.want_write()

    def end(self, why: str, *, politely: bool = False) -> None:
        """Close the connection; twice is harmless."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._ended = True
        if politely and self._socket is not None:
            self._client.disconnect()
        self._unwatch()
        self._close_socket()
        self._gone(why)

    def _connect(self) -> None:
        """In the sender thread. May come back after everybody has stopped waiting."""
        trouble = OSError("no address")
        for address in self._peer.names.addresses(self._client.connect_timeout):
            try:
                self._client.connect(address, self._peer.port, KEEPALIVE_S)
            except OSError as error:
                trouble = error
            else:
                break
        else:
            raise trouble
        if self._ended:
            self._close_socket()

    def _close_socket(self) -> None:
        one = self._client.socket()
        if one is not None:
            one.close()

    def _gone(self, why: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(LinkDown(f"{self._peer.name}: {why}"))
        if not self.lost.done():
            self.lost.set_result(why)

    # -- the socket and the loop

    def _watch(self) -> None:
        one: Any = self._client.socket()  # a socket: paho's type allows for its other transports
        if one is None:
            raise LinkDown(f"{self._peer.name} closed the connection at once")
        self._socket = one
        self._loop.add_reader(one, self._readable)
        self._watch_writes()
        self._tick()

    def _unwatch(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = None

    def _watch_writes(self) -> None:
        if self._socket is None or self._writing == self._client.want_write():
            return
        self._writing = not self._writing
        if self._writing:
            self._loop.add_writer(self._socket, self._writable)
        else:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        self._client.loop_read()
        # TLS may hold a further message that the socket knows nothing of.
        while isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            self._client.loop_read()
        self._watch_writes()

    def _writable(self) -> None:
        self._client.loop_write()
        self._watch_writes()

    def _tick(self) -> None:
        """paho's own keepalive: pings, and an end where they stay unanswered."""
        self._client.loop_misc()
        self._watch_writes()
        if self._socket is not None:
            self._ticking = self._loop.call_later(_TICK_S, self._tick)

    # -- what paho calls (untyped: a library's edge)

    def _socket_closes(self, *_: Any) -> None:
        self._unwatch()

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if self._ready.done():
            return
        if reason.is_failure:
            words = f"{self._peer.name} refused the connection: {reason}"
            known = reason.getName() in ("Not authorized", "Bad user name or password")
            self._ready.set_exception(LinkUnauthorised(words) if known else LinkDown(words))
            return
        self._client.subscribe([(one, 0) for one in self._peer.subscriptions])

    def _subscribed(self, _client: Any, _data: Any, _mid: Any, reasons: Any, _props: Any) -> None:
        if self._ready.done():
            return
        if any(reason.is_failure for reason in reasons):
            self._ready.set_exception(
                LinkUnauthorised(f"{self._peer.name} refused the subscription")
            )
        else:
            self._ready.set_result(None)

    def _message_came(self, _client: Any, _data: Any, message: Any) -> None:
        self._on_message(message.topic, message.payload)

    def _taken(self, _client: Any, _data: Any, number: int, *_: Any) -> None:
        taken = self._untaken.get(number)  # what was said at QoS 0 has none
        if taken is not None and not taken.done():
            taken.set_result(None)

    def _disconnected(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, _props: Any
    ) -> None:
        self._gone(str(reason))


class _Securing:
    """What paho asks of a context of TLS; its own handshake leaves a socket open where it fails."""

    check_hostname = True

    def __init__(self, secured: ssl.SSLContext, name: str) -> None:
        self._secured = secured
        self._name = name

    def wrap_socket(self, one: socket.socket, **_: Any) -> ssl.SSLSocket:
        return self._secured.wrap_socket(one, server_hostname=self._name)


class MqttPeer:
    """A connection to a broker that makes itself again: the gateway's side, and a device's."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        subscriptions: Sequence[str] = (topics.ALL_UP,),
        secured: ssl.SSLContext | None = None,
    ) -> None:
        self.secured = secured
        self.names = Names(host)
        self.host = host
        self.port = port
        self.username = username
        self.password = password
        self.subscriptions = tuple(subscriptions)
        self.name = f"broker {host}:{port}"
        self.trouble: LinkDown = LinkDown(f"{self.name}: not connected yet")
        """Why there is no connection, while there is none."""
        self._session: _Session | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._runner = ThreadRunner("mqtt-connect")
        self._chance = random.SystemRandom()

    @property
    def connected(self) -> bool:
        return self._session is not None

    async def start(
        self,
        on_message: Callable[[str, bytes], None],
        on_connected: Callable[[], None] | None = None,
    ) -> None:
        """Begin to connect and return at once. Both functions are called in the event loop."""
        self._keeping = asyncio.create_task(
            self._keep_connected(on_message, on_connected), name=f"mqtt {self.name}"
        )

    def publish(self, topic: str, payload: bytes) -> None:
        """Say something; into the void while there is no connection."""
        if self._session is not None:
            self._session.publish(topic, payload)

    async def deliver(self, topic: str, payload: bytes) -> None:
        """Say something; returns once the broker has it. Raises `LinkDown`."""
        if self._session is None:
            raise LinkDown(str(self.trouble))
        await self._session.deliver(topic, payload)

    def unsent(self) -> bool:
        """Whether something said has not reached the other machine."""
        return self._session is not None and self._session.unsent()

    def give_up(self, why: str) -> None:
        """End this connection and make another."""
        if self._session is not None:
            self._session.end(why)

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._runner.close)

    async def _keep_connected(
        self, on_message: Callable[[str, bytes], None], on_connected: Callable[[], None] | None
    ) -> None:
        loop = asyncio.get_running_loop()
        down_since = loop.time()
        timeout_s = FIRST_CONNECT_S
        while True:
            session = _Session(self, on_message)
            wait_s = 0.0
            try:
                await session.open(self._runner, timeout_s)
                log.info("mqtt.connected broker=%s", self.name)
                self._session = session
                if on_connected is not None:
                    on_connected()
                self.trouble = LinkDown(f"{self.name}: {await session.lost}")
                down_since = loop.time()
                timeout_s = FIRST_CONNECT_S
            except LinkDown as error:
                self.trouble = error
                # A link that was slow to answer before gets more time; a dead one costs no more.
                timeout_s = connect_timeout_s(loop.time() - down_since)
                wait_s = UNAUTHORISED_WAIT_S if isinstance(error, LinkUnauthorised) else 0.0
            except Exception as error:  # the outermost loop: log, wait, begin again
                log.exception("mqtt.fault broker=%s", self.name)
                self.trouble = LinkDown(f"{self.name}: {error}")
                wait_s = FAULT_WAIT_S
            finally:
                self._session = None
                session.end("closed", politely=True)
            log.info("mqtt.disconnected broker=%s why=%s", self.name, self.trouble)
            down_s = loop.time() - down_since
            await asyncio.sleep(
                max(wait_s, delay_by_outage_s(RECONNECT, down_s, self._chance.random()))
            )


class MqttTransport:
    """The link of a device that talks MQTT."""

    name = "mqtt"

    def __init__(
        self,
        host: str,
        port: int,
        *,
        device: str,
        token: str,
        max_bytes: int = codec.MAX_MESSAGE,
        files: TlsFiles | None = None,
    ) -> None:
        """Over TLS where `files` are given. Raises `SettingsError` for a file."""
        self._device = device
        self._max_bytes = max_bytes
        self._peer = MqttPeer(
            host,
            port,
            username=device,
            password=token,
            subscriptions=[topics.down(device)],
            secured=None if files is None else tls.context(files),
        )
        self._questions = Questions()
        self._silence = Silence()
        self._watch: asyncio.TimerHandle | None = None
        self._on_notice: Callable[[v1.Notice], None] | None = None
        self._closing: asyncio.Future[None] | None = None

    @property
    def connected(self) -> bool:
        return self._peer.connected

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        self._on_notice = on_notice
        self._closing = asyncio.get_running_loop().create_future()
        await self._peer.start(self._heard, self._ask_all_again)

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        if self._closing is None or self._closing.done():
            raise LinkDown("this link is not open")
        data = codec.encode(message)
        if len(data) > self._max_bytes:
            raise MessageTooLarge(f"message of {len(data)} bytes is over {self._max_bytes}")
        if not self._peer.connected:
            raise type(self._peer.trouble)(str(self._peer.trouble))
        kind = "esc" if isinstance(message, v1.Escalation) else "rec"
        with self._questions.ask(topics.up(self._device, kind), data) as question:
            self._ask(question)
            waits: list[asyncio.Future[bytes] | asyncio.Future[None]]
            waits = [question.reply, self._closing]
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if question.reply.done():
            return codec.decode_down(question.reply.result())
        if self._closing.done():
            raise LinkDown("the link was closed")
        raise LinkTimeout(f"no reply within {timeout_s:g} s")

    async def close(self) -> None:
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)
        if self._watch is not None:
            self._watch.cancel()
        await self._peer.close()

    def _ask(self, question: Question) -> None:
        self._peer.publish(question.topic, question.payload)
        self._silence.asked(asyncio.get_running_loop().time())
        if self._watch is None:
            self._look_at_silence()

    def _ask_all_again(self) -> None:
        self._silence.reconnected()
        for question in self._questions.waiting():
            self._ask(question)

    def _heard(self, _topic: str, payload: bytes) -> None:
        try:
            unasked = self._questions.answer(payload)
            if unasked is not None:
                self._hear_notice(codec.decode_down(unasked))
        except WireError as error:
            log.warning("mqtt.malformed why=%s", error)
        now = asyncio.get_running_loop().time()
        self._silence.heard(now, still_asking=bool(self._questions.waiting()))

    def _hear_notice(self, message: v1.Down) -> None:
        if isinstance(message, v1.Notice) and self._on_notice is not None:
            self._on_notice(message)

    def _look_at_silence(self) -> None:
        """Comes back as long as something is waited for."""
        self._watch = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._peer.unsent():
            self._silence.busy(now)
        ends_at = self._silence.ends_at()
        if ends_at is None or not self._peer.connected:
            return
        if now < ends_at:
            self._watch = loop.call_at(min(ends_at, now + _TICK_S), self._look_at_silence)
            return
        self._silence.died()
        self._peer.give_up("it is silent")


def _seen(future: asyncio.Future[None]) -> None:
    """Whoever waited may be gone; nobody needs to hear of it then."""
    if not future.cancelled():
        future.exception()


def _tune(_client: Any, _data: Any, one: Any) -> None:
    # Without the first, a reply waits 40 ms for an acknowledgement; the second ends a dead link.
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def connect_timeout_s(down_s: float) -> float:
    """How long one attempt may take: an attempt begun in a cut can never succeed."""
    return min(max(CONNECT_S, 0.08 * down_s), SLOWEST_CONNECT_S)
