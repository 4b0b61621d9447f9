"""The price of a unit of the budget, found anew: by hand, and what must hold of any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.cloud.price import (
    DEAREST,
    EVERY,
    WINDOW,
    Considered,
    HourBegan,
    Market,
    Weighed,
    solve,
    step,
    to_come,
)

HOUR = 3600.0


def inputs(*worths: float, cost: int = 100) -> tuple[Weighed, ...]:
    return tuple(Weighed(worth, cost) for worth in worths)


def test_the_price_lets_through_what_can_be_paid_and_no_more() -> None:
    four = inputs(0.4, 0.3, 0.2, 0.1)
    assert solve(four, 100.0) == 0.0, "all of it"
    assert solve(four, 75.0) == 0.1, "three of four: what is worth more than 0.1"
    assert solve(four, 50.0) == 0.2
    assert solve(four, 49.0) == 0.3
    assert solve(four, 10.0) == 0.4


def test_what_is_worth_nothing_never_makes_a_price() -> None:
    assert solve(inputs(-0.1, -0.2), 0.0) == 0.0


def test_half_the_budget_of_what_comes_takes_the_better_half() -> None:
    worths = [place / 100 for place in range(100)]
    state = Market(began=0.0)
    ends = HOUR
    # 100 inputs of 100 bytes in 360 s: 900 more at this pace, 1884 in case it becomes busier.
    state = step(state, Considered(inputs(*worths), 94_200, ends), 360.0).state
    assert state.price == pytest.approx(0.5, abs=0.011)


def test_a_spent_budget_has_the_dearest_price_and_a_new_hour_a_lower_one() -> None:
    state = step(Market(), Considered(inputs(*[0.1] * 30), 0, HOUR), 60.0).state
    assert state.price == DEAREST
    state = step(state, HourBegan(10**9, 2 * HOUR), HOUR).state
    assert state.price == 0.0


def test_the_pace_of_the_hour_before_counts_at_first() -> None:
    busy = inputs(*[place / 1000 for place in range(1000)])
    state = step(Market(), Considered(busy, 10**9, HOUR), HOUR - 1).state
    state = step(state, HourBegan(125_000, 2 * HOUR), HOUR).state
    # 2500 are prepared for of which 1250 can be paid: of the window's 800 those above the middle.
    assert state.price == pytest.approx(0.6, abs=0.01)


def test_what_may_still_come_is_prepared_for_less_and_less() -> None:
    state = replace(Market(), seen=1000, began=0.0)
    assert to_come(state, HOUR, 1000.0) == pytest.approx(2600 * (1 + 1.5 * (26 / 36) ** 3))
    assert to_come(state, HOUR, 3500.0) == pytest.approx(100 / 3.5, rel=0.001)
    assert to_come(state, HOUR, HOUR + 5) == 1.0


def test_it_is_solved_again_after_every_few_inputs_only() -> None:
    state = step(Market(), Considered(inputs(*[0.1] * 40), 100, HOUR), 60.0).state
    first = state.price
    state = step(state, Considered(inputs(*[0.9] * (EVERY - 1)), 100, HOUR), 61.0).state
    assert state.price == first
    state = step(state, Considered(inputs(0.9), 100, HOUR), 62.0).state
    assert state.price > first


def test_no_more_than_the_window_is_remembered() -> None:
    state = step(Market(), Considered(inputs(*[0.1] * 2000), 100, HOUR), 60.0).state
    assert len(state.recent) == WINDOW
    assert state.seen == 2000


WEIGHED = st.lists(
    st.builds(Weighed, st.floats(-1, 1), st.integers(0, 100_000)), min_size=1, max_size=100
)


@given(WEIGHED, st.floats(0, 1e5), st.floats(0, 1e5))
def test_the_more_is_left_the_lower_the_price(
    recent: list[Weighed], each: float, more: float
) -> None:
    assert solve(recent, each + more) <= solve(recent, each)


@given(WEIGHED, st.floats(0, 1e5))
def test_what_pays_the_price_can_be_paid(recent: list[Weighed], each: float) -> None:
    price = solve(recent, each)
    assert price >= 0
    taken = sum(cost for worth, cost in recent if worth > price)
    assert taken <= each * len(recent) * (1 + 1e-9)


@given(WEIGHED, st.integers(0, 10**8), st.integers(0, 10**8))
def test_the_same_holds_of_a_whole_market(recent: list[Weighed], left: int, more: int) -> None:
    def priced(left: int) -> float:
        return step(Market(), Considered(tuple(recent), left, HOUR), 100.0).state.price

    assert priced(left + more) <= priced(left)
