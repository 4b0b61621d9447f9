"""How much two inputs differ, from 0 (the same) to 1, so that near-duplicates can be told.

1. A picture is its grey levels in 16 by 16 fields: the mean absolute difference of those, as a
   share of the whole range. An encoded picture is decoded for it, no larger than needed.
2. Any other array is its numbers: the sum of the absolute differences over the sum of absolute
   values (Bray and Curtis, 1957). A signal that is only shifted in time differs a lot.
3. What is neither, a text or a record, differs wholly unless it is the same byte for byte.
"""

import hashlib
import io

import numpy as np
import numpy.typing as npt
from msgspec import Struct

_FIELDS = 16
_EXACT = ("text", "record")


class Signature(Struct, frozen=True):
    """What is kept of an input for the comparison."""

    kind: str
    values: npt.NDArray[np.float32]


def signature(dtype: str, shape: tuple[int, ...], data: bytes) -> Signature | None:
    """Of one input; None where these bytes are not what they are said to be."""
    if dtype == "bytes":
        return _encoded(data)
    if dtype in _EXACT:
        return _exact(data)
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except (ValueError, TypeError):
        return None
    return of_array(array)


def of_array(array: npt.NDArray[np.generic]) -> Signature:
    """Of an array; bytes in rows and columns are a picture."""
    if array.dtype == np.uint8 and array.ndim in (2, 3) and min(array.shape[:2]) > 0:
        numbers = array.astype(np.float32)
        grey = numbers if array.ndim == 2 else numbers.mean(axis=2, dtype=np.float32)
        return Signature("picture", _in_fields(grey) / np.float32(255))
    return Signature(f"{array.shape}", array.astype(np.float32).ravel())


def difference(one: Signature, other: Signature) -> float:
    """From 0 to 1; 1 for what cannot be compared."""
    if one.kind != other.kind or one.values.shape != other.values.shape:
        return 1.0
    if one.kind == "exact":
        return float(not np.array_equal(one.values, other.values))
    apart = np.abs(one.values - other.values)
    if one.kind == "picture":
        found = float(apart.mean())
    else:
        size = float(np.abs(one.values).sum() + np.abs(other.values).sum())
        found = float(apart.sum()) / size if size else 0.0
    return found if 0.0 <= found <= 1.0 else 1.0  # not so for NaN


def _encoded(data: bytes) -> Signature:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.draft("L", (_FIELDS, _FIELDS))
            grey = picture.convert("L").resize((_FIELDS, _FIELDS), Image.Resampling.BOX)
            return Signature("picture", np.asarray(grey, np.float32).ravel() / np.float32(255))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return _exact(data)  # a sound, or nothing anybody can read


def _exact(data: bytes) -> Signature:
    digest = hashlib.sha256(data).digest()
    return Signature("exact", np.frombuffer(digest, np.uint8).astype(np.float32))


def _in_fields(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean of each field; a picture smaller than that keeps its own size."""
    for axis in (0, 1):
        size = grey.shape[axis]
        fields = min(_FIELDS, size)
        starts = np.arange(fields) * size // fields
        lengths = np.diff(np.append(starts, size))
        shape = (-1, 1) if axis == 0 else (1, -1)
        sums = np.add.reduceat(grey, starts, axis=axis)
        grey = np.divide(sums, lengths.reshape(shape), dtype=np.float32)
    return grey.ravel()
