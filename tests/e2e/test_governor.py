"""Budgets of a real device: what goes over them waits, answers do not, and status says so."""

from pathlib import Path

import pytest

from tests.local_device import easy, hard
from tests.programs import Agent, Gateway, until

pytestmark = pytest.mark.e2e

FAST = ("cloud.pace.beat_s=1", "outbox.linger_ms=50", "limits.sample_s=0.1", "limits.health_s=0.5")


def test_over_its_uplink_s_budget_a_device_answers_and_its_records_wait(tmp_path: Path) -> None:
    with Gateway(tmp_path / "cloud") as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        invitation = gateway.invite("bench-1")
        with Agent(tmp_path / "a", invitation, *FAST, "limits.uplink_bytes_per_day=10") as agent:
            until(lambda: agent.serves("1.0.0"), what="served")
            until(lambda: "uplink" in agent.status()["usage"]["over"], what="overdrawn")
            with agent.client() as client:
                assert client.infer(easy(1), deadline_ms=3000).source == "edge"
                there = client.infer(hard(0, 2), deadline_ms=10_000)
                assert there.source == "cloud", "somebody waits for it"
            until(lambda: agent.status()["pending"] >= 2, what="records that wait")
            told = agent.tell("status")
            assert "over its budget of uplink" in told.stdout
        with Agent(tmp_path / "a", [], *FAST) as again:
            until(lambda: again.status().get("issued", 0) >= 3, what="health is a record")
            until(lambda: again.status().get("pending") == 0, what="delivered without a budget")
            until(
                lambda: gateway.rows("SELECT level, worker_bytes FROM device_health"),
                what="health at the gateway",
            )
            ((level, worker_bytes),) = gateway.rows("SELECT level, worker_bytes FROM device_health")
            assert level == "normal"
            usage = again.status()["usage"]
            assert usage["supervisor_bytes"] > 1 << 20
            assert usage["disk_free_bytes"] > 0
            assert usage["uplink_bytes"] > 10, "the day goes on after a restart"
            assert worker_bytes >= 0
