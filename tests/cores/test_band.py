"""The curve that holds at every threshold at once, and the gain curve."""

import math

import msgspec
import numpy as np
import pytest

from models.calibrate.band import curve, level, lower_band, upper_band
from models.calibrate.curve import Curve, Gain
from models.calibrate.gain import fit_gain, pav_decreasing
from models.calibrate.rules import counts_at, grid_from, upper_limit
from models.errors import ConstantScore
from tests.bench.populations import made_up_population

DELTA = 0.1
POPULATION = made_up_population(seed=3, n=8000)


@pytest.mark.parametrize("n", [40, 300])
def test_bounds_hold_at_all_thresholds_together_and_pointwise_ones_do_not(n: int) -> None:
    """Losing scores are uniform here, so the true share at or above t is .3 (1 - t)."""
    chance = np.random.default_rng(n)
    grid = np.linspace(1, 0, 201)
    truth = 0.3 * (1 - grid) + 1e-12
    runs, above, below, pointwise = 300, 0, 0, 0
    for _ in range(runs):
        scores = chance.random(n)
        seen = counts_at(scores, chance.random(n) < 0.3, grid)
        above += bool((truth > upper_band(seen, n, DELTA) + 2e-12).any())
        below += bool((truth < lower_band(seen, n, DELTA)).any())
        pointwise += bool((truth > upper_limit(seen, n, DELTA) + 2e-12).any())
    allowed = DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / runs)
    assert above / runs <= allowed
    assert below / runs <= allowed
    assert pointwise / runs > 2 * allowed


@pytest.mark.parametrize("promise", ["harm", "excess", "teacher", "selective"])
def test_the_true_risk_lies_below_the_curve_wherever_one_looks(promise: str) -> None:
    scores = POPULATION.drawn_from.scores
    losses = POPULATION.drawn_from.loss(promise)  # type: ignore[arg-type]
    grid = grid_from(POPULATION.tune.scores)
    # Also between the curve's own points, where a budget may put the threshold.
    asked = np.linspace(0, 1, 97).tolist()
    truth = [POPULATION.truth.risk(promise, at) for at in asked]  # type: ignore[arg-type]
    chance = np.random.default_rng(6)
    runs, broken = 100, 0
    for _ in range(runs):
        rows = chance.integers(0, len(scores), 400)
        found = curve(
            scores[rows],
            losses[rows],
            promise=promise,  # type: ignore[arg-type]
            delta=DELTA,
            grid=grid,
        )
        broken += any(
            risk > found.risk_at(at) + 1e-12 for at, risk in zip(asked, truth, strict=True)
        )
    assert broken / runs <= DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / runs)


def test_the_level_is_the_same_every_time_and_between_bonferroni_and_one() -> None:
    found = level(300, DELTA, "upper")
    assert level(300, DELTA, "upper") == found
    assert DELTA / 300 < found.level < DELTA
    assert found.ranks[:3] == (1, 2, 3)
    assert found.ranks[-1] == 100


def test_a_delta_too_small_to_simulate_is_shared_among_the_ranks() -> None:
    found = level(300, 1e-6, "upper")
    assert found.level == pytest.approx(1e-6 / len(found.ranks))


def test_a_curve_has_at_most_128_points_and_covers_what_it_leaves_out() -> None:
    chance = np.random.default_rng(1)
    scores = chance.random(2000)
    losses = (chance.random(2000) < 0.2).astype(np.int8)
    grid = np.linspace(1, 0, 400)
    found = curve(scores, losses, promise="harm", delta=DELTA, grid=grid)
    assert len(found.thresholds) <= 128
    bounds = upper_band(counts_at(scores, losses, grid), 2000, DELTA)
    for threshold, bound in zip(grid.tolist(), bounds.tolist(), strict=True):
        assert found.risk_at(threshold) >= bound - 1e-12


@pytest.mark.parametrize("promise", ["excess", "selective"])
def test_between_two_points_nothing_is_credited_that_is_not_local_there(promise: str) -> None:
    """At .6 the 400 samples at .5 are escalated, though .6 lies in the step that begins at .5."""
    scores = np.repeat([0.9, 0.7, 0.5], [1400, 200, 400])
    gained = -1 if promise == "excess" else 0
    losses = np.repeat([0, 1, gained], [1400, 200, 400]).astype(np.int8)
    found = curve(
        scores,
        losses,
        promise=promise,  # type: ignore[arg-type]
        delta=DELTA,
        grid=np.array([0.9, 0.5]),
    )
    assert found.risk_at(0.6) >= (0.1 if promise == "excess" else 200 / 1600)


