"""Groups: one person is one sample, splits keep people whole, and data sets are compared."""

import math

import numpy as np
import pytest

from models.calibrate.exchange import compare, split_by_group
from models.calibrate.groups import by_groups, crc_by_groups, design_effect, group_means
from models.calibrate.outcomes import Groups, Losses
from models.calibrate.rules import exact_binomial
from models.calibrate.scores import Scores
from models.errors import TooFewSamples

DELTA, EPS = 0.1, 0.05
GRID = np.linspace(1, 0, 41)


def people(
    chance: np.random.Generator, count: int, rows: int = 20
) -> tuple[Scores, Losses, Groups]:
    """One person in ten is hard: her rows are wrong 60 times of 100, others' never.

    Scores say nothing, so the risk at threshold t is .06 (1 - t), with people drawn at random.
    """
    hard = chance.random(count) < 0.1
    wrong = (chance.random((count, rows)) < 0.6) & hard[:, None]
    groups = np.repeat(np.arange(count), rows)
    return chance.random(count * rows), wrong.ravel().astype(np.int8), groups


def test_the_mean_of_a_group_does_not_depend_on_its_size() -> None:
    means = group_means(np.array([1, 1, 0, 0, 1]), np.array(["b", "b", "b", "b", "a"]))
    assert means.tolist() == [1.0, 0.5]


def test_counting_people_keeps_the_promise_that_counting_rows_breaks() -> None:
    chance = np.random.default_rng(1)
    runs, by_people, by_rows, certified = 120, 0, 0, 0
    for _ in range(runs):
        scores, losses, groups = people(chance, 150)
        found = by_groups(
            scores, losses, groups, promise="harm", eps=EPS, delta=DELTA, grid=GRID
        ).threshold
        rows = exact_binomial(scores, losses, eps=EPS, delta=DELTA, grid=GRID).threshold
        risk = [0.0 if at is None else 0.06 * (1 - at) for at in (found, rows)]
        by_people += risk[0] > EPS
        by_rows += risk[1] > EPS
        certified += found is not None
    allowed = DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / runs)
    assert by_people / runs <= allowed
    assert by_rows / runs > 2 * DELTA
    assert certified / runs > 0.5  # it promises something


@pytest.mark.parametrize("promise", ["excess", "selective", "teacher"])
def test_every_promise_can_be_tested_by_groups(promise: str) -> None:
    chance = np.random.default_rng(2)
    scores, groups = chance.random(6000), np.repeat(np.arange(600), 10)
    losses = (chance.random(6000) < 0.08 * (1 - scores)).astype(np.int8)
    grid = GRID[10:] if promise == "selective" else GRID
    found = by_groups(
        scores,
        losses,
        groups,
        promise=promise,  # type: ignore[arg-type]
        eps=EPS,
        delta=DELTA,
        grid=grid,
    )
    assert found.threshold is not None
    assert found.upper_bound is not None
    assert found.upper_bound <= EPS
    assert found.k == int(losses[scores >= found.threshold].sum())


def test_three_people_certify_nothing() -> None:
    scores, groups = np.linspace(0, 1, 3000), np.repeat(np.arange(3), 1000)
    nothing = np.zeros(3000, dtype=np.int8)
    found = by_groups(scores, nothing, groups, promise="harm", eps=0.02, delta=DELTA, grid=GRID)
    assert found.threshold is None


def test_conformal_risk_control_counts_groups() -> None:
    # (sum + 1) / (G + 1) <= .05 with 39 groups: a sum of one whole group's loss is allowed.
    scores = np.repeat(np.linspace(0.01, 0.99, 39), 2)
    losses = np.zeros(78, dtype=np.int8)
    losses[[10, 20, 30]] = 1  # half of a group each
    grid = np.unique(scores)[::-1]
    found = crc_by_groups(scores, losses, np.repeat(np.arange(39), 2), eps=0.05, grid=grid)
    assert found.k == 2
    assert found.threshold == scores[12]


def test_a_sample_without_a_score_loses_nothing_in_its_group() -> None:
    scores = np.array([np.nan, 0.9] * 300)
    losses = np.array([1, 0] * 300, dtype=np.int8)
    groups = np.repeat(np.arange(300), 2)
    found = by_groups(scores, losses, groups, promise="harm", eps=EPS, delta=DELTA, grid=GRID)
    assert (found.threshold, found.k) == (0.0, 0)


