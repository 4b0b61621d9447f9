"""Turns what a caller hands over into dtype, shape and raw bytes, without importing numpy.

1. Anything that lends its buffer with a format and a shape is taken: numpy arrays, `array.array`,
   typed memoryviews. `bytes` and `bytearray` say neither: they are an encoded file (a picture, a
   sound), unless `dtype=` and `shape=` say what array they hold. A text goes as UTF-8, a dictionary
   as JSON.
2. Contiguous buffers are lent, not copied; others are copied in row-major order.
3. Only what can be seen from here is judged: the worker knows what the task wants.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edge_agent.sdk import wire
from edge_agent.sdk.errors import (
    BadArgument,
    EmptyInput,
    InputTooLarge,
    UndecodableInput,
    UnsupportedInput,
    WrongDtype,
    WrongShape,
)

Input: TypeAlias = object
"""Something with a buffer. No type says so before Python 3.12, so it is checked at the call."""

_DTYPES = {
    "?": "bool",
    "b": "int8",
    "B": "uint8",
    "h": "int16",
    "H": "uint16",
    "i": "int32",
    "I": "uint32",
    "q": "int64",
    "Q": "uint64",
    "l": "int64",  # 8 bytes on the 64-bit Linux an agent runs on; checked against the item size
    "L": "uint64",
    "e": "float16",
    "f": "float32",
    "d": "float64",
}
_SIZES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float16": 2,
    "float32": 4,
    "float64": 8,
}


@dataclass(slots=True)
class Tensor:
    """One input as it travels."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview


def tensor_of(
    given: Input, *, dtype: str | None = None, shape: tuple[int, ...] | None = None
) -> Tensor:
    """The tensor in `given`. Raises `InvalidInput` or `BadArgument`."""
    if isinstance(given, bytes | bytearray):
        if dtype is None and shape is None:
            return _whole("bytes", given)
        return _raw(given, dtype, shape)
    if dtype is not None or shape is not None:
        raise BadArgument(
            "dtype= and shape= belong to bytes;"
            f" this {type(given).__name__} carries its own, so leave them out"
        )
    if isinstance(given, str):
        return _whole("text", _utf8(given))
    try:
        view = memoryview(given)  # type: ignore[arg-type] # the very question asked here
    except (TypeError, ValueError, BufferError) as error:
        if isinstance(given, Mapping):  # asked late: an array would have to wait for it
            return _whole("record", _json(given))
        raise UnsupportedInput(
            f"input of type {type(given).__name__} lends no buffer ({error});"
            " pass a numpy array, bytes, a text or a dictionary"
        ) from error
    dims = view.shape or ()
    format_ = view.format
    name = _DTYPES.get(format_) or _DTYPES.get(format_.lstrip("@=<"))
    if name is None or _SIZES[name] != view.itemsize:
        raise WrongDtype(
            f"input has the element format {view.format!r}, which no task takes;"
            f" convert it to one of {', '.join(sorted(_SIZES))} in this machine's byte order"
        )
    _check_size(name, dims, view.nbytes)
    data = view.cast("B") if view.c_contiguous and dims else view.tobytes()
    return Tensor(name, dims, data)


def _whole(kind: str, data: bytes | bytearray) -> Tensor:
    _check_size(kind, (len(data),), len(data))
    return Tensor(kind, (len(data),), data)


def _utf8(given: str) -> bytes:
    try:
        return given.encode()
    except UnicodeEncodeError as error:
        raise UndecodableInput(
            f"a text is sent as UTF-8, and half a character stands at {error.start} of this one;"
            " read it again from where it came from"
        ) from error


def _json(given: Mapping[object, object]) -> bytes:
    try:
        return json.dumps(given, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UnsupportedInput(
            f"a dictionary is sent as JSON, and this one is none ({error});"
            " pass numbers, texts, truth values and None, by name"
        ) from error


def _raw(given: bytes | bytearray, dtype: str | None, shape: tuple[int, ...] | None) -> Tensor:
    if dtype is None or shape is None:
        raise BadArgument(
            "dtype= and shape= go together, as in dtype='float32', shape=(128, 9);"
            " leave out both for an encoded picture or sound"
        )
    size = _SIZES.get(dtype)
    if size is None:
        raise WrongDtype(f"dtype {dtype!r} is unknown; use one of {', '.join(sorted(_SIZES))}")
    dims = _dims(shape)
    _check_size(dtype, dims, len(given))
    if math.prod(dims) * size != len(given):
        raise WrongShape(
            f"{dtype} of shape {dims} is {math.prod(dims) * size} bytes,"
            f" the input has {len(given)}; correct the shape or the data"
        )
    return Tensor(dtype, dims, given)


def _dims(shape: object) -> tuple[int, ...]:
    if isinstance(shape, tuple | list) and all(
        isinstance(length, int) and length >= 0 for length in shape
    ):
        return tuple(shape)
    raise BadArgument(f"shape must be a tuple of whole numbers of at least 0, not {shape!r}")


def _check_size(dtype: str, shape: tuple[int, ...], size: int) -> None:
    if size == 0:
        raise EmptyInput(
            f"input of {dtype} and shape {shape} holds nothing; pass at least one value"
        )
    if size > wire.MAX_BODY:
        raise InputTooLarge(
            f"input of {dtype} and shape {shape} is {size} bytes,"
            f" over the limit of {wire.MAX_BODY}; scale it down before asking"
        )
