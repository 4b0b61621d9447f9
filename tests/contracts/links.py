"""Small worlds for the transport suite: a device, a way that can be cut, an answering gateway."""

import asyncio
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from sim.proxy import FaultProxy, Upstream
from sync.errors import LinkDown
from sync.transport.base import Transport
from sync.transport.failover import Policy
from sync.transport.http import HttpTransport
from sync.transport.memory import MemoryTransport
from sync.transport.mqtt import MqttPeer, MqttTransport
from sync.transport.tls import TlsFiles
from sync.transport.two_ways import TwoWays
from sync.wire import codec, live, oip, topics, v1
from tests.authority import Authority

DEVICE = "d1"
TOKEN = "s3cret"
INC = "0123456789ab"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
LINKS = ["memory", "http", "https", "mosquitto", "mqtts", "amqtt", "failover"]
ON_MOSQUITTO = ("mosquitto", "mqtts")


class Gateway:
    """Answers each message by its kind; faults are named by what they do."""

    def __init__(self) -> None:
        self.heard: list[v1.Up] = []
        self.silent = False
        """Takes in and never answers."""
        self.twice = False
        """Every answer is sent two times, where the link can carry that."""
        self.garbled = False
        self.refuses: v1.Refused | None = None
        self.slow_losses_s = 0.0
        self.jitter_s = 0.0
        self._chance = random.Random(5)

    async def answer(self, data: bytes) -> bytes:
        message = codec.decode_up(data)
        self.heard.append(message)
        if self.silent:
            await asyncio.Event().wait()
        if self.jitter_s:
            await asyncio.sleep(self._chance.uniform(0, self.jitter_s))
        if self.slow_losses_s and isinstance(message, v1.LossReport):
            await asyncio.sleep(self.slow_losses_s)
        if self.garbled:
            return b"\x01this is no message"
        return codec.encode(self.refuses or reply_to(message))


def reply_to(message: v1.Up) -> v1.Down:
    match message:
        case v1.Beat():
            return v1.BeatReply(1.0, (v1.Desired("apparel", "1.0"),))
        case v1.Batch():
            return v1.BatchAck(message.incarnation, message.lo, message.hi, "committed")
        case v1.LossReport():
            return v1.LossAck(message.incarnation, message.losses)
        case v1.Escalation():
            seen = sum(message.inputs[0].data) % 251
            return v1.Escalated(
                message.request_id, message.task, f"sum {seen}", 0.75, message.version, 42
            )


class World:
    """What a test holds in its hands."""

    def __init__(self, transport: Transport, gateway: Gateway) -> None:
        self.transport = transport
        self.gateway = gateway
        self.notices: asyncio.Queue[v1.Notice] = asyncio.Queue()
        self.cut: Callable[[], None]
        self.repair: Callable[[], None]
        self.push: Callable[[v1.Notice], None] | None = None
        self.stop_gateway: Callable[[], Awaitable[None]] | None = None
        self.start_gateway: Callable[[], Awaitable[None]] | None = None

    async def up(self, within_s: float = 10.0) -> None:
        """Wait until an exchange works."""
        until = time.monotonic() + within_s
        while True:
            try:
                await self.transport.exchange(beat(), timeout_s=max(until - time.monotonic(), 0.1))
            except LinkDown:
                assert time.monotonic() < until, "the link did not come up"
                await asyncio.sleep(0.02)
            else:
                return


def beat() -> v1.Beat:
    return v1.Beat(DEVICE, INC, 1, 2.0, "memory", (), (), 0, 0, 0, "0.1")


def batch(lo: int, size: int = 10) -> v1.Batch:
    return v1.Batch(DEVICE, INC, 1, lo, lo + 4, 2.0, bytes(size))


def loss(lo: int = 1) -> v1.LossReport:
    return v1.LossReport(DEVICE, INC, (v1.Lost(lo, lo + 1, "budget"),), 2.0)


