"""What is MQTT's own: socket options, refusals of the broker, noise on a topic, two of one name."""

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest

from sync.errors import LinkDown, LinkUnauthorised
from sync.transport.mqtt import MqttPeer, MqttTransport
from sync.wire import codec, topics, v1
from tests.contracts.links import (
    DEVICE,
    MOSQUITTO,
    TOKEN,
    Brokers,
    MqttWorld,
    batch,
    beat,
    broker,
    escalation,
    free_port,
    reply_to,
    world,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed; ./just system"),
]
Story = Callable[[MqttWorld], Coroutine[None, None, None]]


def run(story: Story) -> None:
    brokers = Brokers()

    async def told() -> None:
        async with asyncio.timeout(30), world("mosquitto", brokers) as made:
            assert isinstance(made, MqttWorld)
            await story(made)

    try:
        asyncio.run(told())
    finally:
        brokers.close()


def test_replies_do_not_wait_for_acknowledgements_of_tcp() -> None:
    async def story(made: MqttWorld) -> None:
        assert isinstance(made.transport, MqttTransport)
        session = made.transport._peer._session
        assert session is not None
        one = session._socket
        assert one is not None
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000

    run(story)


def test_noise_on_the_devices_topic_disturbs_nothing() -> None:
    async def story(made: MqttWorld) -> None:
        not_a_notice = topics.wrap(0, codec.encode(reply_to(batch(1))))
        for noise in (b"", b"short", topics.wrap(0, b"\x01?"), topics.wrap(7, b"?"), not_a_notice):
            made.server.publish(noise)
        assert await made.transport.exchange(batch(1), timeout_s=5.0) == reply_to(batch(1))
        assert made.notices.empty()

    run(story)


def test_a_device_back_before_the_broker_has_missed_it_is_not_thrown_out() -> None:
    async def story(made: MqttWorld) -> None:
        assert isinstance(made.transport, MqttTransport)
        again = MqttTransport("127.0.0.1", made.transport._peer.port, device=DEVICE, token=TOKEN)
        await again.open(lambda _: None)
        async with asyncio.timeout(5):
            while True:
                try:
                    await again.exchange(beat(), timeout_s=5.0)
                except LinkDown:
                    await asyncio.sleep(0.01)
                else:
                    break
        for lo in (1, 6, 11):
            assert await made.transport.exchange(batch(lo), timeout_s=1.0) == reply_to(batch(lo))
            assert await again.exchange(batch(lo), timeout_s=1.0) == reply_to(batch(lo))
        await again.close()

    run(story)


def test_a_broker_that_does_not_know_the_device_says_so_and_is_not_hammered() -> None:
    async def story(port: int) -> None:
        transport = MqttTransport("127.0.0.1", port, device=DEVICE, token="wrong")
        await transport.open(lambda _: None)
        async with asyncio.timeout(5):
            told = LinkDown()
            while not isinstance(told, LinkUnauthorised):
                await asyncio.sleep(0.02)
                with pytest.raises(LinkDown) as raised:
                    await transport.exchange(beat(), timeout_s=1.0)
                told = raised.value
        assert told.code == "unauthorised"
        assert "Not authorized" in str(told)
        await transport.close()

    with broker("mosquitto", anonymous=False) as running:
        asyncio.run(story(running.port))


def test_a_peer_without_a_connection_says_nothing_and_does_not_fail() -> None:
    async def story() -> None:
        peer = MqttPeer("127.0.0.1", free_port())
        peer.publish("v1/default/dn/d1/all", b"before the start")
        await peer.start(lambda _topic, _payload: None)
        await asyncio.sleep(0.1)
        peer.publish("v1/default/dn/d1/all", b"nobody is there")
        assert not peer.connected
        assert "refused" in str(peer.trouble).lower()
        await peer.close()

    asyncio.run(story())


def test_a_notice_for_one_device_reaches_no_other() -> None:
    async def story(made: MqttWorld) -> None:
        other = v1.Notice("desired")
        made.server._peer.publish(topics.down("d2"), topics.wrap(0, codec.encode(other)))
        await made.transport.exchange(beat(), timeout_s=5.0)
        assert made.notices.empty()

    run(story)


def test_a_broker_killed_between_question_and_reply_costs_a_second_asking_and_no_answer() -> None:
    """The gateway has the question, the broker dies with the reply, another takes its place."""

    async def story(made: MqttWorld) -> None:
        answer, killed = made.gateway.answer, asyncio.Event()

        async def answer_and_kill(data: bytes) -> bytes:
            if not killed.is_set():
                killed.set()
                assert made.stop_gateway is not None
                assert made.start_gateway is not None
                await made.stop_gateway()
                await made.start_gateway()
            return await answer(data)

        made.gateway.answer = answer_and_kill  # type: ignore[method-assign]
        asked = escalation("r1")
        replies = [await made.transport.exchange(asked, timeout_s=25.0)]
        assert killed.is_set()
        assert replies == [reply_to(asked)]
        assert made.gateway.heard == [asked, asked], "asked again under its own id"

    async def told() -> None:
        async with asyncio.timeout(60), world("mosquitto", Brokers(), alone=True) as made:
            assert isinstance(made, MqttWorld)
            await story(made)

    asyncio.run(told())
