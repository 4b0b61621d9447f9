"""Steps on what a model says.

1. Computed in float64 and given back in the sample's type, so that a float16 head loses nothing
   on the way.
2. Broken output stays broken and raises nothing: where a value is NaN or an infinity, `softmax`
   gives NaN for its whole row, the others for the value itself. An infinity that became a
   probability of 1 would be the most confident answer of all.
3. `log` reads a probability a thousandth outside [0, 1] as rounding, and any other as NaN.
4. A row of equal logits has equal probabilities; that it says nothing is for the head to see.
"""

from collections.abc import Callable
from typing import assert_never

import numpy as np
import numpy.typing as npt

from models.pipeline.kinds import Kind
from models.pipeline.ops.scores import (
    Clip,
    Dequantise,
    DropClass,
    Log,
    Sigmoid,
    Softmax,
    Step,
    Take,
)
from models.pipeline.values import Array

_ROUNDING = 1e-3
Wide = npt.NDArray[np.float64]


def compile_step(step: Step, kind: Kind) -> Callable[[Array], Array]:
    """Takes and gives [..., K] arrays, of a sample or of a list of them."""
    dtype = np.dtype(kind.dtype)
    match step:
        case Softmax(temperature):
            return lambda sample: softmax(sample, temperature).astype(dtype)
        case Sigmoid():
            return lambda sample: sigmoid(sample).astype(dtype)
        case Log(floor):
            return lambda sample: logits(sample, floor).astype(dtype)
        case Dequantise(scale, zero_point):
            factor = np.float32(scale)
            return lambda sample: (sample.astype(np.int64) - zero_point).astype(np.float32) * factor
        case DropClass(index):
            return lambda sample: np.delete(sample, index, axis=-1)
        case Take(start, stop):
            return lambda sample: sample[..., start:stop]
        case Clip(low, high):
            return lambda sample: np.clip(_finite_or_nan(sample), low, high).astype(dtype)
        case _:
            assert_never(step)


def softmax(sample: Array, temperature: float = 1.0) -> Wide:
    """Probabilities over the last axis; a row that is not finite throughout becomes NaN."""
    wide = _finite_or_nan(sample)
    with np.errstate(over="ignore"):  # so far below the top that the share is 0 anyway
        powers = np.exp((wide - wide.max(axis=-1, keepdims=True)) / temperature)
    shares: Wide = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(sample: Array) -> Wide:
    """1 / (1 + exp(-x)), from the side on which nothing overflows."""
    wide = _finite_or_nan(sample)
    small = np.exp(-np.abs(wide))
    chances: Wide = np.where(wide >= 0, 1.0, small) / (1.0 + small)
    return chances


def logits(sample: Array, floor: float) -> Wide:
    """ln max(p, floor) of probabilities; what is none becomes NaN."""
    wide = _finite_or_nan(sample)
    odd = (wide < -_ROUNDING) | (wide > 1.0 + _ROUNDING)
    logs: Wide = np.where(odd, np.nan, np.log(np.clip(wide, floor, 1.0)))
    return logs


def _finite_or_nan(sample: Array) -> Wide:
    wide: Wide = sample.astype(np.float64)
    return np.where(np.isfinite(wide), wide, np.nan)
