"""A device enrolled over both ways: its broker falls silent under load, and comes back."""

import os
import signal
import threading
from pathlib import Path

import pytest

from edge_agent.sdk import Answer
from tests.local_device import hard
from tests.programs import Agent, Gateway, until

pytestmark = pytest.mark.e2e
SETTINGS = (
    "cloud.pace.beat_s=1",
    "outbox.linger_ms=50",
    "failover.hold_s=1",
    "failover.probe.base_s=0.2",
    "failover.probe.cap_s=0.5",
)
CALLERS = 4


def broker_of(gateway: Gateway) -> int:
    """Process id of the broker a gateway has started: its only child."""
    path = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
    (child,) = path.read_text().split()
    return int(child)


class Callers:
    """Some that ask hard cases one after the other, until told to stop."""

    def __init__(self, agent: Agent) -> None:
        self.answers: list[Answer] = []
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(agent,)) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, agent: Agent) -> None:
        with agent.client() as client:
            while not self._stop.wait(0.02):
                try:
                    self.answers.append(client.infer(hard(0, 2), deadline_ms=4000))
                except Exception as error:  # noqa: BLE001 - the test looks at what came
                    self.errors.append(error)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_broker_that_falls_silent_under_load_costs_no_live_answer(tmp_path: Path) -> None:
    with Gateway(tmp_path / "cloud", broker="auto") as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        with Agent(tmp_path / "a", gateway.invite("bench-1"), *SETTINGS) as agent:
            until(lambda: agent.serves("1.0.0"), what="serving")
            until(lambda: agent.status()["link"] == "mqtt", what="over the preferred way")
            broker = broker_of(gateway)
            callers = Callers(agent)
            try:
                until(lambda: len(callers.answers) > 20, what="answered before")
                os.kill(broker, signal.SIGSTOP)
                until(lambda: agent.status()["link"] == "http", what="goes on over HTTP")
                until(
                    lambda: gateway.rows("SELECT link FROM device_state") == [("http",)],
                    what="the heartbeat says so",
                )
                before = len(callers.answers)
                until(lambda: len(callers.answers) > before + 50, what="answered meanwhile")
                os.kill(broker, signal.SIGCONT)
                until(lambda: agent.status()["link"] == "mqtt", what="back over MQTT")
            finally:
                os.kill(broker, signal.SIGCONT)
                callers.stop()
            assert callers.errors == []
            assert {answer.source for answer in callers.answers} == {"cloud"}
            until(lambda: agent.status()["pending"] == 0, what="records delivered")
            assert gateway.rows("SELECT count(*) FROM loss") == [(0,)]
            assert agent.stop() == 0
