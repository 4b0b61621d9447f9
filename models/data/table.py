"""Tables, read in pieces: CSV in UTF-8 with a header, Parquet, and JSON lines."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from models.data.rows import Cell, Columns, Row, found_columns, hash_of
from models.data.values import Make, cell_of, maker
from models.errors import (
    ColumnUnknown,
    DataEmpty,
    DataUnreadable,
    ExtraMissing,
    ModelsError,
    RowUnreadable,
)
from models.manifest import TensorSpec
from models.pipeline.values import Value

_PIECE = 1024


class _Layout:
    """Where in a row the sample is, and where what is said about it."""

    def __init__(
        self,
        spec: TensorSpec,
        there: Sequence[str],
        wanted: Columns,
        path: Path,
        read: Callable[[Any], Any],
    ) -> None:
        self._read = read
        twice = [name for name in there if list(there).count(name) > 1]
        if twice:
            raise DataUnreadable(f"{path} has two columns {twice[0]!r}; rename one")
        self.columns = found_columns(wanted, there, path)
        self._about = [None if name is None else there.index(name) for name in self.columns]
        kept = [name for name in there if name not in self.columns]
        self._fields = [there.index(name) for name in kept]
        self._make: Make = maker(spec, kept, path)

    def row(self, number: int, cells: Sequence[Any], about: Callable[[Any], Cell]) -> Row:
        """A row from its cells; `about` reads those beside the sample."""
        label, group, cloud, name = (None if at is None else about(cells[at]) for at in self._about)
        called = str(number) if name is None else str(name)
        fields = [self._read(cells[at]) for at in self._fields]
        try:
            value = self._make(fields)
        except ModelsError as error:
            return Row(number, called, error, _hash_of_text(fields), label, group, cloud)
        return Row(number, called, value, hash_of(value), label, group, cloud)


def _hash_of_text(cells: object) -> int:
    return hash_of(repr(cells).encode(errors="surrogateescape"))


class _Lines:
    """The lines of a file, counted in bytes so that the rest can be guessed."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.read = 0
        self.rows = 0

    def guess(self) -> int | None:
        return round(self.rows * self.size / self.read) if self.rows else None

    def of(self, file: BinaryIO) -> Iterator[bytes]:
        self.read = self.rows = 0
        for line in file:
            self.read += len(line)
            yield line


class CsvSource:
    """A CSV file: commas, a header, quotes as RFC 4180 has them. Empty lines are no rows."""

    def __init__(self, path: Path, spec: TensorSpec, wanted: Columns) -> None:
        """Raises `DataEmpty`, `DataUnreadable`, `ColumnUnknown`, `WrongShape`."""
        self._path = path
        self._lines = _Lines(path)
        with path.open("rb") as file:
            header = next(self._cells(file), (0, None))[1]
        if header is None:
            raise DataEmpty(f"{path} is empty; write a header and rows")
        if isinstance(header, RowUnreadable):
            raise DataUnreadable(f"{path}: the header cannot be read: {header}")
        self._width = len(header)
        read = str if spec.dtype == "text" else cell_of
        self._layout = _Layout(spec, header, wanted, path, read)

    @property
    def columns(self) -> Columns:
        return self._layout.columns

    @property
    def expected(self) -> int | None:
        return self._lines.guess()

    def rows(self) -> Iterator[Row]:
        width = self._width
        with self._path.open("rb") as file:
            for number, cells in self._cells(file):
                if number == 0:
                    continue
                self._lines.rows = number
                if isinstance(cells, RowUnreadable):
                    yield Row(number, str(number), cells, _hash_of_text(str(cells)))
                elif len(cells) != width:
                    error = RowUnreadable(
                        f"it has {len(cells)} cells, the header has {width}; write as many"
                    )
                    yield Row(number, str(number), error, _hash_of_text(cells))
                else:
                    yield self._layout.row(number, cells, lambda cell: cell or None)

    def _cells(self, file: BinaryIO) -> Iterator[tuple[int, "list[str] | RowUnreadable"]]:
        """Rows with their numbers, the header as number 0."""
        # What is no UTF-8 comes through as lone surrogates, so that one row is lost and not all.
        lines = (line.decode(errors="surrogateescape") for line in self._lines.of(file))
        reader = csv.reader(lines)
        number = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, RowUnreadable(f"it is no CSV: {error}; look for an open quote")
                number += 1
                continue
            if not cells:
                continue
            if number == 0:
                cells[0] = cells[0].removeprefix("\ufeff")
            yield number, _in_utf8(cells)
            number += 1


