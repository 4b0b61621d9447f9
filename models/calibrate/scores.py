"""Confidence: scores in [0, 1] made from a model's temperature-scaled softmax, higher is surer.

Rules:
1. Computed in float64 from the logits themselves, never from a quantised probability.
2. A row holding NaN or an infinity, or whose values are all equal, has no confidence: NaN in a
   batch, None for one sample. Whoever judges it must treat it as hard.
3. Device, gateway and calibration all call these functions, so a threshold means the same
   everywhere. A score is rounded to a multiple of 2^-32: exponentials of numpy and of the C
   library differ in their last bits, and an INT8 net has whole shares of its samples tied.
4. Temperature never reorders `top` of two classes, but does reorder the scores of many.

| score | formula of the softmax p | 1 means |
|---|---|---|
| `top` | max p | one class has it all |
| `margin` | largest p less the second largest | the same |
| `entropy` | 1 + sum p ln p / ln K | the same |
| `squares` | sum p^2 (Granese et al. 2021, DOCTOR) | the same |
"""

import math
from collections.abc import Callable
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import ScoreName

Logits = npt.NDArray[np.floating[Any]]
Scores = npt.NDArray[np.float64]
ScoreOf = Callable[[npt.NDArray[Any]], float | None]

STEPS = 2.0**32


def score(name: ScoreName, logits: Logits, temperature: float) -> Scores:
    """The named score of every row of `logits` [n, K]; NaN where a row has none."""
    _positive(temperature)
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise ValueError(f"logits must be [n, K] with K of at least 1, not {list(logits.shape)}")
    wide = logits.astype(np.float64)
    scores = np.full(len(wide), np.nan)
    top = wide.max(axis=1)
    usable = np.isfinite(wide).all(axis=1) & (top != wide.min(axis=1))
    if not usable.any():
        return scores
    powers = np.exp((wide[usable] - top[usable, None]) / temperature)
    total = powers.sum(axis=1)
    match name:
        case "top":
            found = 1.0 / total
        case "margin":
            found = (1.0 - np.partition(powers, -2, axis=1)[:, -2]) / total
        case "entropy":
            shares = powers / total[:, None]
            logs = np.log(np.where(shares > 0, shares, 1.0))
            found = 1.0 + (shares * logs).sum(axis=1) / math.log(wide.shape[1])
        case "squares":
            found = (powers * powers).sum(axis=1) / (total * total)
        case _:
            assert_never(name)
    scores[usable] = np.rint(np.clip(found, 0.0, 1.0) * STEPS) / STEPS
    return scores


def score_of(name: ScoreName, temperature: float) -> ScoreOf:
    """A function from one sample's logits [K] to its score, None when it has none.

    Plain arithmetic: on ten classes it takes a tenth of the time numpy needs to begin.
    """
    _positive(temperature)
    match name:
        case "top":
            return lambda logits: confidence_of(logits, temperature)
        case "margin":
            return lambda logits: margin_of(logits, temperature)
        case "entropy":
            return lambda logits: _entropy_of(logits, temperature)
        case "squares":
            return lambda logits: _squares_of(logits, temperature)
        case _:
            assert_never(name)


def confidence(logits: Logits, temperature: float) -> Scores:
    """The score `top` of every row of `logits` [n, K]; NaN where a row has none."""
    return score("top", logits, temperature)


def confidence_of(logits: npt.NDArray[Any], temperature: float) -> float | None:
    """The score `top` of one sample's logits [K], or None when it has none."""
    values: list[float] = logits.tolist()
    top = max(values)
    if _degenerate(values, top):
        return None
    exp = math.exp
    return round(STEPS / sum([exp((value - top) / temperature) for value in values])) / STEPS


def margin_of(logits: npt.NDArray[Any], temperature: float) -> float | None:
    """The score `margin` of one sample's logits [K], or None when it has none."""
    values: list[float] = logits.tolist()
    values.sort()
    top = values[-1]
    if _degenerate(values, top):
        return None
    exp = math.exp
    powers = [exp((value - top) / temperature) for value in values]
    return round((1.0 - powers[-2]) / sum(powers) * STEPS) / STEPS


def _entropy_of(logits: npt.NDArray[Any], temperature: float) -> float | None:
    values: list[float] = logits.tolist()
    top = max(values)
    if _degenerate(values, top):
        return None
    scaled = [(value - top) / temperature for value in values]
    powers = [math.exp(value) for value in scaled]
    total = sum(powers)
    # sum p ln p with ln p = scaled - ln(total); a p of zero adds nothing.
    mean = sum([p * value for p, value in zip(powers, scaled, strict=True) if p > 0]) / total
    found = 1.0 + (mean - math.log(total)) / math.log(len(values))
    return round(min(max(found, 0.0), 1.0) * STEPS) / STEPS


def _squares_of(logits: npt.NDArray[Any], temperature: float) -> float | None:
    values: list[float] = logits.tolist()
    top = max(values)
    if _degenerate(values, top):
        return None
    powers = [math.exp((value - top) / temperature) for value in values]
    total = sum(powers)
    return round(sum([p * p for p in powers]) / (total * total) * STEPS) / STEPS


def _degenerate(values: list[float], top: float) -> bool:
    """All equal, or one of them NaN or infinite. A finite sum, the common case, settles the latter.

    NaN makes `max` and sorting unsure, so the sum is asked first.
    """
    if not math.isfinite(sum(values)) and not all(map(math.isfinite, values)):
        return True
    return top == min(values)


def _positive(temperature: float) -> None:
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a positive number, not {temperature}")
