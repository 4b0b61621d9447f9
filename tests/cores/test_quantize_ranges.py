"""Ranges of activations from what was seen, by each method."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.quantize.ranges import (
    BINS,
    Counts,
    Histogram,
    Range,
    Values,
    by_entropy,
    by_percentile,
    count,
    count_magnitudes,
    entropy_threshold,
    seen,
    with_zero,
)


def histogram(values: Values) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, count(values, low, high))


def magnitudes(values: Values) -> Histogram:
    high = float(np.abs(values).max())
    return Histogram(0.0, high, count_magnitudes(values, high))


def extremes(values: Values) -> Range:
    return Range(float(values.min()), float(values.max()))


def test_extremes_grow_batch_by_batch() -> None:
    first = seen(None, np.array([[1.0, 2.0]]))
    assert first == Range(1, 2)
    assert seen(first, np.array([-3.0])) == Range(-3, 2)
    assert seen(first, np.array([])) == first


def test_every_range_holds_zero() -> None:
    assert with_zero(Range(1, 2)) == Range(0, 2)
    assert with_zero(Range(-2, -1)) == Range(-2, 0)
    assert with_zero(Range(-1, 1)) == Range(-1, 1)


def test_counts_lose_no_value_and_put_the_last_edge_in_the_last_bin() -> None:
    values = np.linspace(-1, 1, 10_001)
    counts = count(values, -1, 1)
    assert counts.sum() == len(values)
    assert len(counts) == BINS
    assert counts[-1] > 0
    assert count(np.ones(3), 1, 1).sum() == 0


def test_a_percentile_leaves_the_same_share_out_at_either_end() -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    low, high = by_percentile(histogram(values), 99.0)
    wanted = np.quantile(values, [0.005, 0.995])
    width = (values.max() - values.min()) / BINS
    assert (low, high) == pytest.approx(tuple(wanted), abs=2 * width)


def test_a_percentile_of_all_covers_all() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    assert by_percentile(histogram(values), 100.0) == pytest.approx(extremes(values))


def test_one_outlier_in_a_hundred_thousand_does_not_stretch_a_percentile() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[0] = 500
    assert by_percentile(histogram(values), 99.9).high < 6


def test_entropy_cuts_a_long_tail_and_leaves_even_values_alone() -> None:
    chance = np.random.default_rng(0)
    tail = np.concatenate([np.abs(chance.normal(size=100_000)), [60.0]])
    assert by_entropy(magnitudes(tail), extremes(tail)).high < 12
    even = chance.uniform(0, 1, size=100_000)
    assert by_entropy(magnitudes(even), extremes(even)).high > 0.95


def test_zeros_of_a_relu_do_not_pull_the_cut_down() -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=50_000), 0)
    many = np.concatenate([values, np.zeros(500_000)])
    assert by_entropy(magnitudes(many), extremes(many)) == by_entropy(
        magnitudes(values), extremes(values)
    )


def test_entropy_keeps_each_side_of_zero_to_what_was_seen() -> None:
    values = np.random.default_rng(0).uniform(-1, 0.25, size=50_000)
    low, high = by_entropy(magnitudes(values), extremes(values))
    assert low < -0.9
    assert high == pytest.approx(0.25, abs=0.01)


def test_a_histogram_without_values_changes_nothing() -> None:
    empty = Histogram(0.0, 0.0, np.zeros(BINS, np.int64))
    assert by_entropy(empty, Range(0.0, 0.0)) == Range(0.0, 0.0)
    assert by_percentile(empty, 99.0) == Range(0.0, 0.0)


def slow_divergence(counts: Counts, end: int, levels: int) -> float:
    """The definition, bin by bin."""
    reference = [float(each) for each in counts[:end]]
    reference[-1] += float(counts[end:].sum())
    spread = [0.0] * end
    for level in range(levels):
        inside = [at for at in range(end) if at * levels // end == level and reference[at]]
        for at in inside:
            spread[at] = sum(float(counts[each]) for each in inside) / len(inside)
    total, other = sum(reference), sum(spread)
    found = 0.0
    for p, q in zip(reference, spread, strict=True):
        if p > 0:
            smooth = (q / other + 1e-4 / end) / 1.0001
            found += p / total * np.log(p / total / smooth)
    return found


def test_the_threshold_is_the_one_the_definition_picks() -> None:
    counts = np.random.default_rng(1).poisson(400 * np.exp(-np.arange(96) / 12))
    ends = list(range(16, 97, 8))
    wanted = ends[int(np.argmin([slow_divergence(counts, end, 16) for end in ends]))]
    assert entropy_threshold(counts, 16) == wanted


@given(arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6)))
def test_no_method_goes_beyond_what_was_seen(values: Values) -> None:
    low, high = with_zero(extremes(values))
    slack = 1e-9 * max(1.0, high - low)
    found = [by_percentile(histogram(values), 99.0)]
    found.append(by_entropy(magnitudes(values), extremes(values)))
    for each in found:
        assert low - slack <= each.low <= 0 <= each.high <= high + slack
