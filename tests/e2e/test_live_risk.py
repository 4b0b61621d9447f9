"""A real device whose cloud disagrees: the alarm, safe mode, what status and gateway say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from models.calibrate.by_hand import by_hand
from models.calibrate.certify import named
from models.twins import build_twin, twin_sample
from tests.programs import TASK, Agent, Gateway, until

pytestmark = pytest.mark.e2e

PROMISED = named(
    replace(
        by_hand(note="as if calibrated", threshold=0.8, method="by hand, for a test"),
        promise="teacher",
        feasible=True,
        upper_bound=0.018,
        n=1000,
        k=10,
    )
)
SETTINGS = ("cloud.pace.beat_s=1", "outbox.linger_ms=50", "audit.share=0.05")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("cloud")) as gateway:
        folder = gateway.folder / "promising"
        gateway.publish_folder(build_twin(TASK, "1.0.0", folder, certificate=PROMISED))
        gateway.desire("1.0.0")
        yield gateway


def risk(agent: Agent) -> dict[str, Any]:
    """What status says of the task's live risk."""
    return next((task["risk"] or {} for task in agent.status()["tasks"]), {})


def test_a_cloud_that_disagrees_raises_the_alarm_and_answers_degrade_as_told(
    gateway: Gateway, tmp_path: Path
) -> None:
    sure_and_wrong = twin_sample(0, 1, confidence=0.95)
    sure_and_right = twin_sample(2, 2, confidence=0.95)
    with Agent(tmp_path / "a", gateway.invite("drifting"), *SETTINGS) as agent:
        until(lambda: agent.serves("1.0.0"), what="package served")
        with agent.client() as client:
            number = 0
            while risk(agent).get("mode") != "safe" and number < 4000:
                for _ in range(25):
                    number += 1
                    client.infer(sure_and_wrong, deadline_ms=5000, request_id=f"r-{number}")
            told = risk(agent)
            assert told["mode"] == "safe", told
            assert told["losses"] >= 3
            assert "answered here otherwise than by the cloud" in told["why"]

            # Its certificate has no curve, so everything is hard now.
            answer = client.infer(sure_and_right, deadline_ms=5000)
            assert (answer.label, answer.source, answer.certified_risk) == ("right", "cloud", None)
            words = agent.tell("status").stdout
            assert "safe (c-" in words
            assert "alarm: " in words

            turns = "SELECT kind, certificate FROM alarm WHERE device = 'drifting'"
            until(lambda: gateway.rows(turns), what="the gateway knows of the alarm")
            assert gateway.rows(turns) == [("broken", PROMISED.id)]

            assert client.feedback("r-1", "middle")
            assert not client.feedback("r-1", "left")
            assert client.feedback("never-heard-of", "left")
            until(
                lambda: len(gateway.rows("SELECT * FROM feedback WHERE device = 'drifting'")) == 2,
                what="the gateway has the feedback",
            )
            assert gateway.rows(
                "SELECT label FROM feedback WHERE request_id = 'r-1' AND device = 'drifting'"
            ) == [("middle",)]

        agent.process.kill()
        agent.process.wait()
    with agent.again() as again:
        until(lambda: again.serves("1.0.0"), what="package served again")
        assert risk(again)["mode"] == "safe", "an alarm outlives kill -9"
        with again.client() as client:
            first = client.infer(sure_and_right, deadline_ms=5000)
            assert first.hard, "a worker is started with what is in force"
        gateway.stop()
        with again.client() as client:
            until(
                lambda: client.infer(sure_and_right, deadline_ms=500).source == "edge",
                what="the device answers alone",
            )
            alone = client.infer(sure_and_right, deadline_ms=500)
            assert (alone.label, alone.source, alone.degraded) == ("right", "edge", True)
            assert alone.certified_risk is None
            assert alone.uncertified is not None
            assert "otherwise than by the cloud" in alone.uncertified
