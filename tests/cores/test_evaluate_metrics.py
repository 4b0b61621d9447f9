"""Single numbers about a confidence: by hand, by brute force, and as scikit-learn and scipy say."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluate.metrics import (
    Bin,
    auroc,
    calibration_error,
    clopper_pearson,
    difference_interval,
    macro_recall,
    midranks,
    ranking,
    reliability,
    sign_test,
    spearman,
    surprise,
)

ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.4, 0.7, 0.9]), st.booleans()), min_size=2, max_size=40
)


@given(ROWS)
def test_auroc_is_scikit_learn_s(rows: list[tuple[float, bool]]) -> None:
    from sklearn.metrics import roc_auc_score

    scores, wrong = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if wrong.all() or not wrong.any():
        assert auroc(scores, wrong) is None
    else:
        assert auroc(scores, wrong) == pytest.approx(roc_auc_score(~wrong, scores))


@given(ROWS)
def test_augrc_is_its_closed_form(rows: list[tuple[float, bool]]) -> None:
    """Traub et al. 2024, equation 7: (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2."""
    scores, wrong = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    error = float(wrong.mean())
    found = ranking(scores, wrong)
    chance = 0.0 if found.auroc is None else (1 - found.auroc) * error * (1 - error)
    assert found.augrc == pytest.approx(chance + error**2 / 2)
    assert found.e_aurc >= -1e-12


def test_aurc_by_hand() -> None:
    # Kept one by one: right, wrong, right, right.
    wrong = np.array([False, True, False, False])
    found = ranking(np.array([0.9, 0.8, 0.7, 0.6]), wrong)
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found.e_aurc == pytest.approx(found.aurc - (1 / 4) / 4)


def test_ties_give_the_mean_over_every_way_to_break_them() -> None:
    wrong = np.array([True, False, False, True])
    ways = [
        ranking(np.array([0.9, *order]), wrong).aurc
        for order in itertools.permutations([0.3, 0.4, 0.5])
    ]
    assert ranking(np.array([0.9, 0.4, 0.4, 0.4]), wrong).aurc == pytest.approx(np.mean(ways))


def test_a_row_without_a_score_ranks_below_every_other() -> None:
    assert auroc(np.array([np.nan, 0.0, 0.5]), np.array([True, False, False])) == 1.0


def test_ece_is_the_mean_gap_weighted_by_rows() -> None:
    scores = np.array([0.95, 0.95, 0.55, 0.55, np.nan])
    bins = reliability(scores, np.array([False, True, False, False, True]), bins=10)
    assert bins == (Bin(2, 0.55, 1.0), Bin(2, 0.95, 0.5))
    assert calibration_error(bins) == pytest.approx(0.45)
    assert calibration_error(()) is None


def test_a_confidence_of_one_has_a_bin() -> None:
    assert reliability(np.array([1.0]), np.array([False])) == (Bin(1, 1.0, 1.0),)


def test_surprise_is_the_mean_log_loss_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    chance = np.random.default_rng(0)
    logits, labels = chance.normal(size=(50, 4)), chance.integers(0, 4, 50)
    powers = np.exp(logits / 1.7)
    expected = log_loss(labels, powers / powers.sum(axis=1, keepdims=True), labels=range(4))
    assert surprise(logits, labels, 1.7) == pytest.approx(expected)


def test_surprise_leaves_out_broken_rows_and_refuses_to_be_about_nothing() -> None:
    labels = np.array([0, 1])
    assert surprise(np.array([[math.log(3), 0.0], [np.nan, 0.0]]), labels, 1.0) == pytest.approx(
        -math.log(0.75)
    )
    with pytest.raises(ValueError, match="every row"):
        surprise(np.array([[np.nan, 0.0]]), labels[:1], 1.0)


def test_macro_recall_counts_a_rare_class_like_a_common_one() -> None:
    assert macro_recall(np.array([False] * 9 + [True]), np.array([0] * 9 + [1])) == 0.5


def test_midranks_and_spearman_are_scipy_s() -> None:
    from scipy.stats import rankdata, spearmanr

    chance = np.random.default_rng(1)
    a, b = chance.integers(0, 9, 60).astype(float), chance.normal(size=60)
    assert midranks(a) == pytest.approx(rankdata(a))
    assert spearman(a, a + 5 * b) == pytest.approx(spearmanr(a, a + 5 * b).statistic)
    assert spearman(np.ones(4), np.arange(4.0)) is None


@pytest.mark.parametrize(("k", "n"), [(0, 30), (3, 40), (40, 40), (17, 60)])
def test_clopper_pearson_is_scipy_s(k: int, n: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(k, n).proportion_ci(0.9, method="exact")
    assert clopper_pearson(k, n, level=0.9) == pytest.approx((expected.low, expected.high))


def test_a_count_beyond_n_is_refused() -> None:
    with pytest.raises(ValueError, match=r"k must lie in 0\.\.3, not 4"):
        clopper_pearson(4, 3)


def test_the_difference_s_interval_holds_the_difference_and_is_wider_than_either() -> None:
    found = difference_interval(12, 5, 200)
    assert found.low < 7 / 200 < found.high
    one = clopper_pearson(12, 200)
    assert found.high - found.low > one.high - one.low


@pytest.mark.parametrize(("plus", "minus"), [(0, 0), (5, 0), (8, 3), (4, 4)])
def test_the_sign_test_is_scipy_s(plus: int, minus: int) -> None:
    from scipy.stats import binomtest

    total = plus + minus
    expected = binomtest(plus, total).pvalue if total else 1.0
    assert sign_test(plus, minus) == pytest.approx(expected)
