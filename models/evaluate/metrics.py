"""How good a confidence is, in single numbers, and intervals for shares that were counted.

All of them work on arrays of one length n: `scores` float64 (NaN: no score, ranked below all),
`wrong` bool, `logits` floating [n, K], `labels` whole numbers 0 to K - 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.calibrate.scores import Logits
from models.evaluate.curves import Flags, Floats, ranked

Classes = npt.NDArray[np.int64]

BINS = 15


class Ranking(NamedTuple):
    """How well scores tell right from wrong."""

    aurc: float
    """Mean over all coverages of the share wrong among the kept (Geifman and El-Yaniv 2017)."""
    e_aurc: float
    """AURC less that of a perfect ranking (Geifman et al. 2019)."""
    augrc: float
    """Mean over all coverages of the share kept *and* wrong (Traub et al. 2024)."""
    auroc: float | None
    """Chance that a right row outranks a wrong one; None where all are right or all wrong."""


class Bin(NamedTuple):
    """Rows whose confidence lies in one bin."""

    rows: int
    confidence: float
    right: float


class Interval(NamedTuple):
    """Limits of a share."""

    low: float
    high: float


def midranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def auroc(scores: Floats, wrong: Flags) -> float | None:
    """Mann-Whitney: P(score of a right row > score of a wrong one) + half of P(equal)."""
    right_count = int((~wrong).sum())
    wrong_count = len(wrong) - right_count
    if right_count == 0 or wrong_count == 0:
        return None
    ranks = midranks(ranked(scores))[~wrong].sum()
    return float((ranks - right_count * (right_count + 1) / 2) / (right_count * wrong_count))


def ranking(scores: Floats, wrong: Flags) -> Ranking:
    """AURC, E-AURC, AUGRC and AUROC; ties count as broken by chance."""
    n = len(scores)
    _, group, counts = np.unique(-ranked(scores), return_inverse=True, return_counts=True)
    share = np.bincount(group, weights=wrong) / counts
    kept_wrong = np.cumsum(np.repeat(share, counts))
    kept = np.arange(1, n + 1)
    aurc = float((kept_wrong / kept).mean())
    perfect = np.cumsum(np.sort(wrong.astype(np.float64)))
    before = np.concatenate([np.zeros(1), kept_wrong[:-1]])
    return Ranking(
        aurc=aurc,
        e_aurc=aurc - float((perfect / kept).mean()),
        augrc=float(((before + kept_wrong) / 2).mean() / n),
        auroc=auroc(scores, wrong),
    )


def reliability(scores: Floats, wrong: Flags, *, bins: int = BINS) -> tuple[Bin, ...]:
    """Confidence against share right in bins of equal width; empty bins and NaN left out."""
    usable = ~np.isnan(scores)
    kept, right = scores[usable], ~wrong[usable]
    place = np.clip((kept * bins).astype(np.int64), 0, bins - 1)
    return tuple(
        Bin(int(inside.sum()), float(kept[inside].mean()), float(right[inside].mean()))
        for inside in (place == number for number in range(bins))
        if inside.any()
    )


def calibration_error(bins: tuple[Bin, ...]) -> float | None:
    """ECE (Guo et al. 2017): mean gap between confidence and share right, weighted by rows."""
    total = sum(each.rows for each in bins)
    if not total:
        return None
    return sum(each.rows * abs(each.confidence - each.right) for each in bins) / total


def surprise(logits: Logits, labels: Classes, temperature: float) -> float:
    """Mean negative log-likelihood of the labels, in nats; rows with NaN or infinity left out.

    Raises ValueError where no row is left.
    """
    usable = np.isfinite(logits).all(axis=1)
    if not usable.any():
        raise ValueError("every row of the logits holds NaN or an infinity")
    wide = logits[usable].astype(np.float64) / temperature
    below_top = wide - wide.max(axis=1, keepdims=True)
    chosen = below_top[np.arange(len(wide)), labels[usable]]
    return float((np.log(np.exp(below_top).sum(axis=1)) - chosen).mean())


def macro_recall(wrong: Flags, labels: Classes) -> float:
    """Mean over the classes that occur of the share right in each."""
    return float(np.mean([float((~wrong[labels == label]).mean()) for label in np.unique(labels)]))


def spearman(first: Floats, second: Floats) -> float | None:
    """Rank correlation over the rows where both have a value; None where either is constant."""
    both = ~(np.isnan(first) | np.isnan(second))
    if both.sum() < 2:
        return None
    a, b = midranks(first[both]), midranks(second[both])
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else None


def clopper_pearson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Exact two-sided interval for a share, k of n counted (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    if not 0 <= k <= n:
        raise ValueError(f"k must lie in 0..{n}, not {k}")
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return Interval(low, high)


def difference_interval(plus: int, minus: int, n: int, *, level: float = 0.95) -> Interval:
    """Limits of (plus - minus) / n, from an exact interval for each half of the doubt."""
    half = (1 + level) / 2
    more, less = clopper_pearson(plus, n, level=half), clopper_pearson(minus, n, level=half)
    return Interval(more.low - less.high, more.high - less.low)


def sign_test(plus: int, minus: int) -> float:
    """Two-sided exact p-value that `plus` and `minus` are equally likely (McNemar 1947)."""
    from scipy.special import bdtr

    total = plus + minus
    if total == 0:
        return 1.0
    return float(min(1.0, 2 * bdtr(float(min(plus, minus)), total, 0.5)))
