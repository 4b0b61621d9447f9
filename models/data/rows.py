"""What every file of samples is read as: rows, one after the other, each with a value or a reason.

Rules:
1. A row that cannot be used does not end the reading: its value is the error.
2. Rows come in the same order each time, numbered from 1.
3. A hash is of the value alone, so that a sample is known again under another name or label.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from models.errors import ColumnUnknown, ModelsError
from models.pipeline.values import Value

Cell = float | int | str | bool | None
"""One field of a table; None where it is empty."""


class Row(NamedTuple):
    """One sample as it stands in its file."""

    number: int
    """Its place, from 1."""
    name: str
    """What its file calls it: a path in a folder, what a column says, else the number."""
    value: Value | ModelsError
    hash: int
    """xxhash64 of the value; of a value that could not be made, of what stood there."""
    label: Cell = None
    group: Cell = None
    cloud: Cell = None


class Columns(NamedTuple):
    """Which columns are no part of the sample. None: the usual name, if there is one."""

    label: str | None = None
    group: str | None = None
    cloud: str | None = None
    """Holds what the cloud model answered."""
    name: str | None = None
    """Holds what a row is called; None: its number."""


USUAL = Columns("label", "group", "cloud")


class Source(Protocol):
    """A file or folder of samples."""

    @property
    def columns(self) -> Columns:
        """What it holds beside the samples; None for what it does not."""
        ...

    @property
    def expected(self) -> int | None:
        """How many rows there are: counted, or guessed from what has been read; None before."""
        ...

    def rows(self) -> Iterator[Row]:
        """Every row, from the first. Raises `DataUnreadable` for a file damaged further down."""
        ...


def found_columns(wanted: Columns, there: Sequence[str], path: Path) -> Columns:
    """The wanted columns that are there. Raises `ColumnUnknown` for a named one that is not."""
    found = []
    for name, usual in zip(wanted, USUAL, strict=True):
        if name is not None and name not in there:
            raise ColumnUnknown(
                f"{path} has no column {name!r}; it has {', '.join(there) or 'none'}"
            )
        found.append(name or (usual if usual in there else None))
    return Columns(*found)


def hash_of(value: Value) -> int:
    """xxhash64 of a raw sample, as `calibrate.overlap` has it; of a record, of its sorted JSON."""
    from xxhash import xxh64_intdigest

    match value:
        case bytes():
            return xxh64_intdigest(value)
        case str():
            return xxh64_intdigest(value.encode())
        case np.ndarray():
            return xxh64_intdigest(np.ascontiguousarray(value).tobytes())
        case _:
            return xxh64_intdigest(msgspec.json.encode(value, order="deterministic"))
