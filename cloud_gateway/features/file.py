"""Rows of features from a CSV file, in pieces a request may hold.

The first line names the columns. One is the key, one may be the time (seconds since 1970), every
other is a feature: a number, or nothing where there is none.
"""

import csv
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from cloud_gateway.errors import BadRequest
from cloud_gateway.shapes import FeatureRow

PIECE = 500
"""Rows in one request; of the widest rows it stays below the limit of a JSON body."""
_WIDE = 12_000
"""Numbers in one request, whatever the rows' width."""


class _Columns(NamedTuple):
    """What the first line says."""

    file: str
    names: tuple[str, ...]
    key: int
    updated: int | None


def pieces(file: Path, *, key: str | None, updated: str | None) -> Iterator[tuple[FeatureRow, ...]]:
    """Every row, some hundred at a time. `key`: a column, else the first. Raises `BadRequest`."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            lines = csv.reader(opened, strict=True)
            columns = _columns(file.name, next(lines, []), key, updated)
            most = max(1, min(PIECE, _WIDE // len(columns.names)))
            filled = (
                _row(columns, number, cells) for number, cells in enumerate(lines, 2) if cells
            )
            while rows := tuple(islice(filled, most)):
                yield rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"{file} cannot be read as CSV: {error}; save it as UTF-8") from error


def _columns(file: str, names: list[str], key: str | None, updated: str | None) -> _Columns:
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadRequest(f"the first line of {file} must name a key and features, each once")
    for wanted in (key, updated):
        if wanted is not None and wanted not in names:
            raise BadRequest(
                f"{file} has no column {wanted!r}, only {', '.join(names[:20])}; name one of them"
            )
    place = 0 if key is None else names.index(key)
    return _Columns(file, tuple(names), place, None if updated is None else names.index(updated))


def _row(columns: _Columns, number: int, cells: list[str]) -> FeatureRow:
    where = f"{columns.file}, row {number}"
    if len(cells) != len(columns.names):
        raise BadRequest(f"{where} has {len(cells)} cells for {len(columns.names)} columns")
    if not cells[columns.key]:
        raise BadRequest(f"{where} has no key; every row needs one")
    numbers = {
        name: _number(cell, f"{where}, column {name!r}")
        for at, (name, cell) in enumerate(zip(columns.names, cells, strict=True))
        if at not in (columns.key, columns.updated)
    }
    at_cell = "" if columns.updated is None else cells[columns.updated]
    return FeatureRow(cells[columns.key], numbers, _number(at_cell, f"{where}, the time"))


def _number(cell: str, where: str) -> float | None:
    if not cell.strip():
        return None
    try:
        found = float(cell)
    except ValueError as error:
        raise BadRequest(f"{where} holds {cell[:40]!r}, which is no number; correct it") from error
    if not math.isfinite(found):
        raise BadRequest(
            f"{where} holds {cell[:40]!r}; leave the cell empty where nothing is known"
        )
    return found
