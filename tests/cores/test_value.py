"""What asking the cloud is worth: the formulas, by hand, and what must hold of any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cascade.value import Weather, choose, on_time, wait_s, weather
from models.calibrate.curve import Gain

GAIN = Gain((0.0, 0.4, 0.7, 0.9), (0.5, 0.3, 0.1, -0.02), (10.0, 10.0, 10.0, 10.0))


def test_the_chance_of_an_answer_in_time_counts_round_trips_and_half_of_one() -> None:
    now = weather(up=True, round_trips=(0.3, 0.1, 0.2))
    assert on_time(now, 0.2) == pytest.approx(2.5 / 4)
    assert on_time(now, 0.05) == pytest.approx(0.5 / 4)
    assert on_time(weather(up=True, round_trips=()), 0.2) == 0.5
    assert on_time(now, 0.0) == 0.0


def test_the_wait_is_the_mean_round_trip_cut_at_the_time_left() -> None:
    now = weather(up=True, round_trips=(0.3, 0.1, 0.2))
    assert wait_s(now, 0.25) == pytest.approx((0.1 + 0.2 + 0.25) / 3)
    assert wait_s(weather(up=True, round_trips=()), 0.2) == 0.0


def test_a_large_input_is_left_here_at_a_price_a_small_one_pays() -> None:
    now = weather(up=True, round_trips=(0.05,) * 63, left=10**9, price=1e-5)
    small = choose(score=0.5, size=1_000, within_s=0.2, gain=GAIN, now=now)
    large = choose(score=0.5, size=100_000, within_s=0.2, gain=GAIN, now=now)
    assert (small.action, large.action) == ("sync", "local")


def test_the_threshold_a_price_implies_is_the_first_score_that_does_not_pay() -> None:
    now = weather(up=False, round_trips=(), left=10**9, price=1e-6)
    # 100 kB cost 0.1, and a revision is worth half the gain: a gain of 0.2 breaks even.
    choice = choose(score=0.8, size=100_000, within_s=0.2, gain=GAIN, now=now)
    assert choice == ("local", 0.05, 100_000, 0.7)


def test_without_a_gain_curve_half_of_what_the_score_lacks_stands_for_the_gain() -> None:
    now = weather(up=False, round_trips=(), left=10**9, price=1e-6)
    choice = choose(score=0.8, size=100_000, within_s=0.2, gain=None, now=now)
    assert choice.action == "local"
    assert choice.value == pytest.approx(0.05)
    assert choice.threshold == pytest.approx(0.6)


def test_a_slow_link_makes_a_revision_the_better_choice() -> None:
    now = weather(up=True, round_trips=(1.0,) * 20, left=10**9)
    choice = choose(score=0.5, size=1, within_s=0.2, gain=GAIN, now=now)
    assert choice.action == "async"


def test_an_input_that_the_cloud_would_answer_worse_stays_here_when_there_is_a_price() -> None:
    now = weather(up=True, round_trips=(0.05,) * 20, left=10**9, price=0.0)
    choice = choose(score=0.95, size=1, within_s=0.2, gain=GAIN, now=now)
    assert (choice.action, choice.threshold) == ("local", 0.9)


WEATHERS = st.builds(
    weather,
    up=st.booleans(),
    round_trips=st.lists(st.floats(0.001, 4.0), max_size=64).map(tuple),
    left=st.integers(0, 1_000_000),
    price=st.floats(0, 1e-3),
    call_cost=st.integers(0, 1000),
    byte_cost=st.floats(0, 10),
)
SCORES = st.one_of(st.none(), st.floats(0, 1))


@given(WEATHERS, SCORES, st.integers(0, 200_000), st.floats(-1, 3), st.booleans())
def test_what_costs_more_than_is_left_is_never_asked_and_without_a_link_nobody_waits(
    now: Weather, score: float | None, size: int, within_s: float, fitted: bool
) -> None:
    gain = GAIN if fitted else None
    choice = choose(score=score, size=size, within_s=within_s, gain=gain, now=now)
    assert now.left is not None
    if choice.action != "local":
        assert choice.cost <= now.left
        assert choice.value > now.price * choice.cost
    if choice.action == "sync":
        assert now.up
        assert within_s > 0
    # The implied threshold never lies above the score that was left here by it.
    if choice.threshold is not None and score is not None:
        assert choice.threshold <= score + 1e-9


@given(st.lists(st.floats(0.001, 4.0), max_size=64), SCORES, st.floats(-1, 3), st.booleans())
def test_without_a_budget_a_hard_input_never_stays_here_alone(
    trips: list[float], score: float | None, within_s: float, up: bool
) -> None:
    now = weather(up=up, round_trips=tuple(trips))
    choice = choose(score=score, size=10**9, within_s=within_s, gain=GAIN, now=now)
    assert choice.action != "local"
