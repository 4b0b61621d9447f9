"""Who is audited, when the alarm comes, where the live risk lies, whether scores have moved."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.risk.audit import Audits
from edge_agent.risk.drift import compare
from edge_agent.risk.estimate import LiveRisk
from edge_agent.risk.monitor import Monitor, begun_anew, count

KEY = bytes(range(32))


def fresh(theta: float = 0.02, *, horizon: int = 1000, delta: float = 0.05) -> Monitor:
    return Monitor(theta=theta, horizon=horizon, delta=delta)


def fed(monitor: Monitor, losses: list[bool]) -> Monitor:
    for loss in losses:
        monitor = count(monitor, loss=loss)
    return monitor


@given(st.text(max_size=80))
def test_the_same_id_is_audited_always_or_never(request_id: str) -> None:
    assert Audits(KEY, 0.5)(request_id) is Audits(KEY, 0.5)(request_id)


@given(st.text(max_size=80))
def test_no_share_audits_nothing_and_the_whole_share_everything(request_id: str) -> None:
    assert not Audits(KEY, 0.0)(request_id)
    assert Audits(KEY, 1.0)(request_id)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3])
def test_about_the_share_that_was_asked_for_is_audited(share: float) -> None:
    chosen = Audits(KEY, share)
    found = sum(chosen(f"request-{number}") for number in range(20_000))
    assert found == pytest.approx(20_000 * share, rel=0.15)


def test_another_secret_audits_others() -> None:
    one, other = Audits(KEY, 0.5), Audits(bytes(32), 0.5)
    both = [(one(f"{i}"), other(f"{i}")) for i in range(2000)]
    assert 0.4 < sum(a == b for a, b in both) / 2000 < 0.6


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Audits(KEY, 1.5)


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(0.001, 0.5),
    risks=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6),
)
def test_what_is_at_stake_is_no_more_than_the_audits_whatever_the_past(
    theta: float, risks: list[float]
) -> None:
    """E[M_t] <= t, over all outcomes of a few audits whose chances stay at or below theta."""
    mean = 0.0
    chances = [theta * risk for risk in risks]
    for outcome in range(1 << len(chances)):
        losses = [bool(outcome >> i & 1) for i in range(len(chances))]
        likely = 1.0
        for chance, loss in zip(chances, losses, strict=True):
            likely *= chance if loss else 1 - chance
        after = fed(fresh(theta), losses)
        mean += likely * _mixture(after)
    assert mean <= len(chances) * (1 + 1e-9)


def _mixture(monitor: Monitor) -> float:
    return math.fsum(math.exp(log) for log in monitor.logs) / len(monitor.logs)


def test_at_the_worst_null_alarms_are_rarer_than_delta() -> None:
    chance = random.Random(4)
    alarms = sum(
        fed(fresh(), [chance.random() < 0.02 for _ in range(1000)]).alarm_at is not None
        for _ in range(40)
    )
    assert alarms <= 5  # 2 of 40 are allowed, 1 expected


def test_a_broken_promise_raises_the_alarm_and_it_stays() -> None:
    chance = random.Random(1)
    monitor = fed(fresh(), [chance.random() < 0.012 for _ in range(300)])
    assert monitor.alarm_at is None
    monitor = fed(monitor, [chance.random() < 0.2 for _ in range(200)])
    assert monitor.alarm_at is not None
    assert 300 < monitor.alarm_at < 400
    assert fed(monitor, [False] * 2000).alarm_at == monitor.alarm_at
    assert begun_anew(monitor).alarm_at is None


def test_missing_audits_make_no_alarm() -> None:
    assert fed(fresh(), [False] * 5000).alarm_at is None


def test_evidence_grows_to_one_at_the_alarm() -> None:
    quiet, loud = fed(fresh(), [False] * 100), fed(fresh(), [True] * 3)
    assert 0.0 <= quiet.evidence < loud.evidence <= 1.0
    assert fed(fresh(), [True] * 10).evidence == 1.0


@pytest.mark.parametrize(("theta", "delta"), [(0.0, 0.05), (1.0, 0.05), (0.02, 0.0), (0.02, 1.0)])
def test_a_promise_that_is_none_is_refused(theta: float, delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        fresh(theta, delta=delta)


@given(st.floats(0.001, 0.999), st.lists(st.booleans(), max_size=300))
@settings(deadline=None)
def test_whatever_comes_the_evidence_stays_a_number(theta: float, losses: list[bool]) -> None:
    monitor = fed(fresh(theta), losses)
    assert 0.0 <= monitor.evidence <= 1.0
    assert (monitor.audits, monitor.losses) == (len(losses), sum(losses))


def test_the_live_interval_holds_the_risk_and_narrows() -> None:
    for seed in range(6):
        chance = random.Random(seed)
        live = LiveRisk()
        low, high = live.interval
        for _ in range(600):
            live.count(loss=chance.random() < 0.015)
            low, high = live.interval
            assert low <= 0.015 <= high, seed
        assert high - low < 0.05


def test_before_an_audit_nothing_is_known_of_the_risk() -> None:
    assert LiveRisk().interval == (0.0, 1.0)


def test_a_risk_that_has_jumped_moves_the_interval_in_the_end() -> None:
    live = LiveRisk(window=500)
    for _ in range(500):
        live.count(loss=False)
    for number in range(200):
        live.count(loss=number % 2 == 0)
    low, high = live.interval
    assert low < 0.5 < high or low > 0.3


def test_scores_that_moved_are_an_advice_and_the_same_ones_are_none() -> None:
    chance = random.Random(2)
    was = [chance.betavariate(8, 2) for _ in range(500)]
    same = compare(was, [chance.betavariate(8, 2) for _ in range(500)])
    moved = compare(was, [chance.betavariate(4, 2) for _ in range(500)])
    assert same.advice is None
    assert moved.advice is not None
    assert moved.advice.startswith("scores have shifted (KS")
    assert moved.ks > same.ks
    assert moved.psi > 0.2 > same.psi


def test_the_same_scores_are_no_distance_apart() -> None:
    found = compare([0.5, 0.5, 0.9], [0.5, 0.5, 0.9])
    assert (found.ks, found.ks_p) == (0.0, 1.0)
    assert found.psi == pytest.approx(0.0)


def test_no_scores_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="one score at least"):
        compare([], [0.5])
