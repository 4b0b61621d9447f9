"""A device with a budget, and one whose model is not done in time: real agents, a real gateway."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.cloud.budget import ENVELOPE
from edge_agent.sdk import Answer, DeadlineExceeded
from tests.local_device import easy, hard
from tests.peculiar_packages import SLEEPS, build_acting
from tests.programs import Agent, Gateway, until

pytestmark = pytest.mark.e2e

EACH = ENVELOPE + hard().nbytes
LIMIT = 8 * EACH
FAST = ("cloud.pace.beat_s=1", "outbox.linger_ms=50", "audit.share=0.0")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("cloud")
    with Gateway(folder) as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        gateway.publish_folder(build_acting(folder / "one", "1.0.0", takes_s=0.01))
        gateway.desire("1.0.0", task="acts")
        yield gateway


def ask(agent: Agent, count: int) -> list[Answer]:
    with agent.client() as client:
        return [client.infer(hard(), deadline_ms=10_000) for _ in range(count)]


def test_a_tiny_budget_is_spent_on_the_cloud_and_no_more_whatever_is_killed(
    gateway: Gateway, tmp_path: Path
) -> None:
    settings = (*FAST, f"budget.bytes_per_hour={LIMIT}")
    said: list[Answer] = []
    with Agent(tmp_path / "a", gateway.invite("thrifty"), *settings) as agent:
        until(lambda: agent.serves("1.0.0") and agent.status()["connected"], what="serving")
        said += ask(agent, 5)
        assert said[0].source == "cloud", "there is a budget, and it is used"
        agent.process.send_signal(signal.SIGKILL)
        agent.process.wait()
        again = agent.again()
    with again as agent:
        until(lambda: agent.serves("1.0.0") and agent.status()["connected"], what="serving")
        said += ask(agent, 60)
        budget = agent.status()["budget"]
        assert budget["limit"] == LIMIT
        assert budget["spent"] <= LIMIT
        assert "spent in this hour" in agent.tell("status").stdout
    asked = [one for one in said if one.source == "cloud" or not one.final]
    assert len(asked) * EACH <= LIMIT
    kept = [one for one in said if one.final and one.source == "edge"]
    assert kept
    assert {(one.reason, one.degraded) for one in kept} == {("budget", True)}


def test_a_model_that_is_not_done_in_time_is_told_of_and_counted(
    gateway: Gateway, tmp_path: Path
) -> None:
    settings = (*FAST, "custom_steps=true", "watchdog.least_s=30")
    with Agent(tmp_path / "a", gateway.invite("slow"), *settings) as agent:
        until(lambda: agent.serves("1.0.0", task="acts"), what="serving")
        with agent.client("acts") as client:
            fine = client.infer(np.array([-6.0, 6.0], np.float32), deadline_ms=10_000)
            assert fine.label == "honest"
            with pytest.raises(DeadlineExceeded):
                client.infer(np.array([SLEEPS, 1.0], np.float32), deadline_ms=300)

            def unanswered() -> int:
                return sum(int(task["unanswered"]) for task in agent.status()["tasks"])

            until(lambda: unanswered() == 1, what="counted")
            assert "unanswered: 1 requests" in agent.tell("status").stdout


def test_a_worker_that_hangs_cannot_count_and_its_callers_do(
    gateway: Gateway, tmp_path: Path
) -> None:
    with Agent(tmp_path / "a", gateway.invite("stopped"), *FAST, "watchdog.least_s=30") as agent:
        until(lambda: agent.serves("1.0.0"), what="serving")
        with agent.client() as client:
            assert client.infer(easy(), deadline_ms=10_000).final
            worker = agent.worker()
            assert worker is not None
            os.kill(worker, signal.SIGSTOP)
            try:
                with pytest.raises(DeadlineExceeded):
                    client.infer(easy(), deadline_ms=100, request_id="nobody-there")
            finally:
                os.kill(worker, signal.SIGCONT)
            assert client.infer(easy(), deadline_ms=10_000).final
        until(
            lambda: any(task["unanswered"] == 1 for task in agent.status()["tasks"]),
            what="counted once",
        )
