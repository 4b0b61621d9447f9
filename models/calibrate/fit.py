"""Chooses temperature and threshold from held-out data, with a promise for finite samples.

The promise `harm`: P(answered locally, edge wrong, cloud right) <= eps, for all but a share delta
of calibrations. The threshold comes from the exact binomial rule:

1. The grid of thresholds is fixed without looking at the calibration labels, and walked from the
   safest (highest) to the riskiest.
2. At threshold t, k counts the samples with score >= t that were harmed. P(Binomial(n, eps) <= k)
   is a p-value for "the risk exceeds eps".
3. The walk stops at the first p-value above delta; the last threshold before it is returned.
4. A sample without a score (NaN) is never answered locally, so it harms at no threshold.
5. With fewer than `feasible_n` samples nothing can be certified: threshold None, all is hard.

The promise holds only if training data, tune data (which give the temperature) and calibration data
(which give the threshold) share no sample.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.calibrate.scores import Logits, Scores

Flags = npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]
Labels = npt.NDArray[np.integer[Any]]

METHOD = "exact binomial, fixed sequence"


class HarmThreshold(Struct, frozen=True):
    """A threshold and the numbers it was chosen by."""

    threshold: float | None
    """None when no threshold of the grid could be certified."""
    n: int
    k_at_threshold: int | None
    """Harmed samples at or above the threshold."""
    upper_bound: float | None
    """Exact upper confidence limit (level 1 - delta) on the harm at the threshold."""
    eps: float
    delta: float
    feasible_n: int
    """The least n at which a calibration without a single harm certifies eps."""


def probability_grid(points: int = 400) -> Scores:
    """Thresholds for a top probability, from 1 downwards, denser near 1. Depends on no data."""
    odds = np.linspace(16.0, -1.5, points - 1)
    return np.concatenate([[1.0], 1.0 / (1.0 + np.exp(-odds))])


def feasible_n(eps: float, delta: float) -> int:
    """The least n with (1 - eps)^n <= delta."""
    return math.ceil(math.log(delta) / math.log1p(-eps))


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature in [0.05, 20] under which the labels are likeliest, smoothed as Platt did.

    Each label counts as certain but for 1 / (n + 2), spread over the other classes. Without that, a
    model that is right on every tune sample would get temperature 0: every score would be 1, and
    no threshold could tell one input from another.
    """
    from scipy.optimize import minimize_scalar

    if (
        logits.ndim != 2
        or len(logits) == 0
        or logits.shape[1] < 2
        or labels.shape != (len(logits),)
    ):
        raise ValueError(
            "wanted logits [n, K], K at least 2, and labels [n], "
            f"not {list(logits.shape)} and {list(labels.shape)}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or an infinity; leave those samples out of the fit")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must lie in 0..{logits.shape[1] - 1}")
    wide = logits.astype(np.float64)
    below_top = wide - wide.max(axis=1, keepdims=True)
    count, classes = wide.shape
    doubt = 1 / (count + 2)
    targets = np.full(wide.shape, doubt / (classes - 1))
    targets[np.arange(count), labels] = 1 - doubt
    expected = (targets * below_top).sum(axis=1)

    def surprise(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        norms = np.log(np.exp(below_top / temperature).sum(axis=1))
        return float((norms - expected / temperature).mean())

    # Convex in 1/T, so one valley in log T: a bounded search finds it.
    found = minimize_scalar(
        surprise, bounds=(math.log(0.05), math.log(20.0)), method="bounded", options={"xatol": 1e-6}
    )
    return float(math.exp(float(found.x)))


def fit_harm_threshold(
    scores: Scores, harms: Flags, *, eps: float, delta: float, grid: Scores
) -> HarmThreshold:
    """The riskiest threshold of `grid` (descending) whose harm is certified to stay within eps."""
    from scipy.special import bdtr, betaincinv

    if not 0 < eps < 1 or not 0 < delta < 1:
        raise ValueError(f"eps and delta must lie between 0 and 1, not {eps} and {delta}")
    if scores.ndim != 1 or len(scores) == 0 or harms.shape != scores.shape:
        raise ValueError(
            f"wanted scores [n] and harms [n], not {list(scores.shape)} and {list(harms.shape)}"
        )
    if grid.ndim != 1 or len(grid) == 0 or not (np.diff(grid) < 0).all():
        raise ValueError("grid must be a strictly descending list of thresholds")
    n = len(scores)
    harmed = scores[(harms != 0) & ~np.isnan(scores)]
    harms_at = len(harmed) - np.searchsorted(np.sort(harmed), grid, side="left")
    passed = bdtr(harms_at.astype(np.float64), n, eps) <= delta
    certified = len(grid) if passed.all() else int(passed.argmin())
    needed = feasible_n(eps, delta)
    if certified == 0:
        return HarmThreshold(None, n, None, None, eps, delta, needed)
    k = int(harms_at[certified - 1])
    bound = float(betaincinv(k + 1, n - k, 1 - delta))
    return HarmThreshold(float(grid[certified - 1]), n, k, bound, eps, delta, needed)
