"""Devices with a budget on bad links: they spend it where it pays, and never more."""

import msgspec
import pytest

from sim import budget, report, scenario, world
from sim.scenario import Scenario


def thrifty(bytes_per_hour: int) -> Scenario:
    """The weather of `outage` for few devices and hours, asked often."""
    outage = scenario.load("outage")
    traffic = msgspec.structs.replace(outage.traffic, every_s=5.0)
    return msgspec.structs.replace(
        outage,
        devices=3,
        hours=3.0,
        check_every_s=900.0,
        traffic=traffic,
        bytes_per_hour=bytes_per_hour,
    )


def test_a_fleet_with_a_budget_keeps_every_promise_and_never_overspends() -> None:
    result = world.run(thrifty(100_000), seed=3)
    assert result.broken is None, f"{result.broken}; replay: {report.replay_command(result)}"
    assert (result.late, result.lost) == (0, 0)
    assert result.from_cloud + result.revised > 30, "it was used"


def test_a_budget_that_forgets_the_heads_of_a_question_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "ENVELOPE", 0)
    broken = world.run(thrifty(2_000), seed=3).broken
    assert broken is not None
    assert "bytes of questions in hour" in broken
