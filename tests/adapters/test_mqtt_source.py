"""Sensors on a real broker: windows over what they publish, through reconnects and nonsense."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.errors import SourceBroken, SourceUnfit
from edge_agent.sdk.messages import Infer, Refused, Reply, Timings
from edge_agent.sources.admission import Policy, Report
from edge_agent.sources.arrays import Kind
from edge_agent.sources.intake import Intake
from edge_agent.sources.mqtt import MqttSource
from edge_agent.workplace import MqttSettings
from sync.clock import SystemClock
from sync.transport.mqtt import MqttPeer
from tests.contracts.links import MOSQUITTO, Broker, broker

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

KIND = Kind("float32", (4, 2))
LIVE = Policy(live=True, counted=True, at_once=4, backlog=4)


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[Broker]:
    with broker("mosquitto") as running:
        yield running


class Answers:
    """Answers every window, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Infer, bytes]] = []
        self.reports: list[Report] = []

    async def __call__(self, infer: Infer, data: bytes) -> Reply | Refused:
        self.asked.append((infer, data))
        return Reply(
            infer.id, "1", 0.9, "edge", True, "confident", False, "1", "ab", Timings(1, 1, 0, 2)
        )

    def windows(self) -> list[list[float]]:
        """The first channel of each."""
        return [np.frombuffer(data, np.float32)[::2].tolist() for _, data in self.asked]

    def skipped(self) -> list[tuple[str, int]]:
        return sorted((one.reason, one.count) for one in self.reports)


class Bench:
    """A running source and a sensor beside it."""

    def __init__(
        self, sensor: MqttPeer, source: MqttSource, answers: Answers, intake: Intake
    ) -> None:
        self.intake = intake
        self.sensor = sensor
        self.source = source
        self.answers = answers

    def publish(self, *samples: object, topic: str = "hall/acc") -> None:
        for sample in samples:
            self.sensor.publish(topic, json.dumps(sample).encode())


