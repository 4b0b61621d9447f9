"""Workers that follow each other: where memory has room for one only, and off a bad accelerator."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edge_agent.sdk import Answer, Client, LongstopError
from models import package
from models.calibrate.binding import binding_of
from models.manifest import decode, encode
from models.runtimes.choose import installed
from tests.local_device import easy
from tests.peculiar_packages import build_acting
from tests.programs import TASK, Agent, Gateway, until
from tests.tiny_models import build_tiny

pytestmark = pytest.mark.e2e

FAST = ("cloud.pace.beat_s=1", "outbox.linger_ms=50")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("cloud")) as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        yield gateway


class Load:
    """Two programs that ask all the time."""

    def __init__(self, agent: Agent) -> None:
        self.answers: list[Answer] = []
        self.troubles: list[LongstopError] = []
        self._agent = agent
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def _ask(self) -> None:
        with self._agent.client() as client:
            while not self._stop.wait(0.005):
                try:
                    self.answers.append(client.infer(easy(1), deadline_ms=30_000))
                except LongstopError as error:
                    self.troubles.append(error)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def only_task(agent: Agent) -> dict[str, Any]:
    (task,) = agent.status()["tasks"]
    return dict(task)


def test_where_two_have_no_room_callers_wait_in_the_backlog_and_none_is_dropped(
    gateway: Gateway, tmp_path: Path
) -> None:
    settings = (*FAST, "swap=one_at_a_time")
    with Agent(tmp_path / "a", gateway.invite("narrow"), *settings) as agent:
        until(lambda: agent.serves("1.0.0"), what="first package served")
        assert only_task(agent)["one_at_a_time"] == "the settings say one_at_a_time"
        first = agent.worker()
        with Load(agent) as load:
            until(lambda: load.answers, what="under load")
            gateway.publish("2.0.0")
            gateway.desire("2.0.0", agent.device)
            until(lambda: agent.serves("2.0.0"), what="switched")
            until(lambda: load.answers[-1].version == "2.0.0", what="answers of the new one")
        assert load.troubles == []
        assert {one.version for one in load.answers} == {"1.0.0", "2.0.0"}
        said = agent.said()
        drained, ready = said.index("worker.drained"), said.index("version=2.0.0 run_us")
        assert drained < ready, f"worker {first} left before the next one came"


def test_a_package_that_fails_its_trial_alone_hands_back_to_the_one_before(
    gateway: Gateway, tmp_path: Path
) -> None:
    settings = (*FAST, "swap=one_at_a_time", "custom_steps=true")
    dies = "import os\nos.kill(os.getpid(), 11)\n"
    with Agent(tmp_path / "a", gateway.invite("handed"), *settings) as agent:
        until(lambda: agent.serves("1.0.0"), what="first package served")
        # It must not die of its code before it is on the device.
        harmless = build_acting(tmp_path / "p", "3.0.0", task=TASK, first=guarded(dies, tmp_path))
        gateway.publish_folder(harmless)
        (tmp_path / "armed").touch()
        with Load(agent) as load:
            until(lambda: load.answers, what="under load")
            gateway.desire("3.0.0", agent.device)
            until(lambda: only_task(agent)["refused"], what="refused")
            until(lambda: agent.serves("1.0.0"), what="the one before serves again")
            before = len(load.answers)
            until(lambda: len(load.answers) > before, what="answers again")
        assert load.troubles == []
        assert {one.version for one in load.answers} == {"1.0.0"}
        (refused,) = only_task(agent)["refused"]
        assert (refused["version"], refused["code"]) == ("3.0.0", "worker_failed")


def guarded(code: str, folder: Path) -> str:
    """The same code, once a file named `armed` is there."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return f"import os\nif os.path.exists({str(folder / 'armed')!r}):\n{lines}"


@pytest.mark.skipif("openvino" not in installed(), reason="openvino is not installed")
def test_a_runtime_that_crashes_twice_is_left_out_and_status_says_degraded(
    gateway: Gateway, tmp_path: Path
) -> None:
    folder = build_tiny(tmp_path / "p")
    file = folder / package.MANIFEST
    manifest = decode(file.read_bytes())
    bound = binding_of(manifest.edge, "openvino", "cpu", "f32")
    certificate = replace(manifest.certificate, bound=bound)
    file.write_bytes(encode(replace(manifest, certificate=certificate)))
    gateway.publish_folder(folder)
    with Agent(tmp_path / "a", gateway.invite("accelerated"), *FAST) as agent:
        gateway.desire(manifest.version, agent.device, task=manifest.task)

        def of_task() -> dict[str, Any]:
            found = [one for one in agent.status()["tasks"] if one["task"] == manifest.task]
            return dict(found[0]) if found else {"state": "none", "runs_on": None}

        killed: list[int] = []

        def serves_again() -> bool:
            task = of_task()
            return task["state"] == "serving" and task["pid"] not in killed

        until(serves_again, what="served", within_s=60)
        assert of_task()["runs_on"]["runtime"] == "openvino"
        assert of_task()["uncertified"] is None
        for _ in range(2):
            killed.append(of_task()["pid"])
            os.kill(killed[-1], signal.SIGSEGV)
            until(serves_again, what="served again", within_s=60)
        task = of_task()
        assert task["runs_on"]["runtime"] == "onnx"
        assert task["degraded"].startswith("runs without openvino: its worker ended 2 times there")
        assert "bound to openvino" in task["uncertified"]
        with agent.client(manifest.task) as client:
            answer = ask_shades(client)
            assert "bound to openvino" in str(answer.uncertified)
        told = agent.tell("status").stdout
        assert "degraded: runs without openvino" in told


def ask_shades(client: Client) -> Answer:
    return client.infer(np.zeros((2, 3), np.uint8), deadline_ms=10_000)
