"""Calibration where rows come in groups: a person, a device, a clip.

Rows of one group are alike, so a thousand rows of three people are three samples and not a
thousand. What is drawn at random is the group, so the group is what is counted:

1. A group's loss is the mean over its rows, so every group weighs the same, however many rows it
   has; the promise speaks of a row of a group that is drawn at random.
2. Group losses lie in a bounded range and have no known law, so they are tested by betting
   (`betting`), which is exact for any. The walk down the grid is that of `rules`.
3. The promise `selective` is tested as "the mean of 1{local} (wrong - eps) is not above 0".
4. The marginal guarantee is conformal risk control of group losses: the lowest threshold with
   (sum of losses + 1) / (G + 1) <= eps.

With few groups nothing can be certified: 1 % at delta 10 % takes about 260 of them. Whoever knows
that rows inside a group are no more alike than strangers may count rows; `design_effect` says what
the data say to that.
"""

from typing import assert_never

import numpy as np
import numpy.typing as npt

from models.calibrate.betting import betting_bound, betting_p
from models.calibrate.certificate import Promise
from models.calibrate.outcomes import Groups, Losses
from models.calibrate.rules import Found
from models.calibrate.scores import Scores

Floats = npt.NDArray[np.float64]

BLOCK = 16
METHOD = "betting (WSR) on means of groups, fixed sequence"
METHOD_MARGINAL = "conformal risk control (CRC) of means of groups"


def group_means(values: npt.NDArray[np.generic], groups: Groups) -> Floats:
    """The mean of each group, float64 [G], groups in sorted order."""
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    return np.bincount(member, weights=values.astype(np.float64)) / sizes


def by_groups(
    scores: Scores,
    losses: Losses,
    groups: Groups,
    *,
    promise: Promise,
    eps: float,
    delta: float,
    grid: Scores,
    seed: int = 0,
) -> Found:
    """The lowest threshold of the walk down `grid` at which the groups' mean loss keeps eps."""
    means = _shuffled(scores, losses, groups, promise=promise, eps=eps, grid=grid, seed=seed)
    _, mean = as_game(np.zeros(1), promise, eps)
    passed = 0
    for first in range(0, len(grid), BLOCK):
        games, _ = as_game(means[first : first + BLOCK], promise, eps)
        failed = betting_p(games, mean, delta) > delta
        if failed.any():
            passed = first + int(failed.argmax())
            break
        passed = min(first + BLOCK, len(grid))
    if passed == 0:
        return Found(None, None, None, METHOD)
    threshold = float(grid[passed - 1])
    game, _ = as_game(means[passed - 1], promise, eps)
    limit = betting_bound(game, delta)
    bound = {"excess": 2 * limit - 1, "selective": eps}.get(promise, limit)
    local = scores >= threshold
    won = int((local & (losses < 0)).sum()) if promise == "excess" else None
    return Found(threshold, int((local & (losses > 0)).sum()), min(bound, eps), METHOD, won)


def crc_by_groups(
    scores: Scores, losses: Losses, groups: Groups, *, eps: float, grid: Scores
) -> Found:
    """Conformal risk control of a loss of 0 or 1, groups being what is exchangeable."""
    means = _local_means(scores, losses.astype(np.float64), groups, grid)
    kept = (means.sum(axis=1) + 1) / (means.shape[1] + 1) <= eps
    place = (len(kept) if kept.all() else int(kept.argmin())) - 1
    if place < 0:
        return Found(None, None, None, METHOD_MARGINAL)
    k = int(((scores >= grid[place]) & (losses > 0)).sum())
    return Found(float(grid[place]), k, None, METHOD_MARGINAL)


def limit_by_groups(
    flags: npt.NDArray[np.bool_], groups: Groups, delta: float, *, seed: int = 0
) -> float:
    """Upper limit on a flag's share among rows of a random group, broken with chance delta."""
    means = group_means(flags, groups)
    return betting_bound(np.random.default_rng(seed).permutation(means), delta)


def as_game(means: Floats, promise: Promise, eps: float) -> tuple[Floats, float]:
    """Group losses moved into [0, 1], and the mean that is bet against."""
    match promise:
        case "harm" | "teacher":
            return means, eps
        case "excess":
            return (means + 1) / 2, (1 + eps) / 2
        case "selective":
            return means + eps, eps
        case _:
            assert_never(promise)


def design_effect(values: npt.NDArray[np.generic], groups: Groups) -> float | None:
    """How much more a mean varies than if rows were strangers: 1 means that they are.

    The variance of the mean taken by groups, over that taken by rows (Kish 1965; linearised).
    None where it cannot be told: fewer than two groups, or all values the same.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    away = values.astype(np.float64) - values.mean()
    by_row = float((away * away).sum())
    if count < 2 or by_row == 0:
        return None
    sums = np.bincount(member, weights=away)
    return float((sums * sums).sum() * count / (count - 1) / by_row)


def _shuffled(
    scores: Scores,
    losses: Losses,
    groups: Groups,
    *,
    promise: Promise,
    eps: float,
    grid: Scores,
    seed: int,
) -> Floats:
    """Group losses at each threshold, groups in a random order: a bet needs one."""
    values = losses.astype(np.float64)
    if promise == "selective":
        values = values - eps
    means = _local_means(scores, values, groups, grid)
    return means[:, np.random.default_rng(seed).permutation(means.shape[1])]


def _local_means(scores: Scores, values: Floats, groups: Groups, grid: Scores) -> Floats:
    """For each threshold the groups' means of 1{score >= threshold} value, float64 [T, G]."""
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    # A row enters at the first threshold of the descending grid that is not above its score.
    enters = np.searchsorted(-grid, -scores, side="left")
    usable = ~np.isnan(scores) & (enters < len(grid))
    entering = np.zeros((len(grid), len(sizes)))
    np.add.at(entering, (enters[usable], member[usable]), values[usable])
    means: Floats = entering.cumsum(axis=0) / sizes
    return means