async def settle(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - a broker is between
        await asyncio.sleep(0.005)


@asynccontextmanager
async def bench(
    running: Broker, folder: Path, *, policy: Policy = LIVE, kind: Kind = KIND, **more: object
) -> AsyncIterator[Bench]:
    given = {"host": "127.0.0.1", "port": running.port, "topic": "hall/+"} | more
    settings = msgspec.convert(given, MqttSettings)
    answers, clock = Answers(), SystemClock()
    source = MqttSource(settings, data=folder, answer=answers, kind=kind, clock=clock)
    intake = Intake(policy, clock=clock, report=answers.reports.append)
    task = asyncio.create_task(source.run(intake))
    sensor = MqttPeer("127.0.0.1", running.port, subscriptions=["nothing"])
    await sensor.start(lambda *_: None)
    try:
        async with asyncio.timeout(60):
            await settle(lambda: sensor.connected and not source.trouble and task is not None)
            yield Bench(sensor, source, answers, intake)
            assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await intake.close()
        await sensor.close()


def samples(*values: float) -> list[list[float]]:
    return [[value, 0.0] for value in values]


def test_windows_of_the_package_s_shape_are_answered(mosquitto: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(mosquitto, tmp_path, stride=2) as at:
            at.publish(*samples(1, 2, 3, 4, 5, 6))
            await settle(lambda: len(at.answers.asked) == 2)
        assert at.answers.windows() == [[1, 2, 3, 4], [3, 4, 5, 6]]
        (infer, _), (other, _) = at.answers.asked
        assert (infer.dtype, infer.shape, infer.client) == ("float32", (4, 2), "mqtt")
        assert infer.id != other.id

    asyncio.run(story())


def test_each_topic_is_a_sensor_of_its_own(mosquitto: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(mosquitto, tmp_path) as at:
            for value in (1, 2, 3, 4):
                at.publish(*samples(value), topic="hall/a")
                at.publish(*samples(-value), topic="hall/b")
            await settle(lambda: len(at.answers.asked) == 2)
        assert sorted(at.answers.windows()) == [[-1, -2, -3, -4], [1, 2, 3, 4]]

    asyncio.run(story())


def test_holes_and_late_samples_are_in_the_records(mosquitto: Broker, tmp_path: Path) -> None:
    columns = ["t", "x", "y"]

    async def story() -> None:
        async with bench(mosquitto, tmp_path, fields=columns, time="t", gap_s=1.5) as at:
            times = [1, 2, 10, 11, 11, 12, 13]
            at.publish(*({"t": t, "x": t, "y": 0} for t in times))
            at.publish({"t": "soon", "x": 0, "y": 0})
            await settle(lambda: len(at.answers.asked) == 1)
        assert at.answers.windows() == [[10, 11, 12, 13]]
        assert at.answers.skipped() == [("gap", 1), ("out_of_order", 1), ("unreadable", 1)]

    asyncio.run(story())


def test_no_window_spans_a_lost_connection(tmp_path: Path) -> None:
    async def story(running: Broker) -> None:
        async with bench(running, tmp_path) as at:
            at.publish(*samples(1, 2, 3))
            at.publish(*samples(1, 2, 3, 4), topic="hall/whole")
            await settle(lambda: len(at.answers.asked) == 1)
            running.kill()
            await settle(lambda: bool(at.source.trouble) and not at.sensor.connected)
            assert at.source.trouble.startswith("link_down: broker 127.0.0.1")
            running.start()
            await settle(lambda: at.sensor.connected and not at.source.trouble)
            at.publish(*samples(5, 6, 7, 8))
            await settle(lambda: len(at.answers.asked) == 2)
        assert at.answers.windows() == [[1, 2, 3, 4], [5, 6, 7, 8]]
        assert at.answers.skipped() == [("gap", 1)]

    with broker("mosquitto") as running:
        asyncio.run(story(running))


def test_what_is_too_much_is_left_out_and_counted(mosquitto: Broker, tmp_path: Path) -> None:
    slow = msgspec.structs.replace(LIVE, per_second=0.001, burst=3)

    async def story() -> None:
        async with bench(mosquitto, tmp_path, policy=slow) as at:
            at.publish(*samples(*range(40)))
            await settle(lambda: at.intake.offered == 10)
        assert len(at.answers.asked) == 3
        assert at.answers.skipped() == [("rate_limited", 7)]

    asyncio.run(story())


def test_a_task_that_takes_records_gets_each_message_whole(
    mosquitto: Broker, tmp_path: Path
) -> None:
    async def story() -> None:
        async with bench(mosquitto, tmp_path, kind=Kind("record", ())) as at:
            at.publish({"amount": 3}, {"amount": 4})
            at.sensor.publish("hall/acc", b"")
            await settle(lambda: len(at.answers.asked) == 2)
        assert [json.loads(data) for _, data in at.answers.asked] == [{"amount": 3}, {"amount": 4}]
        assert at.answers.skipped() == [("unreadable", 1)]

    asyncio.run(story())


def test_answers_are_published_where_the_settings_say(mosquitto: Broker, tmp_path: Path) -> None:
    async def story() -> None:
        heard: list[dict[str, object]] = []
        listener = MqttPeer("127.0.0.1", mosquitto.port, subscriptions=["answers/hall"])
        await listener.start(lambda _, payload: heard.append(json.loads(payload)))
        async with bench(mosquitto, tmp_path, answers="answers/hall") as at:
            await settle(lambda: listener.connected)
            at.publish(*samples(1, 2, 3, 4))
            await settle(lambda: len(heard) == 1)
        await listener.close()
        assert heard[0]["ok"] is True
        assert heard[0]["label"] == "1"
        assert str(heard[0]["input"]).startswith("hall/acc@")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"answers": "a"}, SourceUnfit, "would be taken for inputs"),
        ({"window": 3}, SourceUnfit, "set it to 4"),
        ({"fields": ["x"]}, SourceUnfit, "takes 2 in each"),
        ({"format": "raw", "time": "t"}, SourceUnfit, "hold no time"),
        ({"format": "csv", "time": "t"}, SourceUnfit, "no column 't'"),
        ({"password_file": "none"}, SourceBroken, "password in .*none cannot be read"),
    ],
)
def test_settings_that_cannot_work_say_so(
    tmp_path: Path, more: dict[str, object], error: type[SourceBroken], says: str
) -> None:
    given = {"host": "127.0.0.1", "topic": "a"} | more
    clock = SystemClock()
    source = MqttSource(
        msgspec.convert(given, MqttSettings),
        data=tmp_path,
        answer=Answers(),
        kind=KIND,
        clock=clock,
    )

    async def story() -> None:
        await source.run(Intake(LIVE, clock=clock, report=lambda _: None))

    with pytest.raises(error, match=says):
        asyncio.run(story())
