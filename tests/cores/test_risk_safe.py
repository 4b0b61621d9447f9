"""What follows when the promise of a certificate is broken in the field, told as conversations."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.risk import safe
from edge_agent.risk.safe import (
    AgentStarted,
    AlarmRaised,
    AuditsGathered,
    BeginMonitor,
    Calibrate,
    Calibrated,
    CalibratedInVain,
    CloudChanged,
    Effect,
    Event,
    Guard,
    Mode,
    Promise,
    Report,
    SendTerms,
)
from models.calibrate.curve import Curve

CURVE = Curve((0.5, 0.7, 0.9), (0.04, 0.015, 0.004))
PROMISE = Promise("c-1", eps=0.02, theta=0.02, delta=0.1, threshold=0.7, risk=0.015, curve=CURVE)
NEW = Promise("c-2", eps=0.02, theta=0.02, delta=0.06, threshold=0.8, risk=0.018)
BROKEN = AlarmRaised(40, "9 of 40", at=1000.0)


def told(guard: Guard, *events: Event) -> tuple[Guard, tuple[Effect, ...]]:
    """The guard after these, and what the last one led to."""
    effects: tuple[Effect, ...] = ()
    for event in events:
        step = safe.step(guard, event, 0.0)
        guard, effects = step.state, step.effects
    return guard, effects


def test_a_certificate_that_holds_is_what_the_workers_answer_by() -> None:
    assert safe.in_force(Guard(PROMISE)) == (0.7, 0.015)


def test_an_alarm_tightens_the_threshold_to_a_quarter_of_the_promise_and_promises_nothing() -> None:
    guard, effects = told(Guard(PROMISE), BROKEN)
    assert guard.mode is Mode.SAFE
    assert effects == (SendTerms(), Report("broken", "9 of 40"))
    assert safe.in_force(guard) == (0.9, None)
    assert (guard.since, guard.alarm_at) == (40, 1000.0)


@pytest.mark.parametrize("curve", [None, Curve((0.5,), (0.019,))])
def test_where_the_curve_goes_no_lower_everything_is_hard(curve: Curve | None) -> None:
    guard, _ = told(Guard(Promise("c-1", 0.02, 0.02, 0.1, 0.7, 0.015, curve)), BROKEN)
    assert safe.in_force(guard) == (None, None)


def test_safe_mode_never_answers_more_than_before() -> None:
    loose = Promise("c-1", 0.02, 0.02, 0.1, threshold=0.95, risk=0.01, curve=CURVE)
    guard, _ = told(Guard(loose), BROKEN)
    assert safe.in_force(guard) == (0.95, None)


def test_a_second_alarm_changes_nothing() -> None:
    once, _ = told(Guard(PROMISE), BROKEN)
    assert told(once, AlarmRaised(90, "more", at=2000.0)) == (once, ())


def test_a_calibration_begins_with_as_many_audits_as_could_certify_anything() -> None:
    guard, _ = told(Guard(PROMISE), BROKEN)
    delta = 6 * 0.1 / math.pi**2
    least = math.ceil(math.log(delta) / math.log(0.98))
    assert guard.enough == least == 139
    assert told(guard, AuditsGathered(least - 1))[1] == ()
    trying, effects = told(guard, AuditsGathered(least))
    assert effects == (Calibrate(40, delta),)
    assert told(trying, AuditsGathered(least + 1)) == (trying, ())


def test_a_new_certificate_ends_safe_mode_and_the_monitor_begins_anew() -> None:
    guard, effects = told(Guard(PROMISE), BROKEN, AuditsGathered(200), Calibrated(NEW, 240))
    assert guard.mode is Mode.CERTIFIED
    assert guard.promise is NEW
    assert guard.since == 240
    assert effects == (
        BeginMonitor(0.02),
        SendTerms(),
        Report("recalibrated", "c-2 takes the place of c-1"),
    )
    assert safe.in_force(guard) == (0.8, 0.018)


def test_a_calibration_in_vain_spends_its_delta_and_waits_for_half_as_many_more() -> None:
    guard, _ = told(
        Guard(PROMISE), BROKEN, AuditsGathered(200), CalibratedInVain(200, "too many losses")
    )
    assert guard.mode is Mode.SAFE
    assert guard.enough == 300
    _, effects = told(guard, AuditsGathered(300))
    assert effects == (Calibrate(40, 6 * 0.1 / (math.pi**2 * 4)),)


def test_all_calibrations_together_spend_delta() -> None:
    spent, guard = 0.0, Guard(PROMISE)
    guard, _ = told(guard, BROKEN)
    for _ in range(200):
        guard, effects = told(guard, AuditsGathered(10**9))
        (calibrate,) = effects
        assert isinstance(calibrate, Calibrate)
        spent += calibrate.delta
        guard, _ = told(guard, CalibratedInVain(1, "no"))
    assert 0.09 < spent < 0.1


def test_a_calibration_that_died_with_the_agent_is_begun_again_with_a_delta_of_its_own() -> None:
    guard, _ = told(Guard(PROMISE), BROKEN, AuditsGathered(200), AgentStarted())
    assert guard.mode is Mode.SAFE
    _, effects = told(guard, AuditsGathered(200))
    assert effects == (Calibrate(40, 6 * 0.1 / (math.pi**2 * 4)),)


def test_another_model_in_the_cloud_is_a_change_point_and_no_alarm() -> None:
    guard, effects = told(Guard(PROMISE), CloudChanged("1.0.0", 3))
    assert effects == ()  # the first one anybody heard of
    guard, effects = told(guard, CloudChanged("2.0.0", 7))
    assert guard.mode is Mode.CERTIFIED
    assert (guard.cloud, guard.since) == ("2.0.0", 7)
    assert effects[0] == BeginMonitor(0.02)
    assert isinstance(effects[1], Report)
    assert effects[1].kind == "cloud_changed"


def test_where_no_certificate_holds_nothing_is_watched() -> None:
    guard = Guard(PROMISE, mode=Mode.UNCERTIFIED)
    for event in (BROKEN, AuditsGathered(500), CloudChanged("2", 1), Calibrated(NEW, 1)):
        assert told(guard, event) == (guard, ())


EVENTS = st.one_of(
    st.just(AgentStarted()),
    st.builds(AlarmRaised, st.integers(0, 500), st.just("why"), st.just(1.0)),
    st.builds(CloudChanged, st.sampled_from(["1", "2"]), st.integers(0, 500)),
    st.builds(AuditsGathered, st.integers(0, 1000)),
    st.just(Calibrated(NEW, 300)),
    st.builds(CalibratedInVain, st.integers(0, 1000), st.just("why")),
)


@given(st.lists(EVENTS, max_size=40))
def test_whatever_happens_risk_is_promised_only_by_a_certificate_nobody_has_broken(
    events: list[Event],
) -> None:
    guard = Guard(PROMISE)
    for event in events:
        before = guard
        step = safe.step(guard, event, 0.0)
        guard = step.state
        _, risk = safe.in_force(guard)
        assert (risk is None) is (guard.mode is Mode.SAFE)
        if guard.mode is not before.mode:
            assert SendTerms() in step.effects
        if before.mode is Mode.SAFE and guard.mode is Mode.CERTIFIED:
            assert isinstance(event, Calibrated)
            assert before.calibrating
        assert guard.attempts >= before.attempts
