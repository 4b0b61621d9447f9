"""Steps on series: what they declare, and that they compute what their formulas say."""

from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from models.errors import EmptyInput, WrongShape
from models.pipeline.compute.series import compile_step
from models.pipeline.kinds import Kind
from models.pipeline.ops.series import (
    TAKES_MANY,
    Difference,
    SlidingWindow,
    Standardise,
    Statistic,
    Statistics,
    Step,
    after,
)

Floats = npt.NDArray[np.float32]
DRAWN = np.random.default_rng(5).gamma(2.0, 3.0, (200, 3)).astype(np.float32)
UNKNOWN = Kind("float32", (None, 3))
EVERY = Statistics(get_args(Statistic))


def run(step: Step, sample: Floats, kind: Kind | None = None) -> Floats:
    """The step's result, which must be what the step declared."""
    kind = Kind("float32", sample.shape) if kind is None else kind
    declared = after(step, kind)
    found = compile_step(step, kind)(sample)
    sides = declared.shape if not declared.many else (None, *declared.shape)
    assert found.dtype == np.float32
    assert len(found.shape) == len(sides)
    assert all(side in (None, has) for side, has in zip(sides, found.shape, strict=True))
    return found


@pytest.mark.parametrize(
    ("step", "kind", "expected"),
    [
        (SlidingWindow(64, 32), UNKNOWN, Kind("float32", (64, 3), many=True)),
        (SlidingWindow(64, 32), Kind("float64", (64,)), Kind("float32", (64,), many=True)),
        (Statistics(("mean", "rms")), UNKNOWN, Kind("float32", (2, 3))),
        (Statistics(("mean",)), Kind("float32", (9,), many=True), Kind("float32", (1,), many=True)),
        (Difference(2), Kind("float32", (9, 3)), Kind("float32", (7, 3))),
        (Difference(), UNKNOWN, UNKNOWN),
        (Standardise(), UNKNOWN, UNKNOWN),
    ],
)
def test_a_step_declares_what_it_gives(step: Step, kind: Kind, expected: Kind) -> None:
    assert after(step, kind) == expected


@pytest.mark.parametrize(
    ("step", "kind", "says"),
    [
        (SlidingWindow(64, 32), Kind("float32", (63, 3)), "no window of 64"),
        (SlidingWindow(64, 32), Kind("float32", (64,), many=True), "windows already"),
        (Statistics(("mean", "mean")), UNKNOWN, "twice"),
        (Difference(9), Kind("float32", (9,)), "no difference"),
        (Standardise(), Kind("int16", (9,)), "cast first"),
        (Standardise(), Kind("float32", ()), "time axis"),
    ],
)
def test_a_step_that_cannot_follow_says_why(step: Step, kind: Kind, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        after(step, kind)


def test_windows_slide_and_a_rest_is_left_out() -> None:
    found = run(SlidingWindow(3, 2), np.arange(6, dtype=np.float32))
    assert found.tolist() == [[0, 1, 2], [2, 3, 4]]
    found = run(SlidingWindow(64, 32), DRAWN)
    assert found.shape == (5, 64, 3)
    assert np.array_equal(found[4], DRAWN[128:192])


def test_windows_share_values_and_so_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        run(SlidingWindow(3, 2), DRAWN)[0, 0, 0] = 1


def test_a_series_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(WrongShape, match="shorter than one window"):
        run(SlidingWindow(300, 2), DRAWN, UNKNOWN)


def test_every_statistic_is_what_its_formula_says() -> None:
    x = DRAWN.astype(np.float64)
    expected: dict[str, npt.NDArray[np.float64]] = {
        "mean": x.mean(0),
        "std": x.std(0),
        "min": x.min(0),
        "max": x.max(0),
        "median": np.median(x, 0),
        "mean_abs": np.abs(x).mean(0),
        "rms": np.sqrt((x * x).mean(0)),
        "energy": (x * x).sum(0),
        "peak_to_peak": np.ptp(x, 0),
        "crest": np.abs(x).max(0) / np.sqrt((x * x).mean(0)),
        "kurtosis": np.asarray(stats.kurtosis(x, axis=0, fisher=False)),
        "skewness": np.asarray(stats.skew(x, axis=0)),
        "zero_crossings": (np.diff(np.sign(x - x.mean(0)), axis=0) != 0).sum(0),
    }
    found = run(EVERY, DRAWN)
    assert set(expected) == set(EVERY.names)
    for name, row in zip(EVERY.names, found, strict=True):
        assert row == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_a_series_that_does_not_move_has_finite_statistics(value: float) -> None:
    found = dict(zip(EVERY.names, run(EVERY, np.full(50, value, np.float32)), strict=True))
    assert np.isfinite(list(found.values())).all()
    assert (found["kurtosis"], found["skewness"]) == (0, 0)
    assert found["crest"] == (0 if value == 0 else pytest.approx(1))


def test_a_far_away_mean_hides_no_movement() -> None:
    beat = np.tile(np.array([1e4, 1e4 + 1], np.float32), 50)
    found = dict(zip(EVERY.names, run(EVERY, beat), strict=True))
    assert found["std"] == pytest.approx(0.5)
    assert found["kurtosis"] == pytest.approx(1.0)
    assert found["zero_crossings"] == 99


def test_a_difference_is_over_its_lag() -> None:
    assert run(Difference(2), np.array([1, 2, 4, 8], np.float32)).tolist() == [3, 6]
    with pytest.raises(WrongShape, match="no difference"):
        run(Difference(2), DRAWN[:2], UNKNOWN)


def test_a_standardised_series_has_mean_zero_and_deviation_one_in_each_channel() -> None:
    found = run(Standardise(), DRAWN)
    assert found.mean(0) == pytest.approx(np.zeros(3), abs=1e-6)
    assert found.std(0) == pytest.approx(np.ones(3), rel=1e-5)


def test_a_still_series_is_standardised_to_zeros() -> None:
    assert run(Standardise(), np.full((8, 2), 7.0, np.float32)).tolist() == [[0, 0]] * 8


@pytest.mark.parametrize("step", [EVERY, Standardise()])
def test_no_value_has_no_statistic(step: Step) -> None:
    with pytest.raises(EmptyInput):
        run(step, DRAWN[:0], UNKNOWN)


@pytest.mark.parametrize("step", [EVERY, Difference(3), Standardise()])
def test_many_series_at_once_are_each_alone(step: Step) -> None:
    assert isinstance(step, TAKES_MANY)
    many = run(SlidingWindow(64, 32), DRAWN)
    found = run(step, many, Kind("float32", (64, 3), many=True))
    for one, alone in zip(found, many, strict=True):
        assert np.array_equal(one, run(step, alone))
