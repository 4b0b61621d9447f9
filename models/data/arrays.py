"""Arrays in an `.npz` file: `x` with one sample a row, and `y`, `group`, `cloud`, `name` beside it.

`x` is read as a stream, so a file larger than memory can be scored; the others are small.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data.rows import Cell, Columns, Row, found_columns, hash_of
from models.data.values import array_of, check_type, refuse_raw
from models.errors import DataEmpty, DataUnreadable, EmptyInput, ModelsError, WrongShape
from models.manifest import TensorSpec
from models.npy import Header, exactly, read_header
from models.pipeline.values import Value

_READ = 1 << 20
_FAILURES = (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError)


class NpzSource:
    """An `.npz` file. Rows of NaN are bad rows, a wrong shape or type is a bad file."""

    def __init__(self, path: Path, spec: TensorSpec, wanted: Columns) -> None:
        """Raises `DataUnreadable`, `DataEmpty`, `ColumnUnknown`, `WrongShape`, `WrongDtype`."""
        self._path, self._spec = path, spec
        try:
            with zipfile.ZipFile(path) as held:
                there = [name.removesuffix(".npy") for name in held.namelist()]
            self._header = self._read_header()
        except _FAILURES as error:
            raise DataUnreadable(
                f"{path} cannot be read as npz with an array x: {error}; write it with numpy.savez"
            ) from error
        self._check(self._header)
        if wanted.label is None and "y" in there:
            wanted = wanted._replace(label="y")
        self.columns = found_columns(wanted, there, path)
        self._about = [None if key is None else self._beside(key) for key in self.columns]
        self.expected: int | None = self._header.shape[0]

    def rows(self) -> Iterator[Row]:
        for at, found in enumerate(self._stream()):
            label, group, cloud, name = (
                None if column is None else _cell(column[at]) for column in self._about
            )
            called = str(at + 1) if name is None else str(name)
            try:
                value = self._value(found)
            except ModelsError as error:
                yield Row(at + 1, called, error, _hash(found), label, group, cloud)
            else:
                yield Row(at + 1, called, value, _hash(value), label, group, cloud)

    def _value(self, found: Any) -> Value:
        if self._spec.dtype != "text":
            return array_of(self._spec, found)
        text = str(found)
        if not text:
            raise EmptyInput(f"input {self._spec.name!r} is an empty text; write one")
        return text

    def _check(self, header: Header) -> None:
        spec, path = self._spec, self._path
        if header.dtype.hasobject:
            raise DataUnreadable(f"x of {path} holds Python objects; write plain numbers or texts")
        if not header.shape or not header.shape[0]:
            raise DataEmpty(f"x of {path} has shape {list(header.shape)}: no rows")
        if spec.dtype == "text" and header.dtype.kind == "U":
            if len(header.shape) != 1:
                raise WrongShape(f"x of {path} is {list(header.shape)}; write texts as [n]")
            return
        refuse_raw(spec, path, holds=str(header.dtype))
        if header.shape[1:] != spec.shape:
            raise WrongShape(
                f"x of {path} holds samples of shape {list(header.shape[1:])}, the package wants "
                f"{list(spec.shape)} ({spec.layout}); bring them into that shape"
            )
        check_type(spec, header.dtype)

    def _beside(self, key: str) -> npt.NDArray[Any]:
        try:
            with np.load(self._path, allow_pickle=False) as held:
                found: npt.NDArray[Any] = held[key]
        except _FAILURES as error:
            raise DataUnreadable(f"{key} of {self._path} cannot be read: {error}") from error
        if found.shape != self._header.shape[:1]:
            raise DataUnreadable(
                f"{key} of {self._path} has shape {list(found.shape)} beside "
                f"{self._header.shape[0]} rows of x; write one value for each row"
            )
        return found

    def _read_header(self) -> Header:
        with zipfile.ZipFile(self._path) as held, held.open("x.npy") as stream:
            return read_header(stream)

    def _stream(self) -> Iterator[Any]:
        """The rows of x, some at a time."""
        shape, dtype, fortran = self._header
        if fortran and len(shape) > 1:  # its rows lie apart from themselves
            with np.load(self._path, allow_pickle=False) as held:
                yield from held["x"]
            return
        width = math.prod(shape[1:]) * dtype.itemsize
        rows = max(1, _READ // max(1, width))
        try:
            with zipfile.ZipFile(self._path) as held, held.open("x.npy") as stream:
                read_header(stream)
                for begun in range(0, shape[0], rows):
                    count = min(rows, shape[0] - begun)
                    data = exactly(stream, count * width)
                    yield from np.frombuffer(data, dtype).reshape(count, *shape[1:])
        except _FAILURES as error:
            raise DataUnreadable(
                f"x of {self._path} is damaged: {error}; write the file again"
            ) from error


def _cell(found: Any) -> Cell:
    cell: Cell = found.item()
    return cell


def _hash(found: Any) -> int:
    return hash_of(found if isinstance(found, str | np.ndarray) else str(found))
