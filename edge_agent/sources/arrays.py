"""Reads files as inputs, believing nothing they say about themselves.

1. Arrays come as `.npy`, or as `.bin`: the package's own type and shape, and no header.
2. What is no array yet (a picture, a sound, a text, a record) goes as it is: decoding it is the
   package's work, and so is refusing it.
3. A package takes files of its own kind. A picture in the folder of one that takes arrays is
   refused here, with what would be right.
"""

import math
import re
from pathlib import Path

import numpy as np
from msgspec import Struct

from edge_agent.sdk.wire import MAX_BODY

_ARRAYS = (".npy", ".bin")
RAW = {
    "bytes": (".jpg", ".jpeg", ".png", ".wav", ".bin"),
    "text": (".txt",),
    "record": (".json",),
}
_HEADER_ROOM = 64 << 10
_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""Of the header's length, by format version."""
_TYPE = re.compile(rb"""['"]descr['"]\s*:\s*['"]([<>|=]?[?biuf]\d{0,2})['"]""")
_ORDER = re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(rb"""['"]shape['"]\s*:\s*\(([\d\s,]{0,200})\)""")


class Kind(Struct, frozen=True):
    """What the package takes, and so what a file without a header is taken to hold."""

    dtype: str
    """A numpy type; or `bytes`, `text`, `record` for what is no array yet."""
    shape: tuple[int, ...]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that hold such inputs, in small letters."""
        return RAW.get(self.dtype, _ARRAYS)


class Array(Struct, frozen=True):
    """One input: an array row by row in this machine's byte order, or a whole file as it is."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Unreadable(Exception):
    """This file is no input."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(path: Path, declared: Kind) -> Array:
    """The input in a file. Raises `Unreadable`."""
    suffix = path.suffix.lower()
    if suffix not in declared.suffixes:
        raise Unreadable(
            "unknown_kind",
            f"{path.name} is not read here: this task takes {declared.dtype}, which comes in"
            f" {', '.join(declared.suffixes)} files",
        )
    try:
        size = path.stat().st_size
        if size > MAX_BODY + _HEADER_ROOM:
            raise Unreadable(
                "input_too_large",
                f"{path.name} has {size} bytes, over the limit of {MAX_BODY}; scale it down",
            )
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(
            "unreadable", f"{path.name} cannot be read: {error.strerror}; check its permissions"
        ) from error
    if declared.dtype in RAW:
        return Array(declared.dtype, (len(data),), data)
    if suffix == ".bin":
        return Array(declared.dtype, declared.shape, data)
    try:
        return _npy(data)
    except (ValueError, TypeError) as error:
        raise Unreadable(
            "not_an_array",
            f"{path.name} is no whole .npy file of numbers: {error};"
            " write it again, and rename it in",
        ) from error


def _npy(data: bytes) -> Array:
    """The array in a .npy file. Its header is a Python literal: searched, not evaluated."""
    length_bytes = _LENGTH_BYTES.get(data[6]) if data[:6] == _MAGIC and len(data) > 8 else None
    if length_bytes is None:
        raise ValueError("it does not begin like one")
    start = 8 + length_bytes
    end = start + int.from_bytes(data[8:start], "little")
    kind, order, lengths = (
        pattern.search(data, start, min(end, start + _HEADER_ROOM))
        for pattern in (_TYPE, _ORDER, _SHAPE)
    )
    if kind is None or order is None or lengths is None:
        raise ValueError("its header names no type of numbers, order and shape")
    dtype = np.dtype(kind[1].decode())
    shape = tuple(int(length) for length in lengths[1].split(b",") if length.strip())
    content = memoryview(data)[end:]
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"its header promises {dtype} {list(shape)}, it has {len(content)} bytes")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if order[1] == b"True" else "C")
    native = array.astype(dtype.newbyteorder("="), order="C", copy=False)
    return Array(native.dtype.name, shape, native.tobytes())
