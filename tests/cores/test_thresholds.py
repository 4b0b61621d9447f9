"""Scores and the exact binomial rule, against numbers worked out by other means."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibrate.decide import judge
from models.calibrate.rules import Flags, exact_binomial
from models.calibrate.scores import Scores, confidence, confidence_of
from models.calibrate.temperature import fit_temperature

TENTHS = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def binomial_cdf(k: int, n: int, p: Fraction) -> Fraction:
    """P(Binomial(n, p) <= k) in whole numbers."""
    return sum(
        (math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), start=Fraction(0)
    )


# Scores.


@pytest.mark.parametrize(
    ("logits", "temperature", "expected"),
    [
        ([0.0, math.log(3)], 1.0, 0.75),
        ([0.0, math.log(9)], 2.0, 0.75),
        ([0.0, 0.0, math.log(2)], 1.0, 0.5),
        ([1000.0, 0.0], 1.0, 1.0),
        ([-1000.0, -1000.0 + math.log(4)], 1.0, 0.8),
    ],
)
def test_confidence_is_the_scaled_top_softmax(
    logits: list[float], temperature: float, expected: float
) -> None:
    row = np.array(logits)
    assert confidence_of(row, temperature) == pytest.approx(expected, abs=2**-32)
    assert confidence(row[None], temperature)[0] == pytest.approx(expected, abs=2**-32)


@pytest.mark.parametrize(
    "logits",
    [
        [math.nan, 1.0, 2.0],
        [1.0, 2.0, math.nan],
        [math.inf, 0.0, 1.0],
        [-math.inf, 0.0, 1.0],
        [math.inf, -math.inf, math.nan],
        [0.0, 0.0, 0.0],
        [7.25, 7.25, 7.25],
    ],
)
def test_a_degenerate_output_has_no_confidence_and_is_hard(logits: list[float]) -> None:
    row = np.array(logits, dtype=np.float32)
    assert confidence_of(row, 1.0) is None
    assert np.isnan(confidence(row[None], 1.0)).all()
    assert judge(confidence_of(row, 1.0), 0.0).hard


rows = st.lists(
    st.floats(width=32) | st.sampled_from([0.0, 1.0, math.nan, math.inf]), min_size=2, max_size=12
)


@given(rows, st.floats(min_value=0.05, max_value=20))
def test_one_sample_and_a_batch_agree(row: list[float], temperature: float) -> None:
    logits = np.array(row, dtype=np.float32)
    alone = confidence_of(logits, temperature)
    (together,) = confidence(logits[None], temperature)
    if alone is None:
        assert np.isnan(together)
    else:
        assert together == pytest.approx(alone, rel=1e-12)
        assert 1 / len(row) - 2**-32 <= alone <= 1


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        confidence(np.zeros((1, 2)), temperature)


# Temperature.


def test_the_temperature_of_two_classes_is_the_one_worked_out_by_hand() -> None:
    # Always one logit ahead, right three times of four. Smoothed by 1/6 each, the labels say 2/3:
    # 1 / (1 + exp(-1/T)) = 2/3, T = 1 / ln 2.
    logits = np.array([[1.0, 0.0]] * 4)
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(1 / math.log(2), 1e-4)


def test_a_model_that_is_always_right_keeps_scores_that_differ() -> None:
    leads = np.array([4.0, 6.0, 8.0])
    logits = np.stack([leads, np.zeros(3)], axis=1).repeat(60, axis=0)
    temperature = fit_temperature(logits, np.zeros(180, dtype=int))
    scores = confidence(logits[::60], temperature)
    # Where the likelihood is flat: the scores, weighted by the lead, say 1 - 1 / (n + 2).
    assert (scores * leads).sum() / leads.sum() == pytest.approx(1 - 1 / 182, abs=1e-5)
    assert (np.diff(scores) > 1e-4).all()


def test_the_temperature_that_made_the_labels_is_found_again() -> None:
    chance = np.random.default_rng(3)
    logits = 4 * chance.normal(size=(4000, 5))
    shares = np.exp(logits / 2.5)
    shares /= shares.sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < chance.random((4000, 1))).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.08)


def test_logits_that_are_not_finite_are_no_base_for_a_temperature() -> None:
    with pytest.raises(ValueError, match="leave those samples out"):
        fit_temperature(np.array([[math.nan, 0.0]]), np.array([0]))


# Thresholds.


@pytest.mark.parametrize(("eps", "n"), [(0.005, 460), (0.01, 230), (0.02, 114), (0.05, 45)])
def test_the_least_samples_that_can_certify_anything(eps: float, n: int) -> None:
    harmless = np.zeros(n, dtype=bool)
    scores = np.linspace(0.05, 1, n)
    enough = exact_binomial(scores, harmless, eps=eps, delta=0.1, grid=TENTHS)
    assert enough.threshold == 0.1
    too_few = exact_binomial(scores[1:], harmless[1:], eps=eps, delta=0.1, grid=TENTHS)
    assert too_few.threshold is None


def test_the_walk_ends_where_whole_number_arithmetic_says() -> None:
    # Harms at .85, .65, .45, .25 among n samples: the k-th harm is met at the k-th step down.
    harm_scores = [0.85, 0.65, 0.45, 0.25]
    eps, delta = Fraction(1, 50), Fraction(1, 10)
    for n in (120, 200, 300, 400, 500):
        scores = np.concatenate([harm_scores, np.full(n - 4, 0.5)])
        harms = np.arange(n) < 4
        allowed = [k for k in range(5) if binomial_cdf(k, n, eps) <= delta]
        found = exact_binomial(scores, harms, eps=0.02, delta=0.1, grid=TENTHS)
        assert found.k == max(allowed)
        # The next tenth below would take one harm more than is allowed.
        assert found.threshold == [0.9, 0.7, 0.5, 0.3, 0.1][max(allowed)]


def test_the_upper_bound_is_the_exact_one() -> None:
    # k = 0: the bound u solves (1 - u)^n = delta.
    found = exact_binomial(
        np.full(200, 0.5), np.zeros(200, dtype=int), eps=0.02, delta=0.1, grid=TENTHS
    )
    assert found.upper_bound == pytest.approx(1 - 0.1 ** (1 / 200), rel=1e-9)
    assert found.k == 0


def test_a_score_at_the_threshold_counts_as_answered_there() -> None:
    # 114 samples allow no harm; the one harm stands exactly on a grid point.
    scores, harms = np.full(114, 0.95), np.zeros(114, dtype=bool)
    scores[0], harms[0] = 0.5, True
    found = exact_binomial(scores, harms, eps=0.02, delta=0.1, grid=TENTHS)
    assert found.threshold == 0.6
    assert judge(0.5, found.threshold).hard


def test_a_sample_without_a_score_harms_nowhere() -> None:
    scores = np.concatenate([np.full(50, np.nan), np.full(100, 0.95)])
    harms = np.arange(150) < 50
    found = exact_binomial(scores, harms, eps=0.02, delta=0.1, grid=TENTHS)
    assert (found.threshold, found.k) == (0.1, 0)


def draw(chance: np.random.Generator, n: int) -> tuple[Scores, Flags]:
    """Scores uniform on [0, 1], harmed with chance .08 (1 - s): the harm of t is .04 (1 - t)^2."""
    scores = chance.random(n)
    return scores, chance.random(n) < 0.08 * (1 - scores)


def true_harm(threshold: float | None) -> float:
    return 0.0 if threshold is None else 0.04 * (1 - threshold) ** 2


def test_the_promise_is_broken_in_at_most_a_share_delta_of_calibrations() -> None:
    chance = np.random.default_rng(11)
    grid = np.linspace(1, 0, 401)
    runs, eps, delta = 600, 0.01, 0.1
    certified, plugged_in, used = 0, 0, 0.0
    for _ in range(runs):
        scores, harms = draw(chance, 800)
        found = exact_binomial(scores, harms, eps=eps, delta=delta, grid=grid)
        certified += true_harm(found.threshold) > eps
        used += true_harm(found.threshold) / runs
        # The control: the threshold at which the sample itself just keeps eps.
        worst = np.sort(scores[harms != 0])[::-1][int(eps * 800)]
        plugged_in += true_harm(float(worst)) > eps
    assert certified / runs <= delta + 2 * math.sqrt(delta * (1 - delta) / runs)
    assert used > eps / 3  # it promises something
    assert plugged_in / runs > 0.3