def test_the_design_effect_is_one_for_strangers_and_the_group_s_size_for_twins() -> None:
    chance = np.random.default_rng(3)
    groups = np.repeat(np.arange(2000), 5)
    twins = np.repeat(chance.random(2000) < 0.3, 5)
    assert design_effect(chance.random(10000) < 0.3, groups) == pytest.approx(1, abs=0.1)
    assert design_effect(twins, groups) == pytest.approx(5, rel=0.01)
    assert design_effect(twins, np.zeros(10000, dtype=np.int64)) is None
    assert design_effect(np.ones(10000), groups) is None


# Splits.


def test_a_split_by_group_mixes_none_and_comes_near_the_share() -> None:
    groups = np.repeat(np.arange(30), np.arange(30) + 5)
    mask = split_by_group(groups, 0.5, seed=4)
    assert set(groups[mask]) & set(groups[~mask]) == set()
    assert 0.4 < mask.mean() < 0.6
    assert (split_by_group(groups, 0.5, seed=4) == mask).all()
    assert (split_by_group(groups, 0.5, seed=5) != mask).any()


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_split_leaves_a_group_on_each_side(share: float) -> None:
    mask = split_by_group(np.array(["a", "a", "b", "c"]), share)
    assert 0 < mask.sum() < 4


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(TooFewSamples, match="one group"):
        split_by_group(np.zeros(10, dtype=np.int64), 0.5)


# Exchangeability.


def drawn(chance: np.random.Generator, n: int, wrong: float) -> tuple[Scores, Losses]:
    return chance.random(n), (chance.random(n) < wrong).astype(np.int8)


def test_data_of_one_kind_are_found_different_seldom() -> None:
    chance = np.random.default_rng(5)
    runs = 60
    warned = 0
    for seed in range(runs):
        (s, x), (t, y) = drawn(chance, 150, 0.1), drawn(chance, 200, 0.1)
        warned += not compare((s, t), (x, y), permutations=199, seed=seed).alike
    assert warned / runs <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / runs)


def test_harder_data_are_found_by_their_losses_though_the_scores_are_alike() -> None:
    chance = np.random.default_rng(6)
    (s, x), (t, y) = drawn(chance, 1000, 0.05), drawn(chance, 1000, 0.12)
    found = compare((s, t), (x, y))
    assert not found.alike
    assert found.loss_p < 0.01 < found.score_p
    assert (found.loss_first, found.loss_second) == (x.mean(), y.mean())


def test_other_scores_are_found_and_missing_ones_count_as_lowest() -> None:
    chance = np.random.default_rng(7)
    (s, x), (t, y) = drawn(chance, 400, 0.1), drawn(chance, 400, 0.1)
    t[:80] = np.nan
    found = compare((s, t), (x, y))
    assert not found.alike
    assert found.score_p < 0.01


def test_people_who_differ_are_no_proof_that_data_do() -> None:
    """Two sides of the same kind, each person with a loss of his own: rows would cry wolf."""
    chance = np.random.default_rng(8)
    runs, by_rows, by_people = 40, 0, 0
    for seed in range(runs):
        rates = np.repeat(chance.beta(0.5, 2.0, size=16), 60)
        losses = (chance.random(960) < rates).astype(np.int8)
        scores, groups = 1 - rates, np.repeat(np.arange(16), 60)
        halves = (scores[:480], scores[480:]), (losses[:480], losses[480:])
        sides = groups[:480], groups[480:]
        by_rows += not compare(*halves, permutations=99, seed=seed).alike
        by_people += not compare(*halves, sides, permutations=99, seed=seed).alike
    assert by_people / runs <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / runs)
    assert by_rows / runs > 0.5


@pytest.mark.parametrize(("first", "ways", "alike"), [(3, 35, False), (2, 10, True)])
def test_few_groups_say_how_little_they_can_tell(first: int, ways: int, alike: bool) -> None:
    """As different as can be, and five people still prove nothing; seven just do."""
    count = 7 if first == 3 else 5
    scores, losses = np.tile(np.linspace(0, 1, 10), count), np.zeros(count * 10, dtype=np.int8)
    groups, cut = np.repeat(np.arange(count), 10), first * 10
    losses[cut:] = 1
    found = compare(
        (scores[:cut], scores[cut:]), (losses[:cut], losses[cut:]), (groups[:cut], groups[cut:])
    )
    assert found.units == count
    assert found.loss_p == found.least_p == pytest.approx(1 / ways)
    assert found.alike is alike


def test_a_handful_of_samples_is_not_compared() -> None:
    with pytest.raises(TooFewSamples, match="8 on each side"):
        compare((np.zeros(7), np.zeros(9)), (np.zeros(7, np.int8), np.zeros(9, np.int8)))
