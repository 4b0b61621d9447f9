"""Records to counts."""

import itertools
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_gateway.claims import MAX_INT, count_claimed
from cloud_gateway.tables import LATENCY_BUCKETS
from cloud_gateway.telemetry.rollup import BOUNDS_US, Counts, Key, fault, quantile_us, roll_up
from sync.wire.v1 import Record
from tests.records import answered, revised


def counted(*records: Record) -> dict[Key, Counts]:
    return roll_up(records, step_s=60, received_at=3600.0)


def test_each_answer_counts_once_under_its_route_and_minute() -> None:
    provisional = answered(final=False, hard=True, total_us=300_000)
    cloud = answered(route="cloud", hard=True, total_us=90_000, at=185.0)
    found = counted(answered(), answered(), provisional, cloud, revised())
    assert {key: (one.n, one.hard) for key, one in found.items()} == {
        Key("apparel", "edge", 120): (2, 0),
        Key("apparel", "provisional", 120): (1, 1),
        Key("apparel", "cloud", 180): (1, 1),
        Key("apparel", "revised", 120): (1, 0),
    }
    edge = found[Key("apparel", "edge", 120)]
    assert (edge.latency_sum_us, edge.latency_max_us, sum(edge.latency)) == (800, 400, 2)
    assert not found[Key("apparel", "revised", 120)].latency


@pytest.mark.parametrize(
    ("at", "start"),
    [(-30.0, -60), (0.0, 0), (4102444800.0, 4102444800), (nan, 3600), (inf, 3600), (-1e300, 3600)],
)
def test_an_answer_counts_in_its_own_time_however_odd_unless_it_is_no_time(
    at: float, start: int
) -> None:
    (key,) = counted(answered(at=at))
    assert key.start == start


@given(st.lists(st.integers(0, 5_000_000), min_size=1, max_size=50), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_right_to_the_width_of_its_bucket(times: list[int], share: float) -> None:
    (found,) = counted(*(answered(total_us=one) for one in times)).values()
    value = quantile_us(found.latency, share)
    exact = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    assert value is not None
    bounds = [0, *BOUNDS_US, inf]
    low, high = next((a, b) for a, b in itertools.pairwise(bounds) if exact <= b)
    assert low <= value <= high


def test_no_answers_have_no_quantile() -> None:
    assert quantile_us([0] * LATENCY_BUCKETS, 0.5) is None


def test_there_is_a_column_for_every_bucket() -> None:
    assert len(BOUNDS_US) + 1 == LATENCY_BUCKETS


def test_a_duration_that_is_none_is_named() -> None:
    assert fault(answered()) is None
    assert fault(revised()) is None
    for odd in (-1, 1 << 63):
        assert "no duration" in str(fault(answered(total_us=odd)))


def test_counts_somebody_claims_fit_the_database() -> None:
    assert [count_claimed(one) for one in (-5, 7, 1 << 64)] == [0, 7, MAX_INT]
