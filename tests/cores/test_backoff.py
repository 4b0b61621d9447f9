"""Full jitter."""

from hypothesis import given
from hypothesis import strategies as st

from sync.backoff import Backoff, delay_by_outage_s, delay_s

HALF_A_SECOND = Backoff(base_s=0.5, cap_s=30.0)


def test_the_ceiling_doubles_until_the_cap() -> None:
    almost_one = 0.999999
    ceilings = [round(delay_s(HALF_A_SECOND, n, almost_one), 2) for n in range(8)]
    assert ceilings == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_nothing_and_never_over_the_cap(attempt: int, chance: float) -> None:
    assert 0.0 < delay_s(HALF_A_SECOND, attempt, chance) <= 30.0


def test_chance_spreads_a_fleet_over_the_whole_window() -> None:
    delays = [delay_s(HALF_A_SECOND, 3, n / 100) for n in range(100)]
    assert delays == sorted(delays)
    assert delays[0] < 0.5
    assert delays[-1] > 3.9


def test_after_an_outage_the_wait_is_a_small_share_of_it() -> None:
    almost_one = 0.999999
    ceilings = [
        round(delay_by_outage_s(HALF_A_SECOND, down_s, almost_one), 2)
        for down_s in (0, 5, 10, 60, 3600)
    ]
    assert ceilings == [0.5, 0.5, 0.8, 4.8, 30.0]
    assert delay_by_outage_s(HALF_A_SECOND, 10, 0.0) > 0
