"""How near one file's outputs are to another's on the same samples. Pure.

Rules:
1. Outputs [n, K] of floats with K of at least 2 are classes: they have labels and a confidence.
   Anything else has neither, and only the relative error speaks.
2. Rows that are not finite agree with nothing.
3. Rows that sum to 1 without a negative value are probabilities already, others are logits.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.calibrate.scores import confidence
from models.quantize.options import Array, Labels

Scores = npt.NDArray[np.float64]


class Likeness(NamedTuple):
    """One file's outputs against the FP32 file's; None where the task has no classes."""

    agreement: float | None
    """Share of samples with the same label."""
    rank_correlation: float | None
    """Spearman's, of the confidence; None where either is constant."""
    confidence_shift: float | None
    """Mean distance of the two confidences."""
    relative_error: float
    """Root of the mean squared difference over that of the FP32 outputs."""
    accuracy: float | None

    @property
    def loss(self) -> float:
        """What ranks layers: disagreement and shift of the confidence, both shares of 1."""
        if self.agreement is None:
            return self.relative_error
        return (1 - self.agreement) + (self.confidence_shift or 0.0)


def likeness(outputs: Array, reference: Array, labels: Labels | None) -> Likeness:
    """`outputs` against `reference`, both [n, ...] of one file each; `labels` int [n]."""
    error = relative_error(outputs, reference)
    if not has_classes(reference) or outputs.shape != reference.shape:
        return Likeness(None, None, None, error, None)
    mine, theirs = confidences(outputs), confidences(reference)
    both = np.isfinite(mine) & np.isfinite(theirs)
    shift = np.where(both, np.abs(mine - theirs), 1.0)
    return Likeness(
        agreement(outputs, reference),
        rank_correlation(mine[both], theirs[both]),
        float(shift[np.isfinite(mine) | np.isfinite(theirs)].mean()) if both.any() else None,
        error,
        accuracy(outputs, labels),
    )


def agreement(outputs: Array, reference: Array) -> float | None:
    """Share of samples with the same label, by rule 2; None where there are no classes."""
    if not has_classes(reference) or outputs.shape != reference.shape:
        return None
    usable = _finite(outputs) & _finite(reference)
    return float(((outputs.argmax(axis=1) == reference.argmax(axis=1)) & usable).mean())


def has_classes(outputs: Array) -> bool:
    """Whether outputs are scores of at least two classes."""
    return outputs.ndim == 2 and outputs.shape[1] > 1 and outputs.dtype.kind == "f"


def accuracy(outputs: Array, labels: Labels | None) -> float | None:
    """Share of samples whose largest finite output is the true class."""
    if labels is None or not has_classes(outputs):
        return None
    return float(((outputs.argmax(axis=1) == labels) & _finite(outputs)).mean())


def confidences(outputs: Array) -> Scores:
    """Confidence float64 [n] of rows of logits or probabilities; NaN where a row has none."""
    probabilities = bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))
    if probabilities:
        return np.asarray(outputs.max(axis=1), np.float64)
    return confidence(outputs, 1.0)


def rank_correlation(one: Scores, other: Scores) -> float | None:
    """Spearman's rank correlation with mean ranks for ties; None where either is constant."""
    if len(one) < 2:
        return None
    ranks = [_ranks(each) for each in (one, other)]
    first, second = (each - each.mean() for each in ranks)
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / scale) if scale > 0 else None


def relative_error(outputs: Array, reference: Array) -> float:
    """Root mean square of the difference over that of `reference`; infinite where not finite."""
    if outputs.shape != reference.shape:
        return float("inf")
    apart = np.sqrt(np.mean((outputs.astype(np.float64) - reference) ** 2))
    size = np.sqrt(np.mean(reference.astype(np.float64) ** 2))
    if not np.isfinite(apart):
        return float("inf")
    return float(apart / size) if size > 0 else float(apart > 0)


def _ranks(values: Scores) -> Scores:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_rank: Scores = ends - (counts - 1) / 2
    return mean_rank[which]


def _finite(outputs: Array) -> npt.NDArray[np.bool_]:
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    return np.asarray(finite, np.bool_)