# Looked up without numpy.

STEPS = Curve((0.2, 0.5, 0.9), (0.3, 0.1, 0.02))


@pytest.mark.parametrize(
    ("threshold", "risk"),
    [(0.1, 1.0), (0.2, 0.3), (0.49, 0.3), (0.5, 0.1), (0.9, 0.02), (1.0, 0.02), (None, 0.0)],
)
def test_a_curve_is_a_step_function_that_knows_its_ends(
    threshold: float | None, risk: float
) -> None:
    assert STEPS.risk_at(threshold) == risk


def test_a_curve_finds_the_lowest_threshold_for_a_risk() -> None:
    assert STEPS.threshold_for(0.1) == 0.5
    assert STEPS.threshold_for(0.05) == 0.9
    assert STEPS.threshold_for(0.01) is None


@pytest.mark.parametrize(
    ("thresholds", "bounds"),
    [
        ((), ()),
        ((0.5,), (0.1, 0.2)),
        ((0.5, 0.5), (0.1, 0.1)),
        ((0.5, 0.4), (0.1, 0.1)),
        ((-0.1,), (0.1,)),
        ((0.5,), (1.1,)),
        ((math.nan,), (0.1,)),
        ((0.5,), (math.nan,)),
    ],
)
def test_a_curve_that_is_none_is_refused_when_it_is_read(
    thresholds: tuple[float, ...], bounds: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="curve"):
        Curve(thresholds, bounds)


def test_a_bad_curve_in_json_is_a_validation_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="ascend"):
        msgspec.json.decode(b'{"thresholds": [0.5, 0.1], "bounds": [0.1, 0.2]}', type=Curve)


# Gain.


def test_pooling_gives_the_fit_worked_out_by_hand() -> None:
    # 3, 1, 2, 0 with weights 1, 1, 3, 1: the middle two pool to (1 + 6) / 4.
    means, weights, starts = pav_decreasing(
        np.array([3.0, 1.0, 2.0, 0.0]), np.array([1.0, 1.0, 3.0, 1.0])
    )
    assert means.tolist() == [3.0, 1.75, 0.0]
    assert weights.tolist() == [1.0, 4.0, 1.0]
    assert starts.tolist() == [0, 1, 3]


def test_pooling_is_the_best_fit_that_never_rises() -> None:
    from scipy.optimize import isotonic_regression

    chance = np.random.default_rng(2)
    values, weights = chance.normal(size=60), chance.random(60) + 0.1
    means, _, starts = pav_decreasing(values, weights)
    ours = np.repeat(means, np.diff(np.append(starts, 60)))
    theirs = isotonic_regression(values, weights=weights, increasing=False).x
    assert ours == pytest.approx(theirs)


def test_the_gain_falls_with_the_score_and_keeps_the_mean() -> None:
    tune = POPULATION.drawn_from
    found = fit_gain(tune.scores, tune.excess)
    assert found.gains[0] > 0.3 > 0.02 > found.gains[-1]
    mean = sum(
        gain * weight for gain, weight in zip(found.gains, found.weights, strict=True)
    ) / sum(found.weights)
    assert mean == pytest.approx(tune.excess.mean())
    assert sum(found.weights) == tune.n


def test_worthier_samples_weigh_more() -> None:
    scores = np.full(4, 0.5)
    losses = np.array([1, 0, 0, 0], dtype=np.int8)
    assert fit_gain(scores, losses).gains == (0.25,)
    assert fit_gain(scores, losses, weights=np.array([3.0, 1, 1, 1])).gains == (0.5,)
    with pytest.raises(ValueError, match="positive"):
        fit_gain(scores, losses, weights=np.array([1.0, 1, 1, 0]))


def test_the_gain_is_looked_up_by_block_and_without_a_score_at_its_highest() -> None:
    found = Gain((0.1, 0.5), (0.4, 0.1), (10.0, 20.0))
    assert [found.at(score) for score in (None, 0.0, 0.1, 0.49, 0.5, 1.0)] == [
        0.4,
        0.4,
        0.4,
        0.4,
        0.1,
        0.1,
    ]


def test_without_any_score_there_is_no_gain_by_score() -> None:
    with pytest.raises(ConstantScore):
        fit_gain(np.full(3, np.nan), np.zeros(3, dtype=np.int8))
