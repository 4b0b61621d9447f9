"""Ranges of record numbers: what is left when some are taken."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cloud_gateway.claims import MAX_INT
from cloud_gateway.telemetry.ranges import Range, is_range, subtract


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    lo = draw(st.integers(0, 30))
    return Range(lo, lo + draw(st.integers(0, 8)))


@given(ranges(), st.lists(ranges(), max_size=5))
def test_what_is_left_is_exactly_the_numbers_nobody_took(whole: Range, taken: list[Range]) -> None:
    left = subtract(whole, taken)
    gone = {number for one in taken for number in range(one.lo, one.hi + 1)}
    kept = [number for one in left for number in range(one.lo, one.hi + 1)]
    assert kept == [number for number in range(whole.lo, whole.hi + 1) if number not in gone]
    assert all(one.size > 0 for one in left)
    assert all(before.hi < after.lo for before, after in itertools.pairwise(left))


def test_a_range_as_wide_as_all_numbers_costs_no_more_than_a_small_one() -> None:
    whole = Range(0, MAX_INT)
    assert subtract(whole, [Range(5, 9)]) == [Range(0, 4), Range(10, MAX_INT)]


def test_only_numbers_the_database_holds_make_a_range() -> None:
    assert is_range(0, 0)
    assert is_range(0, MAX_INT)
    assert not is_range(-1, 3)
    assert not is_range(4, 3)
    assert not is_range(0, MAX_INT + 1)
