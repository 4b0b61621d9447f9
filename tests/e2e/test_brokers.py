"""Both brokers as real processes, held to one set of rules: nothing crosses between devices."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from cloud_gateway.broker import mosquitto
from cloud_gateway.broker.passwords import GATEWAY, hash_password
from cloud_gateway.broker.run import MAX_BYTES, Broker
from cloud_gateway.errors import BrokerFailed, PortTaken
from cloud_gateway.observe.metrics import Metrics
from cloud_gateway.settings import BrokerSettings
from sync.wire import codec, topics, v1
from tests.mqtt_client import PATIENCE_S, Client, Message

Kind = Literal["mosquitto", "amqtt"]
PASSWORDS = {"d1": "token one", "d2": "token two"}
HASHES = {name: hash_password(password) for name, password in PASSWORDS.items()}

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["mosquitto", "amqtt"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    if found == "mosquitto" and mosquitto.find() is None:
        pytest.skip("mosquitto is not installed")
    return found


class Echo:
    """A desk that says what it heard, and from whom."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    async def hear(self, device: str, message: bytes) -> bytes:
        self.heard.append((device, message))
        return device.encode() + b" said " + message


class Everybody:
    """Devices the gateway still knows."""

    def __init__(self) -> None:
        self.names = set(PASSWORDS)

    def knows(self, name: str) -> bool:
        return name in self.names


class Bench:
    """One running broker with an echo behind it."""

    def __init__(self, broker: Broker, echo: Echo, fleet: Everybody) -> None:
        self.broker = broker
        self.echo = echo
        self.fleet = fleet
        assert broker.address is not None
        self.address = broker.address

    def client(self, user: str | None, password: str | None = None, **given: Any) -> Client:
        known = PASSWORDS.get(user or "")
        return Client(self.address, user, known if password is None else password, **given)

    async def exchange(self, client: Client, device: str, text: bytes) -> None:
        """A question over MQTT and its answer; also proof that all before it was worked off."""
        answer = Message(topics.down(device), topics.wrap(7, device.encode() + b" said " + text))
        await aside(client.publish, topics.up(device, "rec"), topics.wrap(7, text))
        assert await aside(client.wait, lambda: answer in client.heard), client.heard


async def aside(call: Callable[..., Any], *args: Any) -> Any:
    """A blocking call of a test client, beside the event loop the broker is watched in."""
    return await asyncio.to_thread(call, *args)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.01)


@asynccontextmanager
async def bench(kind: Kind, folder: Path, **settings: Any) -> AsyncIterator[Bench]:
    echo, fleet = Echo(), Everybody()
    broker = Broker(
        BrokerSettings(kind=kind, port=0, restart_base_s=0.05, **settings),
        folder=folder / "broker",
        host="127.0.0.1",
        desk=echo,
        fleet=fleet,
        counters=Metrics(),
    )
    await broker.access_changed(HASHES)
    async with broker.running():
        yield Bench(broker, echo, fleet)


def test_a_device_asks_and_is_answered(kind: Kind, tmp_path: Path) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1") as first, made.client("d2") as second:
                for device, client in (("d1", first), ("d2", second)):
                    await aside(client.subscribe, topics.down(device))
                    for text in (b"hello", bytes(200_000), b"again"):
                        await made.exchange(client, device, text)
                await made.broker.notify(["d1"])
                notice = topics.wrap(0, codec.encode(v1.Notice("desired")))
                told = Message(topics.down("d1"), notice)
                assert await aside(first.wait, lambda: told in first.heard)
                assert told.payload not in [one.payload for one in second.heard]

    asyncio.run(check())


def test_nothing_meant_for_one_device_reaches_another(kind: Kind, tmp_path: Path) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1") as victim, made.client("d2") as spy:
                await aside(victim.subscribe, topics.down("d1"))
                for topic in (
                    "#",
                    "v1/#",
                    "+/+/+/+/+",
                    "v1/default/dn/+/all",
                    topics.down("d1"),
                    topics.up("d1", "rec"),
                    "$SYS/#",
                    topics.down("d2"),
                ):
                    await aside(spy.subscribe, topic)
                await made.exchange(victim, "d1", b"secret")
                await made.broker.notify(["d1"])
                # Whatever leaked would have come before the answer to the spy's own question.
                await made.exchange(spy, "d2", b"mine")
                assert {one.topic for one in spy.heard} == {topics.down("d2")}
                assert b"secret" not in b"".join(one.payload for one in spy.heard)

    asyncio.run(check())


