"""A world that changes: the alarm comes, safe mode holds the promise, calibration ends it."""

import msgspec

from sim import report, scenario, world
from sim.scenario import RiskStory

DRIFT = scenario.load("drift")


def small(*, drift: float, hours: float) -> report.Result:
    """The shipped scenario for one device, and so much drift."""
    story = RiskStory(audit_share=0.3, drift_at_h=0.1, drift=drift)
    result = world.run(msgspec.structs.replace(DRIFT, devices=1, hours=hours, risk=story), seed=2)
    assert result.broken is None, f"{result.broken}; replay: {report.replay_command(result)}"
    assert (result.late, result.lost, result.pending) == (0, 0, 0)
    return result


def test_confident_errors_are_found_and_kept_in_check_and_a_new_certificate_ends_it() -> None:
    risk = small(drift=0.1, hours=0.6).risk
    assert risk is not None
    assert (risk.alarms, risk.recalibrated) == (1, 1)
    assert risk.differ_at_first == 0.0
    assert risk.differ_drifting > 0.05
    assert risk.differ_after < 0.02, "the promise, in safe mode and under the new certificate"


def test_where_nothing_changes_nothing_alarms() -> None:
    risk = small(drift=0.0, hours=0.3).risk
    assert risk is not None
    assert (risk.alarms, risk.recalibrated) == (0, 0)
    assert risk.differ_after == 0.0
