"""Models that hang, crash, leak and answer nonsense: the device goes on answering."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec.structs import replace

from edge_agent.sdk import Answer, Client, DeadlineExceeded, LongstopError, Overloaded
from edge_agent.workplace import Workplace
from models import package
from models.manifest import decode, encode
from models.pipeline.declared import Model
from tests.local_device import easy
from tests.peculiar_packages import (
    CRASHES,
    IS_NAN,
    LEAKS,
    SLEEPS,
    SPINS,
    build_acting,
)
from tests.played_supervisor import PlayedSupervisor
from tests.programs import Agent, Gateway, until
from tests.tiny_models import build_tiny

pytestmark = pytest.mark.e2e

TASK = "acts"
SETTINGS = (
    "custom_steps=true",
    "cloud.pace.beat_s=1",
    "outbox.linger_ms=50",
    "restart.pause={base_s = 0.01, cap_s = 0.05}",
    "restart.loop_ends=3",
)
WAIT_MS = 30_000


def does(deed: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array([deed, 1.0], np.float32)


GOOD = np.array([-6.0, 6.0], np.float32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("cloud")
    with Gateway(folder) as gateway:
        gateway.publish_folder(build_acting(folder / "one", "1.0.0"))
        gateway.desire("1.0.0", task=TASK)
        yield gateway


@pytest.fixture
def agent(gateway: Gateway, tmp_path: Path) -> Iterator[Agent]:
    name = f"bench-{tmp_path.name[-20:].strip('_')}"
    with Agent(tmp_path / "a", gateway.invite(name), *SETTINGS) as agent:
        until(lambda: agent.serves("1.0.0", task=TASK), what="first package served")
        yield agent


def ask(client: Client, deed: float | None = None, *, deadline_ms: int = WAIT_MS) -> Answer:
    return client.infer(GOOD if deed is None else does(deed), deadline_ms=deadline_ms)


def last_end(agent: Agent) -> str:
    (task,) = agent.status()["tasks"]
    return str(task["last_end"])


@pytest.mark.parametrize("deed", [SLEEPS, SPINS])
def test_a_model_that_hangs_is_killed_by_the_watchdog_and_others_are_answered(
    agent: Agent, deed: float
) -> None:
    """A quick model runs in the worker's loop and silences it, a slow one has a thread."""
    with agent.client(TASK) as client:
        with pytest.raises(DeadlineExceeded):
            ask(client, deed, deadline_ms=400)
        assert ask(client).label == "honest"
    until(lambda: last_end(agent).startswith("hung: "), what="status says why")
    assert "2.0 s are allowed" in last_end(agent)


def test_a_model_that_crashes_its_worker_is_served_again(agent: Agent) -> None:
    with agent.client(TASK) as client:
        with pytest.raises(DeadlineExceeded):
            ask(client, CRASHES, deadline_ms=50)
        assert ask(client).label == "honest"
    until(lambda: last_end(agent) == "crashed: signal 11 killed it", what="status says why")


def test_a_model_that_returns_nan_is_answered_by_the_cloud_or_without_confidence(
    agent: Agent,
) -> None:
    with agent.client(TASK) as client:
        answer = ask(client, IS_NAN, deadline_ms=3000)
        assert answer.hard
        assert answer.confidence is None
        assert ask(client).label == "honest"


def test_a_leaking_model_is_renewed_before_it_eats_the_device(
    gateway: Gateway, tmp_path: Path
) -> None:
    settings = (*SETTINGS, "restart.steady_s=0.1", f"tasks.{TASK}.memory_mb=110")
    with Agent(tmp_path / "a", gateway.invite("leaky"), *settings) as agent:
        until(lambda: agent.serves("1.0.0", task=TASK), what="served")
        first = agent.worker()
        troubles: list[LongstopError] = []
        stop = threading.Event()

        def leak() -> None:
            with agent.client(TASK, name="leaker") as client:
                while not stop.wait(0.25):
                    try:
                        ask(client, LEAKS)
                    except LongstopError as error:
                        troubles.append(error)

        leaking = threading.Thread(target=leak)
        leaking.start()
        try:
            until(lambda: agent.worker() != first, within_s=60, what="a fresh worker")
        finally:
            stop.set()
            leaking.join()
        assert troubles == [], "nobody noticed"
        assert "worker.renewed task=acts beside=True" in agent.said()
        assert "by=memory" not in agent.said()


