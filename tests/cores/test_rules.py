"""Calibration rules, against exact arithmetic and against populations whose truth is known."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from models.calibrate.betting import betting_bound, betting_p
from models.calibrate.decide import judge
from models.calibrate.outcomes import Losses
from models.calibrate.rules import (
    crc,
    exact_binomial,
    excess_betting,
    excess_cpdiff,
    excess_default,
    grid_from,
    lower_limit,
    plug_in,
    selective,
    selective_start,
    sgr,
    upper_limit,
)
from models.calibrate.scores import Scores
from models.errors import ConstantScore
from tests.bench.populations import Population, made_up_population

TENTHS = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
DELTA = 0.1


def binomial_cdf(k: int, n: int, p: Fraction) -> Fraction:
    """P(Binomial(n, p) <= k) in whole numbers."""
    return sum(
        (math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), start=Fraction(0)
    )


# Grids and ties.


def test_the_grid_stands_at_observed_scores_and_ends_with_everything() -> None:
    tune = np.array([0.5, 0.75, 0.5, np.nan, 0.25, 0.75])
    assert grid_from(tune).tolist() == [0.75, 0.5, 0.25, 0.0]


def test_a_grid_of_many_scores_keeps_observed_ones_only() -> None:
    tune = np.random.default_rng(0).random(5000)
    grid = grid_from(tune, points=50)
    assert len(grid) <= 51
    assert set(grid[:-1].tolist()) <= set(tune.tolist())
    assert (np.diff(grid) < 0).all()
    assert grid[0] == tune.max()


@pytest.mark.parametrize("tune", [np.full(50, 0.5), np.full(50, np.nan)])
def test_a_score_that_tells_nothing_apart_is_refused(tune: Scores) -> None:
    with pytest.raises(ConstantScore, match="no threshold can tell"):
        grid_from(tune)


def test_ties_at_a_threshold_are_all_local_in_the_rule_and_on_the_device() -> None:
    # 28 % of the samples tie at the top, as in a real INT8 net; one of them is harmed.
    scores = np.concatenate([np.full(280, 0.998), np.linspace(0.1, 0.9, 720)])
    harms = np.zeros(1000, dtype=np.int8)
    harms[7] = 1
    grid = grid_from(scores)
    found = exact_binomial(scores, harms, eps=0.02, delta=DELTA, grid=grid[:1])
    assert (found.threshold, found.k) == (0.998, 1)
    assert not judge(0.998, found.threshold).hard


def test_a_sample_without_a_score_counts_in_n_and_is_local_nowhere() -> None:
    scores = np.concatenate([np.full(100, np.nan), np.full(200, 0.95)])
    losses = (np.arange(300) < 100).astype(np.int8)
    for rule in (exact_binomial, excess_cpdiff, excess_betting):
        found = rule(scores, losses, eps=0.02, delta=DELTA, grid=TENTHS)
        assert (found.threshold, found.k) == (0.1, 0)
    assert crc(scores, losses, eps=0.02).threshold == 0.0
    assert plug_in(scores, losses, eps=0.02).threshold == 0.95


# Against exact arithmetic.


@pytest.mark.parametrize(("k", "n"), [(0, 50), (3, 120), (11, 300)])
def test_limits_are_clopper_and_pearson_s(k: int, n: int) -> None:
    high = float(upper_limit(k, n, DELTA))
    assert float(binomial_cdf(k, n, Fraction(high))) == pytest.approx(DELTA, rel=1e-6)
    low = float(lower_limit(k, n, DELTA))
    above = 1 - float(binomial_cdf(k - 1, n, Fraction(low))) if k else 0.0
    assert above == (pytest.approx(DELTA, rel=1e-6) if k else 0.0)


def test_limits_at_the_ends_are_certain() -> None:
    assert float(upper_limit(20, 20, DELTA)) == 1.0
    assert float(lower_limit(0, 20, DELTA)) == 0.0


def test_cpdiff_credits_what_the_cloud_alone_got_wrong() -> None:
    scores, losses = np.full(2000, 0.5), np.zeros(2000, dtype=np.int8)
    losses[:50] = 1
    assert excess_cpdiff(scores, losses, eps=0.02, delta=DELTA, grid=TENTHS).threshold == 0.6
    losses[50:100] = -1
    found = excess_cpdiff(scores, losses, eps=0.02, delta=DELTA, grid=TENTHS)
    assert (found.threshold, found.k, found.won) == (0.1, 50, 50)
    assert found.upper_bound == pytest.approx(
        float(upper_limit(50, 2000, 0.075)) - float(lower_limit(50, 2000, 0.025))
    )


def test_the_default_for_excess_changes_at_a_thousand_samples() -> None:
    for n, method in ((999, "cpdiff"), (1000, "betting")):
        scores = np.linspace(0.05, 1, n)
        found = excess_default(
            scores, np.zeros(n, dtype=np.int8), eps=0.02, delta=DELTA, grid=TENTHS
        )
        assert method in found.method


def test_crc_allows_the_losses_the_formula_allows() -> None:
    # (k + 1) / (n + 1) <= .02 at n = 199: three losses may be local, not four.
    scores = np.linspace(0, 1, 199)
    losses = np.zeros(199, dtype=np.int8)
    losses[[30, 60, 90, 120]] = 1
    found = crc(scores, losses, eps=0.02)
    assert found.k == 3
    assert scores[30] < (found.threshold or 0) < scores[60]
    assert crc(scores[:48], losses[:48], eps=0.02).threshold is None


def test_selective_tests_only_what_is_local() -> None:
    scores = np.concatenate([np.full(60, 0.95), np.full(940, 0.45)])
    wrong = (np.arange(1000) >= 60).astype(np.int8)
    found = selective(scores, wrong, eps=0.05, delta=DELTA, grid=TENTHS, start=0.9)
    assert (found.threshold, found.k) == (0.5, 0)
    assert found.upper_bound == pytest.approx(1 - DELTA ** (1 / 60))
    # From the top of a finer grid three samples prove nothing, and the walk stalls.
    finer = np.array([0.99, *TENTHS])
    top = np.concatenate([[0.99] * 3, scores[3:]])
    assert selective(top, wrong, eps=0.05, delta=DELTA, grid=finer, start=0.99).threshold is None
    start = selective_start(top, wrong, eps=0.05)
    assert start == pytest.approx((0.95 + 0.45) / 2)
    again = selective(top, wrong, eps=0.05, delta=DELTA, grid=finer, start=start or 1.0)
    assert again.threshold == 0.5


def test_too_few_tune_samples_begin_no_selective_walk() -> None:
    assert selective_start(np.linspace(0, 1, 19), np.zeros(19), eps=0.1) is None


# Betting.


def test_betting_is_bold_enough_and_no_bolder() -> None:
    nothing = np.zeros((1, 400))
    assert betting_p(nothing, 0.02, DELTA)[0] < 0.01
    assert betting_p(nothing, 0.001, DELTA)[0] > DELTA
    # One sample of 1 costs at most nine tenths of the capital.
    assert betting_p(np.array([[0.0] * 200 + [1.0]]), 0.02, DELTA)[0] < 1


def test_the_least_mean_betting_rejects_is_an_upper_limit() -> None:
    chance = np.random.default_rng(4)
    bounds = np.array(
        [betting_bound((chance.random(300) < 0.1).astype(float), DELTA) for _ in range(200)]
    )
    assert (bounds < 0.1).mean() <= DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / 200)
    assert 0.1 < np.median(bounds) < 0.16


def test_betting_rejects_a_true_mean_seldom() -> None:
    chance = np.random.default_rng(5)
    p = betting_p((chance.random((1500, 400)) < 0.05).astype(float), 0.05, DELTA)
    assert (p <= DELTA).mean() <= DELTA


# Against known truth: how often each rule breaks its promise.

POPULATION = made_up_population(seed=3, n=8000)
Rule = Callable[[Scores, Losses, float, Scores], float | None]


def broken(population: Population, rule: Rule, promise: str, n: int, runs: int) -> float:
    """The share of calibrations of n samples that end with a risk above 2 %."""
    eps, grid = 0.02, grid_from(population.tune.scores, points=80)
    scores = population.drawn_from.scores
    losses = population.drawn_from.loss(promise)  # type: ignore[arg-type]
    chance = np.random.default_rng(17)
    count = 0
    for _ in range(runs):
        drawn = chance.integers(0, len(scores), n)
        threshold = rule(scores[drawn], losses[drawn], eps, grid)
        count += population.truth.risk(promise, threshold) > eps  # type: ignore[arg-type]
    return count / runs


START = selective_start(POPULATION.tune.scores, POPULATION.tune.loss("selective"), eps=0.02) or 1.0

CERTIFIED: dict[str, tuple[str, Rule]] = {
    "harm": ("harm", lambda s, x, e, g: exact_binomial(s, x, eps=e, delta=DELTA, grid=g).threshold),
    "teacher": (
        "teacher",
        lambda s, x, e, g: exact_binomial(s, x, eps=e, delta=DELTA, grid=g).threshold,
    ),
    "cpdiff": (
        "excess",
        lambda s, x, e, g: excess_cpdiff(s, x, eps=e, delta=DELTA, grid=g).threshold,
    ),
    "betting": (
        "excess",
        lambda s, x, e, g: excess_betting(s, x, eps=e, delta=DELTA, grid=g).threshold,
    ),
    "selective": (
        "selective",
        lambda s, x, e, g: (
            selective(
                s,
                x,
                eps=e,
                delta=DELTA,
                grid=g,
                start=START,
            ).threshold
        ),
    ),
    "sgr": ("selective", lambda s, x, e, _: sgr(s, x, eps=e, delta=DELTA).threshold),
}


@pytest.mark.parametrize("name", CERTIFIED)
@pytest.mark.parametrize("n", [300, 1000])
def test_a_certified_rule_breaks_its_promise_in_at_most_delta(name: str, n: int) -> None:
    promise, rule = CERTIFIED[name]
    runs = 100 if name == "betting" else 250
    rate = broken(POPULATION, rule, promise, n, runs)
    assert rate <= DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / runs)


@pytest.mark.parametrize("promise", ["harm", "excess"])
def test_the_control_breaks_it_more_often_than_not(promise: str) -> None:
    rate = broken(POPULATION, lambda s, x, e, _: plug_in(s, x, eps=e).threshold, promise, 300, 250)
    assert 0.5 < rate < 0.75


def test_the_marginal_rule_keeps_the_mean_and_breaks_about_half() -> None:
    eps, truth = 0.02, POPULATION.truth
    scores, harms = POPULATION.drawn_from.scores, POPULATION.drawn_from.loss("harm")
    chance = np.random.default_rng(17)
    drawn = [chance.integers(0, len(scores), 300) for _ in range(300)]
    risks = [
        truth.risk("harm", crc(scores[rows], harms[rows], eps=eps).threshold) for rows in drawn
    ]
    assert np.mean(risks) <= eps + 2 * np.std(risks) / math.sqrt(len(risks))
    assert 0.3 < np.mean([risk > eps for risk in risks]) < 0.6


def test_labels_buy_escalation_and_so_do_more_of_them() -> None:
    """The order the theory gives: teacher above harm above excess; 300 above 1000 samples."""
    means = {}
    for name in ("teacher", "harm", "cpdiff"):
        promise, rule = CERTIFIED[name]
        for n in (300, 1000):
            chance = np.random.default_rng(2)
            grid = grid_from(POPULATION.tune.scores)
            losses = POPULATION.drawn_from.loss(promise)  # type: ignore[arg-type]
            scores = POPULATION.drawn_from.scores
            drawn = [chance.integers(0, len(scores), n) for _ in range(40)]
            means[name, n] = np.mean(
                [
                    POPULATION.truth.escalation(rule(scores[rows], losses[rows], 0.02, grid))
                    for rows in drawn
                ]
            )
    for n in (300, 1000):
        assert means["teacher", n] > means["harm", n] >= means["cpdiff", n]
    for name in ("teacher", "harm", "cpdiff"):
        assert means[name, 300] > means[name, 1000] + 0.01
