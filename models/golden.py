"""Golden inputs: made from a seed, so that no one's data travels in a package.

The formula, the same for ever, whatever made the package:
1. `raw` is the 64-bit output stream of PCG64 seeded with the seed (numpy's `PCG64(seed)`, whose
   stream numpy promises to keep).
2. Golden input i repeats every drawn number 2^(i mod 6) times along the flattened sample, so that
   some inputs are fine noise and some are coarse bands. Inputs draw one after another.
3. Whole-number types: low + raw mod (high - low + 1). Float types: low + (high - low) * u with
   u = (raw >> 11) / 2^53, computed in float64 and then converted.
"""

import math

import numpy as np
import numpy.typing as npt

from models.manifest import Golden, TensorSpec
from models.tensors import Sample

Numbers = npt.NDArray[np.uint64]
COARSEST = 6


def golden_inputs(spec: TensorSpec, golden: Golden) -> tuple[Sample, ...]:
    """The golden inputs of a package, raw as a caller would send them."""
    stream = np.random.PCG64(golden.seed)
    size = math.prod(spec.shape)
    samples = []
    for i in range(golden.count):
        repeats = 1 << (i % COARSEST)
        raw = np.asarray(stream.random_raw(-(-size // repeats)), dtype=np.uint64)
        values = np.repeat(_spread(raw, spec.dtype, golden.low, golden.high), repeats)[:size]
        samples.append(values.astype(spec.dtype).reshape(spec.shape))
    return tuple(samples)


def _spread(
    raw: Numbers, dtype: str, low: float, high: float
) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
    if dtype in ("float32", "float64"):
        return low + (high - low) * ((raw >> np.uint64(11)) / 2.0**53)
    span = np.uint64(int(high) - int(low) + 1)
    return int(low) + (raw % span).astype(np.int64)