def test_a_flooding_program_is_told_so_and_another_is_answered(tmp_path: Path) -> None:
    """Everybody at once, as fast as they can: the line before the model has 64 places."""
    package = build_acting(tmp_path / "p", takes_s=0.005)
    overloaded: list[Overloaded] = []
    troubles: list[LongstopError] = []
    flooded = 0
    stop = threading.Event()
    lock = threading.Lock()

    def flood(device: PlayedSupervisor) -> None:
        nonlocal flooded
        with Client(TASK, name="flood", run=device.folder) as client:
            while not stop.is_set():
                try:
                    ask(client)
                    with lock:
                        flooded += 1
                except Overloaded as error:
                    overloaded.append(error)
                    time.sleep(0.01)
                except LongstopError as error:
                    troubles.append(error)

    with PlayedSupervisor(tmp_path, package, TASK) as device:
        device.place = Workplace(data=str(tmp_path), custom_steps=True)
        device.start_ready()
        flooding = [threading.Thread(target=flood, args=(device,)) for _ in range(100)]
        for thread in flooding:
            thread.start()
        try:
            until(lambda: overloaded, what="somebody is told")
            with Client(TASK, name="calm", run=device.folder) as calm:
                for _ in range(10):
                    assert ask(calm).label == "honest"
        finally:
            stop.set()
            for thread in flooding:
                thread.join()
    assert flooded > 0
    assert troubles == []
    assert "ask less often" in str(overloaded[0])


def test_a_flooded_task_leaves_another_task_its_answers(gateway: Gateway, tmp_path: Path) -> None:
    """Each has a process of its own; the flooded one's is the politer of the two."""
    settings = (*SETTINGS, f"tasks.{TASK}.cpu_share=0.5")
    gateway.publish("1.0.0")
    stop = threading.Event()

    def flood(agent: Agent, number: int) -> None:
        with agent.client(TASK, name=f"flood-{number}") as client:
            while not stop.is_set():
                with contextlib.suppress(LongstopError):
                    ask(client, deadline_ms=1000)

    with Agent(tmp_path / "a", gateway.invite("two-tasks"), *settings) as agent:
        gateway.desire("1.0.0", agent.device, task="sides")
        until(lambda: agent.serves("1.0.0", task=TASK), what="the flooded one is served")
        until(lambda: agent.serves("1.0.0", task="sides"), what="the other is served")
        flooding = [threading.Thread(target=flood, args=(agent, number)) for number in range(16)]
        for thread in flooding:
            thread.start()
        try:
            with agent.client("sides") as calm:
                for _ in range(50):
                    assert calm.infer(easy(1), deadline_ms=10_000).label == "middle"
        finally:
            stop.set()
            for thread in flooding:
                thread.join()
        nice = {one["task"]: niceness(one["pid"]) for one in agent.status()["tasks"]}
        assert nice[TASK] - nice["sides"] == 3


def niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def test_a_model_that_takes_a_minute_is_refused_and_the_one_before_goes_on(
    gateway: Gateway, tmp_path: Path
) -> None:
    mark = tmp_path / "slow"
    slow = f"import os, time\nif os.path.exists({str(mark)!r}):\n    time.sleep(600)\n"
    settings = (*SETTINGS, "watchdog.start_s=20")
    with Agent(tmp_path / "a", gateway.invite("slow"), *settings) as agent:
        until(lambda: agent.serves("1.0.0", task=TASK), what="first package served")
        gateway.publish_folder(build_acting(tmp_path / "slow one", "60.0.0", first=slow))
        mark.touch()
        gateway.desire("60.0.0", agent.device, task=TASK)
        with agent.client(TASK) as client:
            until(lambda: agent.status()["tasks"][0]["refused"], what="refused", within_s=90)
            assert ask(client).version == "1.0.0"
        (refused,) = agent.status()["tasks"][0]["refused"]
        assert (refused["version"], refused["code"]) == ("60.0.0", "worker_failed")
        assert "in 20 s" in refused["reason"]


def test_a_model_with_an_operator_the_runtime_lacks_is_refused_by_name(
    gateway: Gateway, tmp_path: Path
) -> None:
    folder = build_tiny(tmp_path / "p")
    model = onnx.load(folder / "edge.onnx")
    model.graph.node[0].op_type = "Magic"
    data = model.SerializeToString()
    (folder / "edge.onnx").write_bytes(data)
    manifest = decode((folder / "manifest.json").read_bytes())
    (node,) = manifest.edge.nodes[-1:]
    assert isinstance(node, Model)
    file = replace(node.file, sha256=package.digest(data), size=len(data))
    edge = replace(manifest.edge, nodes=(*manifest.edge.nodes[:-1], replace(node, file=file)))
    (folder / "manifest.json").write_bytes(encode(replace(manifest, edge=edge)))
    gateway.publish_folder(folder)
    with Agent(tmp_path / "a", gateway.invite("lacking"), *SETTINGS) as agent:
        gateway.desire(manifest.version, agent.device, task=manifest.task)

        def refusals() -> list[dict[str, str]]:
            tasks = [one for one in agent.status()["tasks"] if one["task"] == manifest.task]
            return [dict(one) for task in tasks for one in task["refused"]]

        until(refusals, what="refused", within_s=60)
        (refused,) = refusals()
        assert refused["code"] == "operator_unsupported"
        assert "Magic" in refused["reason"]


def test_a_crash_loop_falls_back_to_the_package_before(gateway: Gateway, tmp_path: Path) -> None:
    """And when that one crashes as well, to what the device was delivered with."""
    mark = tmp_path / "dies"
    dies = f"import os\nif os.path.exists({str(mark)!r}):\n    os.kill(os.getpid(), 11)\n"
    factory = build_acting(tmp_path / "factory", "0.1.0")
    settings = (*SETTINGS, f"factory.{TASK}={factory}")
    with Agent(tmp_path / "a", gateway.invite("loops"), *settings) as agent:
        until(lambda: agent.serves("1.0.0", task=TASK), what="first package served")
        gateway.publish_folder(build_acting(tmp_path / "two", "2.0.0", first=dies))
        gateway.desire("2.0.0", agent.device, task=TASK)
        until(lambda: agent.serves("2.0.0", task=TASK), what="switched")
        mark.touch()
        with agent.client(TASK) as client:
            with pytest.raises(DeadlineExceeded):
                ask(client, CRASHES, deadline_ms=50)
            answer = ask(client)
            assert (answer.label, answer.version) == ("honest", "1.0.0")
        (task,) = agent.status()["tasks"]
        assert (task["version"], task["state"]) == ("1.0.0", "serving")
        (refused,) = task["refused"]
        assert (refused["version"], refused["code"]) == ("2.0.0", "crash_loop")
        until(
            lambda: (
                "crash_loop"
                in str(gateway.rows("SELECT * FROM refusal WHERE device = ?", agent.device))
            ),
            what="the gateway knows why",
        )
        with agent.client(TASK) as client:
            while agent.status()["tasks"][0]["version"] == "1.0.0":
                with contextlib.suppress(DeadlineExceeded):
                    ask(client, CRASHES, deadline_ms=50)
            answer = ask(client)
            assert (answer.label, answer.version) == ("honest", "0.1.0")
