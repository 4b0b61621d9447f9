"""A real device whose wall clock begins in 1970 and jumps ten years, and back."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.local_device import easy, hard
from tests.programs import Agent, Gateway, until

pytestmark = pytest.mark.e2e

FAST = ("cloud.pace.beat_s=1", "outbox.linger_ms=50", "limits.sample_s=0.2")
TEN_YEARS_S = 10 * 365 * 86400
SHIM = """
import os, time
_real = time.time

def _set():
    try:
        with open(os.environ["TEST_CLOCK"]) as file:
            return _real() + float(file.read() or 0)
    except (OSError, ValueError):
        return _real()

time.time = _set
"""


def test_a_clock_that_begins_in_1970_and_jumps_ten_years_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims, offset = tmp_path / "shims", tmp_path / "offset"
    shims.mkdir()
    (shims / "sitecustomize.py").write_text(SHIM)
    with Gateway(tmp_path / "cloud") as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        invitation = gateway.invite("bench-1")
        # Every Python process of the device reads its time from this file's shift; nobody else.
        monkeypatch.setenv("PYTHONPATH", str(shims))
        monkeypatch.setenv("TEST_CLOCK", str(offset))
        set_clock(offset, 100.0 - time.time())
        with Agent(tmp_path / "a", invitation, *FAST) as agent:
            until(lambda: agent.serves("1.0.0"), what="a package fetched and served in 1970")
            assert agent.status()["now"] < 86400
            doctor = agent.tell("doctor")
            assert doctor.returncode == 1
            assert "it was never set" in doctor.stdout
            works(agent)
            gateway.process.send_signal(signal.SIGSTOP)
            try:
                with agent.client() as client:
                    assert not client.infer(hard(0, 2), deadline_ms=300).final
                until(lambda: agent.status()["escalations_waiting"] == 1, what="owed")
            finally:
                gateway.process.send_signal(signal.SIGCONT)
            until(lambda: agent.status()["revisions_waiting"] == 1, what="revised in 1970")
            for shift in (0.0, TEN_YEARS_S, -TEN_YEARS_S, 0.0):
                set_clock(offset, shift)
                works(agent)
                assert agent.status()["revisions_waiting"] == 1
            with agent.client() as client:
                (revision,) = client.revisions(wait_s=0.5)
                assert revision.label == "right"
            until(lambda: agent.status()["pending"] == 0, what="delivered")
            status = agent.status()
            assert (status["lost_unreported"], status["tasks"][0]["restarts"]) == (0, 0)
            assert status["connected"]
            assert agent.stop() == 0


def set_clock(offset: Path, seconds: float) -> None:
    new = offset.with_suffix(".new")
    new.write_text(str(seconds))
    os.replace(new, offset)


def works(agent: Agent) -> None:
    """Easy here, hard there, as on any other day."""
    with agent.client() as client:
        assert client.infer(easy(1), deadline_ms=5000).source == "edge"
        assert client.infer(hard(0, 2), deadline_ms=20_000).source == "cloud"