def test_nobody_speaks_in_anothers_name(kind: Kind, tmp_path: Path) -> None:
    forged = topics.wrap(0, b"forged")
    will = (topics.down("d1"), forged, 1, False)

    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1") as victim:
                await aside(victim.subscribe, topics.down("d1"))
                with made.client("d2") as rogue:
                    await aside(rogue.subscribe, topics.down("d2"))
                    for topic in (
                        topics.up("d1", "rec"),
                        topics.down("d1"),
                        "v1/other/up/d2/rec",
                        "v1/default/up/d1/x/rec",
                    ):
                        for qos in (0, 1):
                            await aside(_publish, rogue, topic, forged, qos)
                    if rogue.connected:
                        await made.exchange(rogue, "d2", b"mine")
                # A will is a message, too, and a retained one waits for whoever comes later.
                with made.client("d2", will=will) as rogue:
                    await aside(rogue.vanish)
                with made.client("d2") as rogue:
                    await aside(_retain, rogue, topics.up("d2", "rec"), topics.wrap(9, b"kept"))
                with made.client("d2") as rogue:
                    await aside(rogue.subscribe, topics.down("d2"))
                    await made.exchange(rogue, "d2", b"again")
                with made.client("d1") as late:
                    await aside(late.subscribe, topics.down("d1"))
                    await aside(late.subscribe, "#")
                    await made.exchange(late, "d1", b"later")
                    heard = [*victim.heard, *late.heard]
                assert not [one for one in heard if one.payload.endswith((b"forged", b"kept"))]
                assert {device for device, text in made.echo.heard if text == b"forged"} == set()

    asyncio.run(check())


def _publish(client: Client, topic: str, payload: bytes, qos: int) -> None:
    client.publish(topic, payload, qos=qos)


def _retain(client: Client, topic: str, payload: bytes) -> None:
    client.publish(topic, payload, retain=True)


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, None), ("d1", ""), ("d1", "token two"), ("d9", "token one"), (GATEWAY, "guessed")],
    ids=["anonymous", "no password", "another's", "unknown", "the gateway's"],
)
def test_only_who_has_a_password_comes_in(
    kind: Kind, tmp_path: Path, user: str | None, password: str | None
) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1") as known:
                await aside(known.subscribe, topics.down("d1"))
                # A stranger who takes the name of a session must not harm it either.
                for name in ("stranger", "d1"):
                    stranger = made.client(user, password, client_id=name)
                    with stranger:
                        assert not stranger.connected
                await made.exchange(known, "d1", b"undisturbed")
                assert known.disconnects == 0

    asyncio.run(check())


def test_a_client_id_of_its_choice_gives_a_device_no_hold_on_another(
    kind: Kind, tmp_path: Path
) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1", client_id="d1") as victim:
                await aside(victim.subscribe, topics.down("d1"))
                for clean in (True, False):
                    with made.client("d2", client_id="d1", clean_session=clean) as rogue:
                        await aside(rogue.subscribe, topics.down("d2"))
                        await made.exchange(victim, "d1", b"mine alone")
                        await made.exchange(rogue, "d2", b"other")
                        assert {one.topic for one in rogue.heard} == {topics.down("d2")}
                assert victim.disconnects == 0

    asyncio.run(check())


