"""Samples with what is known of them, for calibrating and evaluating: from the files users have.

docs/reference/data-files.md says what each form of file holds. Here a row that cannot be read, or a
label that is none, ends the reading: a promise made on the rest would be made on other data than
its maker thinks. (`batch` goes on instead.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from models.data.folder import FolderSource
from models.data.forms import open_source
from models.data.objects import read_objects
from models.data.rows import Cell, Columns, Row, Source
from models.errors import DataEmpty, LabelOutside, ModelsError, RowUnreadable
from models.manifest import TensorSpec
from models.pipeline.answers import Detected
from models.pipeline.values import Value

Integers = npt.NDArray[np.int64]
Progress = Callable[[int, int | None], None]
"""Told how many rows have been read, and how many there are as far as that is known."""
_TELL_EVERY = 256


@dataclass(frozen=True)
class Samples:
    """Samples and what is known of them; every array has one entry a sample."""

    values: Sequence[Value]
    """As the package takes them. Of a folder they are read when they are asked for."""
    y: Integers | None
    """Places of the true labels in the label set; None without labels."""
    targets: npt.NDArray[np.float64] | None
    """True numbers, where the answer is a number and there is no label set."""
    groups: npt.NDArray[Any] | None
    """int64 or str: which person, device or clip a sample is from."""
    cloud: Integers | None
    """Places of the labels the cloud model answered."""
    names: tuple[str, ...]
    hashes: npt.NDArray[np.uint64]
    """xxhash64 of the values: equal samples have equal hashes."""
    objects: tuple[Detected, ...] | None = None
    """True objects, where the answer is objects."""

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: npt.NDArray[np.intp]) -> "Samples":
        """The samples at these places, in this order."""
        return Samples(
            values=_Picked(self.values, rows),
            y=None if self.y is None else self.y[rows],
            targets=None if self.targets is None else self.targets[rows],
            groups=None if self.groups is None else self.groups[rows],
            cloud=None if self.cloud is None else self.cloud[rows],
            names=tuple(self.names[row] for row in rows),
            hashes=self.hashes[rows],
            objects=None
            if self.objects is None
            else tuple(self.objects[row] for row in rows.tolist()),
        )


def load_samples(
    path: Path,
    spec: TensorSpec,
    labels: tuple[str, ...],
    *,
    label: str | None = None,
    group: str | None = None,
    cloud: str | None = None,
    name: str | None = None,
    objects: bool = False,
    progress: Progress | None = None,
) -> Samples:
    """The samples of a file or folder, for a package that takes `spec` and knows `labels`.

    `label`, `group`, `cloud` and `name` name columns; without them the usual ones are taken where
    they are (`label`, or `y` in npz; `group`; `cloud`). A label is one of `labels` by name, or a
    place among them, from 0; with no `labels` it is a number; with `objects` a list of them
    (see `data.objects`).

    Raises `FileMissing`, `DataUnreadable`, `DataEmpty`, `ColumnUnknown`, `RowUnreadable`,
    `LabelOutside`, `WrongShape`, `WrongDtype`, `ExtraMissing`.
    """
    source = open_source(path, spec, Columns(label, group, cloud, name))
    lazy = isinstance(source, FolderSource)
    values, kept = [], []
    for row in source.rows():
        if isinstance(row.value, ModelsError):
            raise RowUnreadable(
                f"{path}, row {row.number}{_called(row)}: {row.value}"
            ) from row.value
        if not lazy:
            values.append(row.value)
        kept.append(row._replace(value=b""))  # a picture is let go once it is hashed
        if progress is not None and row.number % _TELL_EVERY == 0:
            progress(row.number, source.expected)
    if not kept:
        raise DataEmpty(f"{path} holds no rows; write some")
    if progress is not None:
        progress(len(kept), len(kept))
    return _known(path, source, kept, values, labels, objects=objects)


def _known(
    path: Path,
    source: Source,
    rows: Sequence[Row],
    values: Sequence[Value],
    labels: tuple[str, ...],
    *,
    objects: bool,
) -> Samples:
    columns, places = source.columns, {name: at for at, name in enumerate(labels)}

    def places_of(cells: Sequence[Cell]) -> Integers:
        found = [_place(cell, places, row, path) for cell, row in zip(cells, rows, strict=True)]
        return np.array(found, np.int64)

    truth = [row.label for row in rows] if columns.label is not None else None
    clouds = [row.cloud for row in rows] if columns.cloud is not None and labels else None
    seen = None
    if objects and truth is not None:
        seen, truth = _objects(truth, rows, path, labels), None
    return Samples(
        values=_Files(source) if isinstance(source, FolderSource) else tuple(values),
        y=places_of(truth) if truth is not None and labels else None,
        targets=_numbers(truth, rows, path) if truth is not None and not labels else None,
        groups=None if columns.group is None else _groups(rows, path),
        cloud=None if clouds is None else places_of(clouds),
        names=tuple(row.name for row in rows),
        hashes=np.array([row.hash for row in rows], np.uint64),
        objects=seen,
    )


def _objects(
    cells: Sequence[Cell], rows: Sequence[Row], path: Path, labels: tuple[str, ...]
) -> tuple[Detected, ...]:
    found = []
    for cell, row in zip(cells, rows, strict=True):
        try:
            found.append(read_objects(cell, labels))
        except ValueError as error:
            raise LabelOutside(
                f"{path}, row {row.number}{_called(row)}: {error}; write "
                '[{"label": "…", "box": [x1, y1, x2, y2]}], or [] for nothing'
            ) from error
    return tuple(found)


def _place(cell: Cell, places: dict[str, int], row: Row, path: Path) -> int:
    """Where a label stands in the label set. A text is a name first, then perhaps a number."""
    if isinstance(cell, str):
        if cell in places:
            return places[cell]
        number = int(cell) if cell.isdecimal() else -1
    elif cell is None or isinstance(cell, bool) or not float(cell).is_integer():
        number = -1
    else:
        number = int(cell)
    if not 0 <= number < len(places):
        said = "has no label" if cell is None else f"has the label {cell!r}"
        raise LabelOutside(
            f"{path}, row {row.number}{_called(row)} {said}; labels are {_some(list(places))}, or "
            f"0 to {len(places) - 1}"
        )
    return number


def _numbers(cells: Sequence[Cell], rows: Sequence[Row], path: Path) -> npt.NDArray[np.float64]:
    found = np.empty(len(cells))
    for at, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        try:
            found[at] = np.nan if cell is None else float(cell)
        except ValueError:
            found[at] = np.nan
        if not np.isfinite(found[at]):
            raise LabelOutside(
                f"{path}, row {row.number}{_called(row)} has {cell!r} for a true value; "
                "write a number"
            )
    return found


def _groups(rows: Sequence[Row], path: Path) -> npt.NDArray[Any]:
    """Groups as whole numbers where all are, else as texts."""
    cells = [str(row.group) for row in rows]
    for row in rows:
        if row.group is None:
            raise RowUnreadable(f"{path}, row {row.number}{_called(row)} has no group; write one")
    whole = all(cell.isdecimal() and len(cell) < 19 for cell in cells)
    if whole and not any(cell[0] == "0" and len(cell) > 1 for cell in cells):
        return np.array([int(cell) for cell in cells], np.int64)
    return np.array(cells)


def _called(row: Row) -> str:
    return "" if row.name == str(row.number) else f" ({row.name})"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


class _Files(Sequence[Value]):
    """The files of a folder, read when they are asked for."""

    def __init__(self, source: FolderSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source.files)

    @overload
    def __getitem__(self, at: int) -> Value: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Value]: ...
    def __getitem__(self, at: int | slice) -> Value | Sequence[Value]:
        if isinstance(at, slice):
            return _Picked(self, np.arange(len(self))[at])
        return self._source.read(self._source.files[at].name)


class _Picked(Sequence[Value]):
    """Some of other values, in an order of its own."""

    def __init__(self, values: Sequence[Value], rows: npt.NDArray[np.intp]) -> None:
        self._values, self._rows = values, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Value: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Value]: ...
    def __getitem__(self, at: int | slice) -> Value | Sequence[Value]:
        if isinstance(at, slice):
            return _Picked(self._values, self._rows[at])
        return self._values[int(self._rows[at])]
