"""Programs that ask on a real broker: arrays and files, bad questions, floods, revisions."""

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.local_api.broker import MOST_OF_ONE, Broker
from edge_agent.local_api.callers import Served
from edge_agent.settings import AgentSettings
from edge_agent.wiring.listeners import Listeners
from edge_agent.workplace import Given, LocalMqttSettings
from sync.wire import v1
from tests.contracts import links
from tests.contracts.links import MOSQUITTO, broker
from tests.local_device import TASK, LocalDevice, easy, hard
from tests.mqtt_client import Client

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[links.Broker]:
    with broker("mosquitto") as running:
        yield running


class Facts:
    """What this device serves, and the revisions it keeps."""

    def __init__(self) -> None:
        self.kept: dict[str, list[v1.Revised]] = {}
        self.worker = True

    def tasks(self) -> tuple[str, ...]:
        return (TASK,)

    def served(self, task: str) -> Served | None:
        if task != TASK or not self.worker:
            return None
        return Served("3", Given("sample", "float32", (6,)))

    async def revisions(self, client: str, limit: int) -> tuple[v1.Revised, ...]:
        return tuple(self.kept.get(client, ())[:limit])

    async def take(self, client: str, request_ids: tuple[str, ...]) -> None:
        self.kept[client] = [one for one in self.kept[client] if one.request_id not in request_ids]


def revision(request_id: str, client: str) -> v1.Revised:
    return v1.Revised(request_id, client, TASK, "middle", 0.9, "7", 5.0)


class Bench:
    """A device that answers on a broker, and a program that asks there."""

    def __init__(self, device: LocalDevice, running: links.Broker, prefix: str) -> None:
        self.device = device
        self.facts = Facts()
        self.prefix = prefix
        settings = LocalMqttSettings(host="127.0.0.1", port=running.port, prefix=prefix)
        self.broker = Broker(settings, None, device.folder, self.facts)
        self.address = f"127.0.0.1:{running.port}"

    def program(self) -> Client:
        return Client(self.address, None, None)