def test_devices_come_and_go_while_the_broker_runs(kind: Kind, tmp_path: Path) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1") as stays, made.client("d2") as leaves:
                await aside(stays.subscribe, topics.down("d1"))
                await aside(leaves.subscribe, topics.down("d2"))
                await made.exchange(leaves, "d2", b"here")
                await made.broker.access_changed({"d1": HASHES["d1"]})
                assert await aside(leaves.wait, lambda: not leaves.connected)
                with made.client("d2") as again:
                    assert not again.connected
                await made.exchange(stays, "d1", b"still here")
                await made.broker.access_changed(HASHES | {"d3": hash_password("token three")})
                made.fleet.names.add("d3")

                async def comes_in(user: str, password: str | None) -> bool:
                    with made.client(user, password) as new:
                        return new.connected

                async with asyncio.timeout(PATIENCE_S):
                    # mosquitto reads its files a moment after it is told to.
                    while not await comes_in("d3", "token three"):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                assert await comes_in("d2", None)
                # A device that was given another token is out with the old one.
                await made.broker.access_changed(HASHES | {"d1": hash_password("new")})
                assert await aside(stays.wait, lambda: not stays.connected)
                assert not await comes_in("d1", None)
                assert await comes_in("d1", "new")

    asyncio.run(check())


def test_a_device_the_gateway_no_longer_knows_gets_no_answer(kind: Kind, tmp_path: Path) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1") as first, made.client("d2") as second:
                await aside(first.subscribe, topics.down("d1"))
                await aside(second.subscribe, topics.down("d2"))
                # The broker has not heard of it yet; the gateway has.
                made.fleet.names.discard("d1")
                await aside(first.publish, topics.up("d1", "rec"), topics.wrap(7, b"late"))
                await made.exchange(second, "d2", b"mine")
                assert ("d1", b"late") not in made.echo.heard
                assert first.heard == []

    asyncio.run(check())


def test_a_message_over_the_limit_ends_its_senders_connection_and_nothing_else(
    kind: Kind, tmp_path: Path
) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            with made.client("d1") as other:
                await aside(other.subscribe, topics.down("d1"))
                with made.client("d2") as loud:
                    await aside(
                        _publish, loud, topics.up("d2", "rec"), bytes(MAX_BYTES + (1 << 20)), 1
                    )
                    assert await aside(loud.wait, lambda: not loud.connected)
                await made.exchange(other, "d1", b"undisturbed")
                assert [device for device, _ in made.echo.heard] == ["d1"]

    asyncio.run(check())


def test_a_broker_that_dies_is_started_again(kind: Kind, tmp_path: Path) -> None:
    async def check() -> None:
        async with bench(kind, tmp_path) as made:
            assert made.broker.state() == (True, "")
            pid = made.broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not made.broker.state()[0])
            await until(lambda: made.broker.state()[0])
            assert made.broker.pid != pid
            with made.client("d1") as device:
                await aside(device.subscribe, topics.down("d1"))
                # The gateway's own connection comes back by itself, too.
                async with asyncio.timeout(PATIENCE_S):
                    while not any(text == b"hello" for _, text in made.echo.heard):
                        await aside(
                            device.publish, topics.up("d1", "rec"), topics.wrap(7, b"hello")
                        )
                        await asyncio.sleep(0.05)
                await made.exchange(device, "d1", b"back")

    asyncio.run(check())


def test_the_broker_ends_with_the_gateway(kind: Kind, tmp_path: Path) -> None:
    async def check() -> tuple[int, str]:
        async with bench(kind, tmp_path) as made:
            assert made.broker.pid is not None
            return made.broker.pid, made.address

    pid, address = asyncio.run(check())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        pytest.fail("the broker outlived the gateway")
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


def test_a_taken_port_is_named(kind: Kind, tmp_path: Path) -> None:
    async def check(port: int) -> None:
        broker = Broker(
            BrokerSettings(kind=kind, port=port),
            folder=tmp_path,
            host="127.0.0.1",
            desk=Echo(),
            fleet=Everybody(),
            counters=Metrics(),
        )
        await broker.access_changed({})
        async with broker.running():
            pytest.fail("started")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            asyncio.run(check(port))


def test_a_broker_that_cannot_start_says_why(kind: Kind, tmp_path: Path) -> None:
    async def check() -> None:
        broker = Broker(
            BrokerSettings(kind=kind, port=0),
            folder=tmp_path,
            host="127.0.0.1",
            desk=Echo(),
            fleet=Everybody(),
            counters=Metrics(),
        )
        # No password file: amqtt looks at it at the first CONNECT, mosquitto as it starts.
        async with broker.running():
            pass

    if kind == "mosquitto":
        with pytest.raises(BrokerFailed, match="ended with code"):
            asyncio.run(check())
