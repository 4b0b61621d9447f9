"""From what a file holds to what a package takes in: arrays of its type, texts, records, bytes.

Numbers are converted where nothing but precision can be lost: float64 to float32, uint8 to float32,
whole numbers to a type that holds them. Any other conversion is the user's to decide.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data.rows import Cell
from models.errors import ColumnUnknown, DataUnreadable, RowUnreadable, WrongDtype, WrongShape
from models.manifest import TensorSpec
from models.pipeline.kinds import RAW
from models.pipeline.values import Value
from models.tensors import check_sample

Make = Callable[[Sequence[Any]], Value]
"""Fields in the order of the columns to a value. Raises `InputError` or `RowUnreadable`."""
_TRUTHS = {"true": True, "false": False}


def array_of(spec: TensorSpec, found: npt.NDArray[Any]) -> Value:
    """One sample as the package takes it. Raises `WrongDtype`, `WrongShape`, `NotFinite`."""
    check_type(spec, found.dtype)
    with np.errstate(over="ignore"):  # too large becomes infinite, and that is refused by name
        return check_sample(spec, found.astype(spec.dtype))


def check_type(spec: TensorSpec, found: np.dtype[Any]) -> None:
    """Raises `WrongDtype` unless values of this type can become the package's."""
    wanted = np.dtype(spec.dtype)
    floats = found.kind == wanted.kind == "f"
    if not (
        floats or np.can_cast(found, wanted, "safe") or (found.kind, wanted.kind) == ("u", "f")
    ):
        raise WrongDtype(
            f"the values are {found}, the package wants {spec.dtype}; convert them first"
        )


def cell_of(text: str) -> Cell:
    """A field of a CSV file: empty is missing; then a truth value, a number, else a text."""
    if not text:
        return None
    if text[0] in "0123456789+-." and not _is_code(text):
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                pass
    elif text in ("nan", "NaN", "NAN"):
        return None
    return _TRUTHS.get(text.lower(), text)


def _is_code(text: str) -> bool:
    """`007` is a name and not a number; nor does `1_000` count as one."""
    digits = text.lstrip("+-")
    return "_" in text or (len(digits) > 1 and digits[0] == "0" and digits.isdigit())


def maker(spec: TensorSpec, fields: Sequence[str], path: Path) -> Make:
    """How the fields of a table become the package's input.

    A record takes them by name, a text the one called `text` or the only one, an array of k values
    k columns, or the only one if that holds lists. Raises `ColumnUnknown`, `WrongShape`,
    `DataUnreadable` for a table that can hold no such input.
    """
    names = tuple(fields)
    if spec.dtype == "record":
        return lambda cells: _record(names, cells)
    if spec.dtype in ("text", "bytes"):
        at = _only(names, spec.dtype, path)
        wanted = str if spec.dtype == "text" else bytes
        return lambda cells: _one(cells[at], wanted, names[at])
    if len(names) == 1 and math.prod(spec.shape) != 1:
        return lambda cells: _listed(spec, cells[0], names[0])
    if len(names) != math.prod(spec.shape):
        raise WrongShape(
            f"{path} has {len(names)} columns of values, the package wants "
            f"{list(spec.shape)} ({math.prod(spec.shape)}); leave the others out"
        )
    return lambda cells: _numbers(spec, names, cells)


def _only(names: tuple[str, ...], called: str, path: Path) -> int:
    if called in names:
        return names.index(called)
    if len(names) == 1:
        return 0
    raise ColumnUnknown(
        f"{path} has no column {called!r}, it has {', '.join(names) or 'none'}; "
        f"name the column with the samples {called!r}"
    )


def _one(cell: Any, wanted: type[str] | type[bytes], name: str) -> Value:
    if not isinstance(cell, wanted) or not cell:
        raise RowUnreadable(f"column {name!r} holds no {wanted.__name__}; write one")
    return cell


def _record(names: tuple[str, ...], cells: Sequence[Any]) -> Value:
    record: dict[str, Cell] = {}
    for name, cell in zip(names, cells, strict=True):
        if isinstance(cell, float) and math.isnan(cell):
            record[name] = None
        elif cell is None or isinstance(cell, str | bool | int | float):
            record[name] = cell
        else:
            raise RowUnreadable(
                f"column {name!r} holds a {type(cell).__name__}; a record holds numbers, texts and "
                "truth values, so write it as one of these"
            )
    return record


def _numbers(spec: TensorSpec, names: tuple[str, ...], cells: Sequence[Any]) -> Value:
    for name, cell in zip(names, cells, strict=True):
        if not isinstance(cell, int | float):
            shown = "empty" if cell is None else repr(cell)
            raise RowUnreadable(f"column {name!r} is {shown}; write a number")
    return _listed(spec, list(cells), "the columns")


def _listed(spec: TensorSpec, cell: Any, name: str) -> Value:
    """A list of numbers, nested as the shape is or flat."""
    if not isinstance(cell, list):
        raise RowUnreadable(f"{name!r} is {cell!r:.60}; write a list of {list(spec.shape)} numbers")
    try:
        found = np.array(cell)
    except ValueError as error:
        raise RowUnreadable(f"{name!r} holds lists of different lengths: {error}") from error
    if found.dtype.kind not in "biuf":
        raise RowUnreadable(f"{name!r} holds something else than numbers; write numbers")
    if found.size == math.prod(spec.shape):
        found = found.reshape(spec.shape)
    return array_of(spec, _narrowed(spec, found))


def _narrowed(spec: TensorSpec, found: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers as text or JSON have no type: whole ones fit any type that holds them."""
    wanted = np.dtype(spec.dtype)
    if wanted.kind == "f" or found.dtype == wanted:
        return found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        narrow = found.astype(wanted)
    if not np.array_equal(narrow, found):
        raise RowUnreadable(f"the numbers are not {spec.dtype}; write whole numbers in its range")
    return narrow


def refuse_raw(spec: TensorSpec, path: Path, *, holds: str) -> None:
    """Raises `DataUnreadable` where a form of file cannot hold what the package takes."""
    if spec.dtype in RAW:
        raise DataUnreadable(
            f"{path} holds {holds}, the package takes {spec.dtype}; give a folder of files or a "
            "table"
        )
