"""An array inside an `.npz`, told by its header before a byte of it is read.

numpy's own reader allocates what the header claims, and unpacks without a limit. A file that came
with a package is read by these instead.
"""

import math
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Header(NamedTuple):
    """What an array says it is."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    """Whether the first axis is the one that runs fastest."""

    @property
    def size(self) -> int:
        """Of its values, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes]) -> Header:
    """The header at the beginning of a `.npy` stream. Raises `ValueError`."""
    if np.lib.format.read_magic(stream) == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    return Header(shape, dtype, fortran)


def read_values(stream: IO[bytes], header: Header) -> npt.NDArray[Any]:
    """The array whose header has been read, and found to be of a size that will do.

    Raises `EOFError`.
    """
    flat = np.frombuffer(exactly(stream, header.size), header.dtype)
    return flat.reshape(header.shape[::-1]).T if header.fortran else flat.reshape(header.shape)


def exactly(stream: IO[bytes], size: int) -> bytes:
    """So many bytes. Raises `EOFError` where there are fewer."""
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("it ends inside its values")
    return data
