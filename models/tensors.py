"""One input as it arrives: its name for a type, its shape, its bytes. Checked before it is used.

Names are numpy's (`uint8`); the Open Inference Protocol's (`UINT8`) are translated by `dtype_of`
and `datatype_of`. Bytes are row-major and little-endian.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import EmptyInput, NotFinite, WrongDtype, WrongShape
from models.manifest import TensorSpec

Sample = npt.NDArray[Any]

_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float32": "FP32",
    "float64": "FP64",
}
_DTYPES = {datatype: dtype for dtype, datatype in _DATATYPES.items()}


def datatype_of(dtype: str) -> str:
    """The protocol's name of a numpy type. Raises `WrongDtype`."""
    try:
        return _DATATYPES[dtype]
    except KeyError:
        raise WrongDtype(
            f"dtype {dtype!r} has no name in the protocol; send one of {', '.join(_DATATYPES)}"
        ) from None


def dtype_of(datatype: str) -> str:
    """The numpy name of a protocol type. Raises `WrongDtype`."""
    try:
        return _DTYPES[datatype]
    except KeyError:
        raise WrongDtype(
            f"datatype {datatype!r} is no input type here; send one of {', '.join(_DTYPES)}"
        ) from None


def check_input(
    spec: TensorSpec, dtype: str, shape: Sequence[int], data: bytes | bytearray | memoryview
) -> Sample:
    """The sample in `data`, without a copy, if it is what the package wants.

    Raises `WrongDtype`, `WrongShape`, `EmptyInput`, `NotFinite`.
    """
    if dtype != spec.dtype:
        raise WrongDtype(
            f"input {spec.name!r} is {dtype}, the package wants {spec.dtype}; convert it first"
        )
    if 0 in shape or len(data) == 0:
        raise EmptyInput(
            f"input {spec.name!r} of shape {list(shape)} holds no values, "
            f"the package wants {list(spec.shape)}; send one whole sample"
        )
    if tuple(shape) != spec.shape:
        raise WrongShape(
            f"input {spec.name!r} has shape {list(shape)}, the package wants {list(spec.shape)} "
            f"({spec.layout}); send one sample without a batch axis"
        )
    kind = np.dtype(spec.dtype).newbyteorder("<")
    needed = math.prod(spec.shape) * kind.itemsize
    if len(data) != needed:
        raise WrongShape(
            f"input {spec.name!r} has {len(data)} bytes, {spec.dtype} {list(spec.shape)} "
            f"needs {needed}; send the whole array, row by row"
        )
    sample = np.frombuffer(data, dtype=kind).reshape(spec.shape)
    if kind.kind == "f" and not np.isfinite(sample).all():
        raise NotFinite(
            f"input {spec.name!r} holds NaN or an infinity; leave such samples out or repair them"
        )
    return sample


def check_sample(spec: TensorSpec, sample: Sample) -> Sample:
    """`check_input` for an array of this process."""
    data = np.ascontiguousarray(sample)
    return check_input(spec, str(data.dtype), data.shape, data.tobytes())