def escalation(request_id: str, *, size: int = 16, timeout_ms: int = 250) -> v1.Escalation:
    data = random.Random(request_id).randbytes(size)
    tensor = v1.Tensor("x", "UINT8", (size,), data)
    return v1.Escalation(DEVICE, request_id, "apparel", "1.0", timeout_ms, (tensor,))


@asynccontextmanager
async def world(
    kind: str, brokers: "Brokers", *, opened: bool = True, alone: bool = False
) -> AsyncIterator[World]:
    """A device that talks over this kind of link; the gateway runs already.

    `alone`: with a broker of its own, which may be killed.
    """
    async with AsyncExitStack() as stack:
        match kind:
            case "memory":
                made = _memory()
            case "http":
                made = await stack.enter_async_context(_http())
            case "https":
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                made = await stack.enter_async_context(_http(Authority(Path(folder))))
            case _:
                named = kind
                if kind == "failover":
                    named = "mosquitto" if MOSQUITTO is not None else "amqtt"
                running = stack.enter_context(broker(named)) if alone else brokers.get(named)
                through = _failover(running) if kind == "failover" else _mqtt(running)
                made = await stack.enter_async_context(through)
        stack.push_async_callback(made.transport.close)
        if opened:
            await made.transport.open(made.notices.put_nowait)
            await made.up()
            made.gateway.heard.clear()
        yield made


# -- memory


def _memory() -> World:
    gateway = Gateway()
    through = asyncio.Event()
    through.set()

    async def carry(data: bytes) -> bytes:
        whole = through.is_set()
        reply = await gateway.answer(data) if whole else b""
        if not (whole and through.is_set()):
            await asyncio.Event().wait()  # what was under way in a cut never arrives
        return reply

    transport = MemoryTransport(carry)
    made = World(transport, gateway)
    made.cut, made.repair = through.clear, through.set
    made.push = lambda notice: transport.push(codec.encode(notice))
    return made


# -- HTTP


