"""A whole agent asked on a local broker: pictures and records, late answers, a worker that dies."""

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from sync.wire import codec, v1
from tests import raw_packages
from tests.contracts.links import MOSQUITTO, Broker, broker
from tests.mqtt_client import Client as Program
from tests.programs import Agent, Gateway, until
from tests.raw_packages import photo

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]

PREFIX = "cellar/kiln"
HARD = {"amount": 0.1, "risk": 5, "note": "größer", "seen": None, "new": True}


class World(NamedTuple):
    """An agent that answers on a broker, and a program there that hears everything."""

    gateway: Gateway
    agent: Agent
    broker: Broker
    program: Program


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("local-mqtt")
    with broker("mosquitto") as running, Gateway(folder / "cloud") as gateway:
        for task in ("photos", "orders"):
            gateway.publish_folder(getattr(raw_packages, task)(folder / task))
            gateway.desire("1", task=task)
        settings = (
            "cloud.pace.beat_s=1",
            "outbox.linger_ms=50",
            "local_mqtt.host=127.0.0.1",
            f"local_mqtt.port={running.port}",
            f"local_mqtt.prefix={PREFIX}",
        )
        with Agent(folder / "a", gateway.invite("bench-1"), *settings) as agent:
            for task in ("photos", "orders"):
                until(partial(agent.serves, "1", task=task), what=f"{task} served")
            until(lambda: agent.status()["local_mqtt"] == "", what="the broker is reached")
            with Program(f"127.0.0.1:{running.port}", None, None) as program:
                program.subscribe(f"{PREFIX}/+/answer/+")
                program.subscribe(f"{PREFIX}/revision/+")
                yield World(gateway, agent, running, program)


def hears(world: World, topic: str, many: int = 1) -> list[dict[str, Any]]:
    def heard() -> list[dict[str, Any]]:
        messages = world.program.heard
        return [json.loads(it.payload) for it in messages if it.topic == f"{PREFIX}/{topic}"]

    assert world.program.wait(lambda: len(heard()) >= many), world.program.heard
    return heard()


def asks(world: World, task: str, **question: object) -> None:
    world.program.publish(f"{PREFIX}/{task}/infer", json.dumps(question).encode())


def counted(world: World, client: str) -> int:
    """Answers to this client that the gateway knows of."""
    bodies = world.gateway.rows("SELECT body FROM batch WHERE body IS NOT NULL")
    found = [record for (body,) in bodies for record in codec.unpack_records(body)]
    return sum(isinstance(one, v1.Answered) and one.client == client for one in found)


def test_a_picture_goes_as_it_is(world: World) -> None:
    world.program.publish(f"{PREFIX}/photos/infer/door-1", photo((90, 5), (0, 0)))
    (answer,) = hears(world, "photos/answer/door-1")
    assert (answer["id"], answer["label"], answer["source"]) == ("door-1", "1 box", "edge")
    assert len(answer["details"]["objects"]) == 1


def test_a_question_asked_twice_has_one_answer_and_counts_once(world: World) -> None:
    for _ in range(2):
        asks(world, "orders", id="o-1", client="till", input={"amount": 3}, deadline_ms=10_000)
    first, second = hears(world, "orders/answer/till", 2)
    assert first["label"] == second["label"] == "fine"
    until(lambda: counted(world, "till") and not world.agent.status()["pending"], what="counted")
    assert counted(world, "till") == 1


def test_the_cloud_s_late_answer_is_published_and_then_forgotten(world: World) -> None:
    world.gateway.process.send_signal(signal.SIGSTOP)
    try:
        asks(world, "orders", id="late", client="desk", input=HARD, deadline_ms=400)
        (answer,) = hears(world, "orders/answer/desk")
        assert (answer["id"], answer["final"], answer["degraded"]) == ("late", False, True)
    finally:
        world.gateway.process.send_signal(signal.SIGCONT)
    (revision,) = hears(world, "revision/desk")
    assert (revision["request_id"], revision["task"], revision["label"]) == (
        "late",
        "orders",
        "odd",
    )
    until(lambda: world.agent.status()["revisions_waiting"] == 0, what="taken")


def test_a_worker_that_dies_leaves_the_broker_s_programs_served(world: World) -> None:
    def worker() -> int:
        tasks = world.agent.status()["tasks"]
        return int(next(one["pid"] for one in tasks if one["task"] == "orders") or 0)

    asks(world, "orders", id=1, client="after", input={"amount": 3}, deadline_ms=20_000)
    hears(world, "orders/answer/after")
    before = worker()
    os.kill(before, signal.SIGKILL)
    asks(world, "orders", id=2, client="after", input={"amount": 3}, deadline_ms=20_000)
    assert [one["label"] for one in hears(world, "orders/answer/after", 2)] == ["fine"] * 2
    until(lambda: worker() not in (0, before), what="another worker")


def test_a_broker_that_is_gone_is_named_and_everybody_else_is_served(world: World) -> None:
    world.broker.kill()
    try:
        until(lambda: world.agent.status()["local_mqtt"], what="noticed")
        said = world.agent.tell("status").stdout
        assert "wrong    programs that ask over MQTT are not heard: link_down: broker" in said
        with world.agent.client("orders") as client:
            assert client.infer({"amount": 3}, deadline_ms=10_000).label == "fine"
    finally:
        world.broker.start()
    until(lambda: world.agent.status()["local_mqtt"] == "", what="reached again")