def settle(true: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, true
        time.sleep(0.005)


@contextlib.contextmanager
def bench(running: links.Broker, folder: Path, prefix: str) -> Iterator[Bench]:
    with LocalDevice(folder) as device:
        at = Bench(device, running, prefix)
        device.do(at.broker.start())
        try:
            settle(lambda: not at.broker.trouble)
            yield at
        finally:
            device.do(at.broker.close())


@pytest.fixture
def at(mosquitto: links.Broker, tmp_path: Path) -> Iterator[Bench]:
    with bench(mosquitto, tmp_path, f"home/{tmp_path.name}") as made:
        yield made


@pytest.fixture
def program(at: Bench) -> Iterator[Client]:
    with at.program() as asking:
        asking.subscribe(f"{at.prefix}/+/answer/+")
        asking.subscribe(f"{at.prefix}/revision/+")
        asking.subscribe(f"{at.prefix}/status")
        asking.subscribe(f"{at.prefix}/refused")
        yield asking


def heard(at: Bench, program: Client, topic: str) -> list[dict[str, Any]]:
    """What was said on a topic below the prefix."""
    found = [one.payload for one in program.heard if one.topic == f"{at.prefix}/{topic}"]
    return [json.loads(payload) for payload in found]


def hears(at: Bench, program: Client, topic: str, many: int = 1) -> list[dict[str, Any]]:
    assert program.wait(lambda: len(heard(at, program, topic)) >= many), program.heard
    return heard(at, program, topic)


def asks(at: Bench, program: Client, **question: object) -> None:
    program.publish(f"{at.prefix}/{TASK}/infer", json.dumps(question).encode())


def test_a_question_in_json_is_answered_to_its_client(at: Bench, program: Client) -> None:
    asks(at, program, id="a1", client="till", deadline_ms=5000, input=easy().tolist())
    (answer,) = hears(at, program, f"{TASK}/answer/till")
    assert (answer["id"], answer["ok"], answer["label"]) == ("a1", True, "left")
    assert answer["confidence"] == pytest.approx(0.95, abs=1e-3)
    assert (answer["request_id"], answer["source"], answer["final"]) == ("a1", "edge", True)
    assert [record.client for record in at.device.records.written] == ["till"]


def test_bytes_are_answered_under_the_id_of_their_topic(at: Bench, program: Client) -> None:
    program.publish(f"{at.prefix}/{TASK}/infer/k7", easy(1).tobytes())
    (answer,) = hears(at, program, f"{TASK}/answer/k7")
    assert (answer["id"], answer["label"]) == ("k7", "middle")


def test_an_id_given_again_is_the_same_request(at: Bench, program: Client) -> None:
    for _ in range(2):
        asks(at, program, id=7, client="till", deadline_ms=5000, input=easy().tolist())
    assert [one["id"] for one in hears(at, program, f"{TASK}/answer/till", 2)] == [7, 7]
    assert [(one.id, one.client) for one in at.device.heard] == [("7", "till")] * 2


def test_while_a_worker_is_replaced_a_question_waits_for_the_next(
    at: Bench, program: Client
) -> None:
    at.facts.worker = False
    program.publish(f"{at.prefix}/{TASK}/infer/early", easy().tobytes())
    assert hears(at, program, f"{TASK}/answer/early")[0]["code"] == "agent_unavailable"
    at.facts.worker = True
    program.publish(f"{at.prefix}/{TASK}/infer/before", easy().tobytes())
    hears(at, program, f"{TASK}/answer/before")
    at.facts.worker = False
    program.publish(f"{at.prefix}/{TASK}/infer/between", easy().tobytes())
    assert hears(at, program, f"{TASK}/answer/between")[0]["label"] == "left"


def test_a_deadline_is_kept_whoever_asks(at: Bench, program: Client) -> None:
    at.device.cloud.after_s = None
    asks(at, program, id="h", client="till", deadline_ms=150, input=hard().tolist())
    (answer,) = hears(at, program, f"{TASK}/answer/till")
    assert (answer["final"], answer["reason"], answer["degraded"]) == (False, "deadline", True)


def test_bad_payloads_are_answered_by_name_and_harm_nobody(at: Bench, program: Client) -> None:
    program.publish(f"{at.prefix}/{TASK}/infer", b"\xff{")
    program.publish(f"{at.prefix}/{TASK}/infer", b"[" * 100_000)
    program.publish(f"{at.prefix}/{TASK}/infer/short", struct.pack("<2f", 1, 2))
    program.publish(f"{at.prefix}/cellar/infer/k", b"x")
    asks(at, program, id="n", client="till", input=[[1, 2], [3]])
    asks(at, program, id="ok", client="fair", deadline_ms=5000, input=easy().tolist())
    assert hears(at, program, f"{TASK}/answer/fair")[0]["label"] == "left"
    told = [
        *hears(at, program, "refused", 2),
        *hears(at, program, f"{TASK}/answer/short"),
        *hears(at, program, "cellar/answer/k"),
        *hears(at, program, f"{TASK}/answer/till"),
    ]
    assert [(one["id"], one["code"]) for one in told] == [
        (None, "bad_request"),
        (None, "bad_request"),
        ("short", "wrong_shape"),
        ("k", "unknown_task"),
        ("n", "malformed_message"),
    ]
    assert all(one["message"] and one["ok"] is False for one in told)
    assert len(at.device.records.written) == 1


def test_one_program_s_flood_is_told_so_and_others_are_still_served(
    at: Bench, program: Client
) -> None:
    at.device.cloud.after_s = None
    over = 5
    for number in range(MOST_OF_ONE + over):
        asks(at, program, id=number, client="flood", deadline_ms=20_000, input=hard().tolist())
    refusals = hears(at, program, f"{TASK}/answer/flood", over)
    assert [one["code"] for one in refusals] == ["overloaded"] * over
    asks(at, program, id="ok", client="fair", deadline_ms=5000, input=easy().tolist())
    assert hears(at, program, f"{TASK}/answer/fair")[0]["label"] == "left"


def test_revisions_are_taken_once_the_broker_has_them(at: Bench, program: Client) -> None:
    at.facts.kept = {"till": [revision("late-1", "till"), revision("late-2", "till")]}
    program.publish(f"{at.prefix}/revision/till/get", b"")
    found = hears(at, program, "revision/till", 2)
    assert [(one["request_id"], one["label"]) for one in found] == [
        ("late-1", "middle"),
        ("late-2", "middle"),
    ]
    settle(lambda: not at.facts.kept["till"])
    # From now on it is told as they come; who never asked here is not.
    at.facts.kept = {name: [revision(f"of-{name}", name)] for name in ("till", "stranger")}
    at.device.do(revised(at.broker, "stranger", "till"))
    assert hears(at, program, "revision/till", 3)[-1]["request_id"] == "of-till"
    settle(lambda: not at.facts.kept["till"])
    assert len(at.facts.kept["stranger"]) == 1


async def revised(broker: Broker, *names: str) -> None:
    for name in names:
        broker.revised(name)


def test_status_and_feedback_come_the_same_way(at: Bench, program: Client) -> None:
    program.publish(f"{at.prefix}/status/get", b"")
    assert hears(at, program, "status")[0]["device"] == "bench-1"
    told = {"request_id": "a1", "label": "left", "client": "till"}
    program.publish(f"{at.prefix}/{TASK}/feedback", json.dumps(told).encode())
    assert hears(at, program, f"{TASK}/answer/till") == [{"id": "a1", "ok": True, "known": True}]


def test_a_broker_that_dies_loses_no_revision_and_is_found_again(tmp_path: Path) -> None:
    with broker("mosquitto") as running, bench(running, tmp_path, "home/a") as at:
        at.device.do(revised(at.broker, "local-mqtt"))
        running.kill()
        settle(lambda: at.broker.trouble)
        assert at.broker.trouble.startswith("link_down: ")
        at.facts.kept = {"local-mqtt": [revision("late", "local-mqtt")]}
        at.device.do(revised(at.broker, "local-mqtt"))
        running.start()
        with at.program() as asking:
            asking.subscribe("home/a/#")
            settle(lambda: not at.broker.trouble)
            assert asking.wait(
                lambda: (
                    not at.facts.kept["local-mqtt"]
                    or bool(heard(at, asking, "revision/local-mqtt"))
                )
            )
            settle(lambda: not at.facts.kept["local-mqtt"])
            asking.publish(f"home/a/{TASK}/infer/k", easy().tobytes())
            assert hears(at, asking, f"{TASK}/answer/k")[0]["label"] == "left"


def test_a_broker_that_wants_another_user_is_named(tmp_path: Path) -> None:
    with broker("mosquitto", anonymous=False) as running, LocalDevice(tmp_path) as device:
        made = Bench(device, running, "home/a")
        device.do(made.broker.start())
        try:
            settle(lambda: made.broker.trouble.startswith("unauthorised: "))
        finally:
            device.do(made.broker.close())


def test_a_password_that_is_not_there_ends_nothing_and_is_named(tmp_path: Path) -> None:
    named = LocalMqttSettings(host="127.0.0.1", user="kiln", password_file="secret")
    listeners = Listeners(AgentSettings(local_mqtt=named), tmp_path, Facts())

    async def story() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await listeners.open(stack)
            trouble = listeners.broker_trouble
            assert trouble is not None
            assert trouble.startswith("bad_settings: local_mqtt.password_file: ")

    asyncio.run(story())
