"""Golden inputs: made from a seed, so that no one's data travels in a package.

Pictures, sounds, texts and records cannot be made so; a package of those brings its golden inputs
as a file, which its maker chooses with that in mind.

The formula, the same for ever, whatever made the package:
1. `raw` is the 64-bit output stream of PCG64 seeded with the seed (numpy's `PCG64(seed)`, whose
   stream numpy promises to keep).
2. Golden input i repeats every drawn number 2^(i mod 6) times along the flattened sample, so that
   some inputs are fine noise and some are coarse bands. Inputs draw one after another.
3. Whole-number types: low + raw mod (high - low + 1). Float types: low + (high - low) * u with
   u = (raw >> 11) / 2^53, computed in float64 and then converted.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from models.errors import InputError, ManifestInvalid
from models.manifest import MAX_GOLDEN, Golden, TensorSpec
from models.pipeline.kinds import RAW
from models.pipeline.ops.tensor import FLOATS
from models.pipeline.values import Value
from models.tensors import Sample, check_input

Numbers = npt.NDArray[np.uint64]
COARSEST = 6
_Held = Annotated[tuple[bytes, ...], Meta(max_length=MAX_GOLDEN)]


def read_samples(spec: TensorSpec, golden: Golden, data: bytes) -> tuple[Value, ...]:
    """Golden inputs from their file. Raises `ManifestInvalid`."""
    try:
        held = msgspec.msgpack.decode(data, type=_Held)
        if len(held) != golden.count:
            raise ValueError(f"{len(held)} where the manifest says {golden.count}")
        return tuple(check_input(spec, spec.dtype, _shape_of(spec, one), one) for one in held)
    except (ValueError, InputError) as error:  # DecodeError is a ValueError
        raise ManifestInvalid(
            f"the package's golden inputs cannot be read: {error}; build the package again"
        ) from error


def _shape_of(spec: TensorSpec, data: bytes) -> tuple[int, ...]:
    return (len(data),) if spec.dtype in RAW else spec.shape


def write_samples(samples: Sequence[bytes]) -> bytes:
    """The file `read_samples` reads."""
    return msgspec.msgpack.encode(tuple(samples))


def golden_inputs(spec: TensorSpec, golden: Golden) -> tuple[Sample, ...]:
    """Golden inputs from their seed, raw as a caller would send them."""
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
    if dtype in FLOATS:
        return low + (high - low) * ((raw >> np.uint64(11)) / 2.0**53)
    span = np.uint64(int(high) - int(low) + 1)
    return int(low) + (raw % span).astype(np.int64)
