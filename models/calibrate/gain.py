"""The gain curve g(s) = E[edge wrong - cloud wrong | score s], fitted so that it never rises.

Pool adjacent violators (Ayer et al. 1955): neighbouring scores whose means would rise are pooled,
by weight, until none does. It is no bound: the device's budget orders escalations by it.

Without labels the loss is "the answers differ": half of it stands for the gain (cascade note,
section 5), since where two answers differ at most one of them is right.
"""

import numpy as np
import numpy.typing as npt

from models.calibrate.curve import Gain
from models.calibrate.scores import Scores
from models.errors import ConstantScore

Floats = npt.NDArray[np.float64]

CELLS = 128
"""Scores are gathered into this many before pooling, so that a manifest stays small."""
LABEL_FREE = 0.5


def pav_decreasing(values: Floats, weights: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """The weighted least-squares fit of `values` [m] that never rises, as blocks.

    Returns each block's mean, its weight, and the place its first value has.
    """
    means: list[float] = []
    held: list[float] = []
    starts: list[int] = []
    for place, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        means.append(value)
        held.append(weight)
        starts.append(place)
        while len(means) > 1 and means[-2] <= means[-1]:
            mean, own = means.pop(), held.pop()
            total = held[-1] + own
            means[-1] = (means[-1] * held[-1] + mean * own) / total
            held[-1] = total
            starts.pop()
    return np.array(means), np.array(held), np.array(starts)


def fit_gain(
    scores: Scores, losses: npt.NDArray[np.int8], *, weights: Floats | None = None
) -> Gain:
    """g by score, from losses [n] of -1, 0 or 1; samples without a score take no part.

    `weights` are what a right answer to each sample is worth; 1 each by default.
    Raises `ConstantScore` where no sample has a score.
    """
    usable = ~np.isnan(scores)
    if not usable.any():
        raise ConstantScore(
            "no sample has a score, so there is no gain by score; look at the model"
        )
    worth = np.ones(len(scores)) if weights is None else weights.astype(np.float64)
    if worth.shape != scores.shape or not (worth > 0).all() or not np.isfinite(worth).all():
        raise ValueError(f"weights must be {len(scores)} positive numbers")
    starts, cell = _cells(scores[usable])
    weight = np.bincount(cell, worth[usable], len(starts)).astype(np.float64)
    total = np.bincount(cell, worth[usable] * losses[usable], len(starts))
    means, held, firsts = pav_decreasing(total / weight, weight)
    return Gain(tuple(starts[firsts].tolist()), tuple(means.tolist()), tuple(held.tolist()))


def _cells(scores: Scores) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Scores cut at observed values into cells of about one size; first score and place of each."""
    ranked = np.sort(scores)
    places = np.linspace(0, len(ranked), CELLS, endpoint=False).astype(np.int64)
    starts = np.unique(ranked[places])
    return starts, np.searchsorted(starts, scores, side="right") - 1
