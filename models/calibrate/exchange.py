"""Splits that keep groups whole, and a test whether two data sets look drawn alike.

A certificate speaks of data like its calibration data. `compare` asks whether the data it is judged
on are: are the scores distributed alike, and is the edge (or the answer) wrong as often? It is a
permutation test, so it is exact for any distribution. Rows that come in groups are permuted as
groups: three easy people are one chance, not three thousand.

Rules:
1. Score statistic: the largest distance of the two distribution functions (Kolmogorov, Smirnov).
   Wrongness statistic: the difference of the mean loss. Two-sided, both.
2. p = (1 + permutations at least as far) / (1 + permutations). Where groups allow fewer
   permutations than are asked for, all of them are made.
3. The two p-values share `level` evenly. No warning proves nothing: with three groups against four
   the least p is 1/35, with two against three 1/10.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.calibrate.outcomes import Groups, Losses
from models.calibrate.scores import Scores
from models.errors import TooFewSamples

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

LEVEL = 0.1
"""One warning in ten is false; with less, three groups against four could never give one."""
PERMUTATIONS = 1999
LEAST = 8


class Exchange(NamedTuple):
    """What the comparison found; `alike` is false where it is worth a warning."""

    alike: bool
    score_p: float
    loss_p: float
    loss_first: float
    loss_second: float
    units: int
    """Rows, or groups where there are any."""
    least_p: float
    """The smallest p these data can give: above `level` / 2 the test can warn of nothing."""


def compare(
    scores: tuple[Scores, Scores],
    losses: tuple[Losses, Losses],
    groups: tuple[Groups, Groups] | None = None,
    *,
    level: float = LEVEL,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Exchange:
    """Whether the first data set and the second look exchangeable.

    A missing score (NaN) counts as the lowest. Raises `TooFewSamples` below 8 rows on a side, or
    without a group on each.
    """
    sizes = len(scores[0]), len(scores[1])
    if min(sizes) < LEAST:
        raise TooFewSamples(
            f"{sizes[0]} and {sizes[1]} samples cannot be compared; give {LEAST} on each side"
        )
    pooled = np.nan_to_num(np.concatenate(scores), nan=-1.0)
    loss = np.concatenate(losses).astype(np.float64)
    if groups is None:
        member, first = np.arange(len(pooled)), np.arange(len(pooled)) < sizes[0]
    else:
        # A group that stands on both sides is two groups here: splits never mix one.
        names = [f"{side} {name}" for side in (0, 1) for name in groups[side].tolist()]
        found, member = np.unique(np.array(names), return_inverse=True)
        first = np.char.startswith(found, "0 ")
    chance = np.random.default_rng(seed)
    splits, all_of_them = _splits(first, permutations, chance)
    distance, gap = _statistics(pooled, loss, member, np.vstack([first, splits]))
    made = len(splits)
    score_p = _p(distance, made, whole=all_of_them)
    loss_p = _p(gap, made, whole=all_of_them)
    return Exchange(
        alike=min(score_p, loss_p) > level / 2,
        score_p=score_p,
        loss_p=loss_p,
        loss_first=float(loss[first[member]].mean()),
        loss_second=float(loss[~first[member]].mean()),
        units=len(first),
        least_p=1 / made if all_of_them else 1 / (made + 1),
    )


def split_by_group(groups: Groups, share: float, seed: int = 0) -> Mask:
    """True for about a `share` of the rows, whole groups only, and a group at least on each side.

    Raises `TooFewSamples` where there are not two groups.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    found, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(found) < 2:
        raise TooFewSamples("all rows are of one group and a split must not mix it; give another")
    order = np.random.default_rng(seed).permutation(len(found))
    rows = sizes[order].cumsum()
    # As near to the share as whole groups come.
    taken = int(np.abs(rows - share * len(groups)).argmin()) + 1
    chosen = np.zeros(len(found), dtype=bool)
    chosen[order[: min(max(taken, 1), len(found) - 1)]] = True
    mask: Mask = chosen[member]
    return mask


def _splits(
    first: Mask, permutations: int, chance: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], bool]:
    """Other ways to cut the units into two of the same sizes; whether these are all there are."""
    units, taken = len(first), int(first.sum())
    if math.comb(units, taken) <= permutations:
        ways = list(itertools.combinations(range(units), taken))
        splits = np.zeros((len(ways), units), dtype=bool)
        for row, way in enumerate(ways):
            splits[row, list(way)] = True
        return splits, True
    return np.array([chance.permutation(first) for _ in range(permutations)]), False


def _statistics(
    scores: Floats, losses: Floats, member: npt.NDArray[np.intp], splits: Mask
) -> tuple[Floats, Floats]:
    """For every way to cut the units: distance of the distributions, difference of the losses."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    ends = np.append(ranked[1:] != ranked[:-1], True)
    distance, gap = np.empty(len(splits)), np.empty(len(splits))
    for number, split in enumerate(splits):
        side = split[member]
        count = int(side.sum())
        below = side[order].cumsum() / count
        below_other = (~side[order]).cumsum() / (len(side) - count)
        distance[number] = np.abs(below - below_other)[ends].max()
        gap[number] = abs(losses[side].mean() - losses[~side].mean())
    return distance, gap


def _p(found: Floats, made: int, *, whole: bool) -> float:
    """The share of cuts at least as far as the one seen, which stands first."""
    as_far = int((found[1:] >= found[0] - 1e-12).sum())
    return as_far / made if whole else (1 + as_far) / (1 + made)
