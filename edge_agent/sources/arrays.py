"""Reads `.npy` and `.bin` files as inputs, believing nothing they say about themselves."""

import io
import math
from pathlib import Path

import numpy as np
from msgspec import Struct

from edge_agent.sdk.wire import MAX_BODY

SUFFIXES = (".npy", ".bin")
_HEADER_ROOM = 64 << 10
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Kind(Struct, frozen=True):
    """What a file without a header is taken to hold."""

    dtype: str
    shape: tuple[int, ...]


class Array(Struct, frozen=True):
    """One input, row by row in this machine's byte order."""

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
    if path.suffix == ".bin":
        return Array(declared.dtype, declared.shape, data)
    try:
        return _npy(data)
    except (ValueError, EOFError, KeyError) as error:
        raise Unreadable(
            "not_an_array",
            f"{path.name} is no whole .npy file: {error}; write it again, and rename it in",
        ) from error


def _npy(data: bytes) -> Array:
    stream = io.BytesIO(data)
    read_header = _READERS.get(np.lib.format.read_magic(stream))
    if read_header is None:
        raise ValueError("its format version is none that numbers need")
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("it holds objects, not numbers")
    content = memoryview(data)[stream.tell() :]
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"its header promises {dtype} {list(shape)}, it has {len(content)} bytes")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    native = array.astype(dtype.newbyteorder("="), order="C", copy=False)
    return Array(native.dtype.name, tuple(shape), native.tobytes())
