"""Confidence: the temperature-scaled top softmax probability of a model's logits.

Rules:
1. Computed in float64 from the logits themselves, never from a quantized probability.
2. A row holding NaN or an infinity, or whose values are all equal, has no confidence: NaN in a
   batch, None for one sample. Whoever judges it must treat it as hard.
3. Device, gateway and calibration all call these functions, so a threshold means the same
   everywhere. One sample and a batch agree to the last few bits.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.floating[Any]]
Scores = npt.NDArray[np.float64]


def confidence(logits: Logits, temperature: float) -> Scores:
    """Confidence of every row of `logits` [n, K]; NaN where a row has none."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a positive number, not {temperature}")
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise ValueError(f"logits must be [n, K] with K of at least 1, not {list(logits.shape)}")
    wide = logits.astype(np.float64)
    scores = np.full(len(wide), np.nan)
    top = wide.max(axis=1)
    usable = np.isfinite(wide).all(axis=1) & (top != wide.min(axis=1))
    below_top = (wide[usable] - top[usable, None]) / temperature
    scores[usable] = 1.0 / np.exp(below_top).sum(axis=1)
    return scores


def confidence_of(logits: Logits, temperature: float) -> float | None:
    """Confidence of one sample's logits [K], or None when it has none.

    Plain arithmetic: on ten classes it takes a tenth of the time numpy needs to begin.
    """
    values: list[float] = logits.tolist()
    top = max(values)
    if not all(map(math.isfinite, values)) or top == min(values):
        return None
    return 1.0 / sum([math.exp((value - top) / temperature) for value in values])
