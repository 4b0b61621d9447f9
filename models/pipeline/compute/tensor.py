"""Steps on any array.

`cast` converts as C does, so it belongs where no value is lost. `scale` and `normalise` compute in
the sample's own float type and spread their numbers over the last axis. `transpose` and `reshape`
move values and change none.
"""

from collections.abc import Callable
from typing import Literal, assert_never, cast

import numpy as np

from models.pipeline.kinds import Kind
from models.pipeline.ops.tensor import (
    Cast,
    Normalise,
    Pool,
    Reshape,
    Scale,
    Stack,
    Step,
    Transpose,
)
from models.pipeline.values import Array, Compiled


def compile_step(step: Step, kind: Kind) -> Compiled:
    """One step on arrays of this kind."""
    # The plan has found an array here; asking each value again would cost as much as a cast.
    return cast(Compiled, _compile(step, kind))


def _compile(step: Step, kind: Kind) -> Callable[[Array], Array]:
    """The constants are made here once, in the type the sample has at this step."""
    match step:
        case Cast(dtype):
            to = np.dtype(dtype)
            return lambda sample: sample.astype(to)
        case Scale(by):
            factors = np.array(by, dtype=kind.dtype)
            return lambda sample: sample * factors
        case Normalise(mean, std):
            means, spreads = np.array(mean, dtype=kind.dtype), np.array(std, dtype=kind.dtype)
            return lambda sample: (sample - means) / spreads
        case Transpose(axes):
            return lambda sample: sample.transpose(axes)
        case Reshape(shape):
            return lambda sample: sample.reshape(shape)
        case Stack():
            return lambda sample: sample
        case Pool(how):
            return lambda sample: _pooled(sample, how)
        case _:
            assert_never(step)


def _pooled(many: Array, how: Literal["mean", "max"]) -> Array:
    if len(many) == 0:
        return np.full(many.shape[1:], np.nan, many.dtype)
    pooled: Array = many.mean(axis=0) if how == "mean" else many.max(axis=0)
    return pooled