def _in_utf8(cells: list[str]) -> "list[str] | RowUnreadable":
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return RowUnreadable("it is not in UTF-8; save the file in that encoding")
    return cells


class JsonLinesSource:
    """One JSON object a line; the first says which columns there are."""

    def __init__(self, path: Path, spec: TensorSpec, wanted: Columns) -> None:
        """Raises `DataEmpty`, `DataUnreadable`, `ColumnUnknown`, `WrongShape`."""
        self._path, self._spec = path, spec
        self._lines = _Lines(path)
        first = next(self._objects(), None)
        if first is None:
            raise DataEmpty(f"{path} is empty; write one JSON object a line")
        if isinstance(first[1], RowUnreadable):
            raise DataUnreadable(f"{path}: the first line cannot be read: {first[1]}")
        there = list(first[1])
        self.columns = found_columns(wanted, there, path)
        if spec.dtype == "bytes":
            raise DataUnreadable(f"{path}: JSON holds no bytes; give a folder of files")
        self._field = None if spec.dtype == "record" else _sample_field(spec, there, path)

    @property
    def expected(self) -> int | None:
        return self._lines.guess()

    def rows(self) -> Iterator[Row]:
        for number, found in self._objects():
            self._lines.rows = number
            if isinstance(found, RowUnreadable):
                yield Row(number, str(number), found, _hash_of_text(str(found)))
                continue
            label, group, cloud, name = (
                None if key is None else _scalar(found.pop(key, None)) for key in self.columns
            )
            called = str(number) if name is None else str(name)
            try:
                value = self._value(found)
            except ModelsError as error:
                yield Row(number, called, error, _hash_of_text(found), label, group, cloud)
            else:
                yield Row(number, called, value, hash_of(value), label, group, cloud)

    def _value(self, found: dict[str, Any]) -> Value:
        if self._field is None:
            return maker(self._spec, tuple(found), self._path)(list(found.values()))
        if self._field not in found:
            raise RowUnreadable(f"it has no {self._field!r}; write it as the first line has it")
        return maker(self._spec, (self._field,), self._path)([found[self._field]])

    def _objects(self) -> Iterator[tuple[int, "dict[str, Any] | RowUnreadable"]]:
        with self._path.open("rb") as file:
            number = 0
            for line in self._lines.of(file):
                if not line.strip():
                    continue
                number += 1
                try:
                    yield number, msgspec.json.decode(line, type=dict[str, Any])
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    yield number, RowUnreadable(f"it is no JSON object: {error}; write one a line")


def _sample_field(spec: TensorSpec, there: Sequence[str], path: Path) -> str:
    field = "text" if spec.dtype == "text" else "x"
    if field not in there:
        raise ColumnUnknown(
            f"{path} has no {field!r} in its first line, it has {', '.join(there) or 'nothing'}; "
            f"name what holds the sample {field!r}"
        )
    return field


class ParquetSource:
    """A Parquet file, read some rows at a time."""

    def __init__(self, path: Path, spec: TensorSpec, wanted: Columns) -> None:
        """Raises `DataUnreadable`, `ColumnUnknown`, `WrongShape`, `ExtraMissing`."""
        try:
            from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
        except ModuleNotFoundError as error:
            raise ExtraMissing(
                f"{error}; Parquet needs the extra `models`: install longstop[models]"
            ) from error
        self._path, self._failures = path, (ArrowException, OSError)
        try:
            self._file = parquet.ParquetFile(path)
        except self._failures as error:
            raise DataUnreadable(f"{path} is no Parquet file: {error}; write it again") from error
        self.expected: int | None = self._file.metadata.num_rows
        self._layout = _Layout(spec, self._file.schema_arrow.names, wanted, path, lambda cell: cell)

    @property
    def columns(self) -> Columns:
        return self._layout.columns

    def rows(self) -> Iterator[Row]:
        number = 0
        try:
            for batch in self._file.iter_batches(_PIECE):
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield self._layout.row(number, cells, _scalar)
        except self._failures as error:
            raise DataUnreadable(
                f"{self._path} cannot be read after row {number}: {error}; write it again"
            ) from error


def _scalar(cell: object) -> Cell:
    """What is said about a row: a number, a text; anything else as text."""
    return cell if cell is None or isinstance(cell, str | int | float) else str(cell)
