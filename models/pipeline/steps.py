"""What each declared step computes, in numpy, on one sample without a batch axis.

`cast` converts as C does, so it belongs where no value is lost. `scale` and `normalise` compute in
the sample's own float type and spread their numbers over the last axis. `transpose` and `reshape`
move values and change none.
"""

from collections.abc import Callable
from typing import assert_never

import numpy as np

from models.pipeline.check import Kind, after_step
from models.pipeline.declared import Cast, Normalise, Reshape, Scale, Step, Transpose
from models.tensors import Sample

Compiled = Callable[[Sample], Sample]


def compile_steps(steps: tuple[Step, ...], kind: Kind) -> Compiled:
    """One function for a row of steps that have passed `check`, on samples of this kind."""
    parts = []
    for step in steps:
        parts.append(_compile(step, kind))
        kind = after_step(step, kind)

    def prepare(sample: Sample) -> Sample:
        for part in parts:
            sample = part(sample)
        return sample

    return prepare


def _compile(step: Step, kind: Kind) -> Compiled:
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
        case _:
            assert_never(step)