class HttpGateway:
    """Just enough of HTTP/1.1 for one device."""

    def __init__(self, gateway: Gateway, secured: ssl.SSLContext | None = None) -> None:
        self._gateway = gateway
        self.secured = secured
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.answers_with: tuple[int, dict[str, str], bytes] | None = None
        self.connections = 0
        self.paths: list[str] = []
        self.closes_after_each = False
        self.hangs_up_on_next = False

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=self.secured)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, value in (line.split(":", 1) for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if self.hangs_up_on_next:
                    self.hangs_up_on_next = False
                    return
                assert headers["authorization"] == f"Bearer {TOKEN}"
                status, extra, reply = await self._respond(first.split(" ")[1], headers, body)
                extra["content-length"] = str(len(reply))
                fields = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
                writer.write(f"HTTP/1.1 {status} words\r\n{fields}\r\n".encode() + reply)
                await writer.drain()
                if self.closes_after_each:
                    return
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            writer.close()

    async def _respond(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self.paths.append(path)
        if self.answers_with is not None:
            return self.answers_with
        if path == "/v1/up":
            return 200, {}, await self._gateway.answer(body)
        assert path == "/v2/models/apparel/infer"
        request = oip.decode_request(body, int(headers[oip.HEADER_LENGTH.lower()]))
        asked = v1.Escalation(
            device=DEVICE,
            request_id=headers[live.REQUEST_ID.lower()],
            task="apparel",
            version=headers[live.PACKAGE_VERSION.lower()],
            timeout_ms=int(headers[live.DEADLINE_MS.lower()]),
            inputs=request.inputs,
        )
        answered = await self._gateway.answer(codec.encode(asked))
        try:
            said = codec.decode_down(answered)
        except Exception:  # noqa: BLE001 - a garbled answer travels as it is
            return 200, {}, answered
        if isinstance(said, v1.Refused):
            problem = f'{{"code": "{said.code}", "detail": "{said.message}"}}'.encode()
            return 429, {"Retry-After": f"{said.retry_after_s:g}"}, problem
        assert isinstance(said, v1.Escalated)
        names = {one.name for one in request.outputs if one.binary}
        encoded = oip.encode_response(live.response_of(said), binary=names)
        return 200, {oip.HEADER_LENGTH: str(encoded.header_length)}, encoded.body


@asynccontextmanager
async def _http(authority: Authority | None = None) -> AsyncIterator[World]:
    gateway = Gateway()
    server = HttpGateway(gateway, None if authority is None else authority.identity().server())
    port = await server.start()
    proxy = FaultProxy(Upstream("127.0.0.1", port, 0))
    scheme, files = "http", None
    if authority is not None:
        scheme, files = "https", TlsFiles(str(authority.file))
    address = f"{scheme}://127.0.0.1:{await proxy.start()}"
    made = HttpWorld(HttpTransport(address, TOKEN, files=files), gateway, server)
    made.cut, made.repair = proxy.cut, proxy.repair

    async def start() -> None:
        await server.start(port)

    made.stop_gateway, made.start_gateway = server.stop, start
    try:
        yield made
    finally:
        await made.transport.close()
        await proxy.close()
        await server.stop()


class HttpWorld(World):
    """With a hand on the server."""

    def __init__(self, transport: Transport, gateway: Gateway, server: HttpGateway) -> None:
        super().__init__(transport, gateway)
        self.server = server


# -- MQTT


class MqttGateway:
    """The gateway's end: one peer that answers on the device's topic."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway = gateway
        self._peer = MqttPeer("127.0.0.1", port, username="gateway", password="")
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        connected = asyncio.Event()
        await self._peer.start(self._on_message, connected.set)
        async with asyncio.timeout(10):
            await connected.wait()

    async def stop(self) -> None:
        await self._peer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def push(self, notice: v1.Notice) -> None:
        self._peer.publish(topics.down(DEVICE), topics.wrap(0, codec.encode(notice)))

    def publish(self, payload: bytes) -> None:
        self._peer.publish(topics.down(DEVICE), payload)

    def _on_message(self, topic: str, payload: bytes) -> None:
        heard = topics.parse_up(topic)
        number, message = topics.unwrap(payload)
        kind = "esc" if isinstance(codec.decode_up(message), v1.Escalation) else "rec"
        assert heard == (topics.TENANT, DEVICE, kind)
        task = asyncio.create_task(self._answer(number, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, message: bytes) -> None:
        reply = await self._gateway.answer(message)
        for _ in range(2 if self._gateway.twice else 1):
            self.publish(topics.wrap(number, reply))


class MqttWorld(World):
    """With a hand on the gateway's end."""

    def __init__(self, transport: Transport, gateway: Gateway, server: MqttGateway) -> None:
        super().__init__(transport, gateway)
        self.server = server


@asynccontextmanager
async def _mqtt(running: "Broker") -> AsyncIterator[World]:
    gateway = Gateway()
    server = MqttGateway(gateway, running.port)
    await server.start()
    # What is no MQTT to the proxy is TLS.
    proxy = FaultProxy(Upstream("127.0.0.1", running.secured_port, running.port))
    transport = MqttTransport(
        "127.0.0.1", await proxy.start(), device=DEVICE, token=TOKEN, files=running.files
    )
    made = MqttWorld(transport, gateway, server)
    made.cut, made.repair, made.push = proxy.cut, proxy.repair, server.push

    async def stop() -> None:
        running.kill()

    async def start() -> None:
        running.start()

    made.stop_gateway, made.start_gateway = stop, start
    try:
        yield made
    finally:
        await transport.close()
        await proxy.close()
        await server.stop()


# -- both, MQTT first


class TwoWaysWorld(World):
    """With a hand on either way: `http` and `mqtt` are proxies of their own."""

    def __init__(
        self,
        transport: Transport,
        preferred: Transport,
        gateway: Gateway,
        http: FaultProxy,
        mqtt: FaultProxy,
    ) -> None:
        super().__init__(transport, gateway)
        self.preferred = preferred
        self.http = http
        self.mqtt = mqtt

    async def up(self, within_s: float = 10.0) -> None:
        """Over HTTP it is up at once; what is pushed takes the way that was preferred."""
        await super().up(within_s)
        async with asyncio.timeout(within_s):
            while not self.preferred.connected:  # noqa: ASYNC110 - a connection in the making
                await asyncio.sleep(0.01)


@asynccontextmanager
async def _failover(running: "Broker") -> AsyncIterator[World]:
    gateway = Gateway()
    http, mqtt = HttpGateway(gateway), MqttGateway(gateway, running.port)
    await mqtt.start()
    port = await http.start()
    to_http = FaultProxy(Upstream("127.0.0.1", port, 0))
    to_mqtt = FaultProxy(Upstream("127.0.0.1", 0, running.port))
    preferred = MqttTransport("127.0.0.1", await to_mqtt.start(), device=DEVICE, token=TOKEN)
    transport = TwoWays(
        preferred,
        HttpTransport(f"http://127.0.0.1:{await to_http.start()}", TOKEN),
        probe=lambda: v1.LossReport(DEVICE, INC, (), 0.0),
        chance=random.Random(3),
        policy=Policy(hold_s=2.0),
    )
    made = TwoWaysWorld(transport, preferred, gateway, to_http, to_mqtt)

    def cut() -> None:
        to_http.cut()
        to_mqtt.cut()

    def repair() -> None:
        to_http.repair()
        to_mqtt.repair()

    async def stop() -> None:
        running.kill()
        await http.stop()

    async def start() -> None:
        running.start()
        await http.start(port)

    made.cut, made.repair, made.push = cut, repair, mqtt.push
    made.stop_gateway, made.start_gateway = stop, start
    try:
        yield made
    finally:
        await transport.close()
        await to_http.close()
        await to_mqtt.close()
        await mqtt.stop()
        await http.stop()


class Broker:
    """A broker process on a port of its own."""

    def __init__(self, kind: str, folder: Path, *, anonymous: bool = True) -> None:
        self.port = free_port()
        self.secured_port = 0
        self.files: TlsFiles | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "broker.log"
        if kind in ON_MOSQUITTO:
            assert MOSQUITTO is not None
            config = folder / "mosquitto.conf"
            lines = [
                f"listener {self.port} 127.0.0.1",
                f"allow_anonymous {str(anonymous).lower()}",
                "user root\npersistence false\nset_tcp_nodelay true",
            ]
            if kind == "mqtts":
                authority = Authority(folder)
                identity = authority.identity()
                self.secured_port, self.files = free_port(), TlsFiles(str(authority.file))
                lines.append(f"listener {self.secured_port} 127.0.0.1")
                lines.append(f"certfile {identity.certificate}\nkeyfile {identity.key}")
            config.write_text("\n".join([*lines, ""]))
            self._command = [MOSQUITTO, "-c", str(config)]
        else:
            self._command = [sys.executable, "-P", "-c", _AMQTT, str(self.port)]

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        until = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, "the broker does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def broker(kind: str, *, anonymous: bool = True) -> Iterator[Broker]:
    """A broker until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="longstop-broker-"))
    running = Broker(kind, folder, anonymous=anonymous)
    running.start()
    try:
        yield running
    finally:
        running.kill()
        shutil.rmtree(folder)


class Brokers:
    """One broker of each kind for many tests, started when the first of them asks."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: dict[str, Broker] = {}

    def get(self, kind: str) -> Broker:
        if kind not in self._running:
            self._running[kind] = self._stack.enter_context(broker(kind))
        return self._running[kind]

    def close(self) -> None:
        self._stack.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address: tuple[str, int] = probe.getsockname()
    return address[1]


_AMQTT = """
import asyncio, logging, sys
from amqtt.broker import Broker
logging.disable(logging.CRITICAL)
async def serve():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(serve())
"""
