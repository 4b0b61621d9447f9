"""One input as it arrives: its name for a type, its shape, its bytes. Checked before it is used.

What is no array yet (`bytes`, `text`, `record`) has the shape [length in bytes]; a text is UTF-8, a
record a JSON object of numbers, texts, truth values and null.

Names are numpy's (`uint8`); the Open Inference Protocol's (`UINT8`) are translated by `dtype_of`
and `datatype_of`. Bytes are row-major and little-endian.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import EmptyInput, NotFinite, UndecodableInput, WrongDtype, WrongShape
from models.manifest import TensorSpec
from models.pipeline.kinds import RAW
from models.pipeline.values import Value

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
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bytes": "BYTES",
    "text": "BYTES",
    "record": "BYTES",
}
_KINDS = {name: np.dtype(name).newbyteorder("<") for name in _DATATYPES if name not in RAW}
_DTYPES = {datatype: dtype for dtype, datatype in _DATATYPES.items() if dtype not in RAW}
_MAX_FIELDS = 1000
_record = msgspec.json.Decoder(dict[str, float | int | str | bool | None])


def datatype_of(dtype: str) -> str:
    """The protocol's name of a numpy type. Raises `WrongDtype`."""
    try:
        return _DATATYPES[dtype]
    except KeyError:
        raise WrongDtype(
            f"dtype {dtype!r} has no name in the protocol; send one of {', '.join(_DATATYPES)}"
        ) from None


def dtype_of(datatype: str, spec: TensorSpec | None = None) -> str:
    """The numpy name of a protocol type; what BYTES are, the input says. Raises `WrongDtype`."""
    if datatype == "BYTES" and spec is not None and spec.dtype in RAW:
        return spec.dtype
    try:
        return _DTYPES[datatype]
    except KeyError:
        raise WrongDtype(
            f"datatype {datatype!r} is no input type here; send one of {', '.join(_DTYPES)}"
        ) from None


def check_input(
    spec: TensorSpec, dtype: str, shape: Sequence[int], data: bytes | bytearray | memoryview
) -> Value:
    """The sample in `data`, an array without a copy, if it is what the package wants.

    Raises `WrongDtype`, `WrongShape`, `EmptyInput`, `NotFinite`, `UndecodableInput`.
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
    if spec.dtype in RAW:
        return _read_raw(spec, data)
    if tuple(shape) != spec.shape:
        raise WrongShape(
            f"input {spec.name!r} has shape {list(shape)}, the package wants {list(spec.shape)} "
            f"({spec.layout}); send one sample without a batch axis"
        )
    kind = _KINDS[spec.dtype]
    needed = math.prod(spec.shape) * kind.itemsize
    if len(data) != needed:
        raise WrongShape(
            f"input {spec.name!r} has {len(data)} bytes, {spec.dtype} {list(spec.shape)} "
            f"needs {needed}; send the whole array, row by row"
        )
    sample = np.frombuffer(data, dtype=kind).reshape(spec.shape)
    if kind.kind == "f" and not _finite(sample):
        raise NotFinite(
            f"input {spec.name!r} holds NaN or an infinity; leave such samples out or repair them"
        )
    return sample


def _finite(sample: Sample) -> bool:
    """Whether no value is NaN or an infinity.

    A finite sum of squares says so in half the time; a sum too large for its type says nothing.
    """
    if sample.itemsize >= 4 and math.isfinite(np.vdot(sample, sample)):
        return True
    return bool(np.isfinite(sample).all())


def _read_raw(spec: TensorSpec, data: bytes | bytearray | memoryview) -> Value:
    if spec.dtype == "bytes":
        return bytes(data)
    try:
        if spec.dtype == "text":
            return str(data, "utf-8")
        record = _record.decode(data)
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        wanted = "UTF-8" if spec.dtype == "text" else "a JSON object of named values"
        raise UndecodableInput(
            f"input {spec.name!r} is no {spec.dtype}: {error}; send {wanted}"
        ) from error
    if len(record) > _MAX_FIELDS:
        raise UndecodableInput(
            f"input {spec.name!r} has {len(record)} fields, the limit is {_MAX_FIELDS}; "
            "send those the package names"
        )
    return record


def check_sample(spec: TensorSpec, sample: Sample) -> Value:
    """`check_input` for an array of this process."""
    data = np.ascontiguousarray(sample)
    return check_input(spec, str(data.dtype), data.shape, data.tobytes())
