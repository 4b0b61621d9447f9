"""Finds calibration samples among tuning and training samples. One is one too many.

A threshold is tested on samples the model, the temperature and the grid never saw; on others the
model is surer than it will be in use, and the certificate is worth nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import RowsOverlap

Hashes = npt.NDArray[np.uint64]


def row_hashes(samples: npt.NDArray[Any] | Iterable[bytes | str]) -> Hashes:
    """xxhash64 of every raw sample, uint64 [n]: of an array's rows, of bytes, or of texts.

    Equal bytes give equal hashes, whatever the type they are read as; of two arrays the types have
    to be the same for that. Different samples share a hash with chance 2^-64.
    """
    from xxhash import xxh64_intdigest

    if isinstance(samples, np.ndarray):
        rows: Iterable[bytes] = (np.ascontiguousarray(row).tobytes() for row in samples)
    else:
        rows = (row.encode() if isinstance(row, str) else row for row in samples)
    return np.array([xxh64_intdigest(row) for row in rows], dtype=np.uint64)


def overlapping(calibration: Hashes, other: Hashes) -> npt.NDArray[np.intp]:
    """Places of the calibration samples that are in `other`, too: leave them out of either."""
    return np.flatnonzero(np.isin(calibration, other))


def refuse_overlap(calibration: Hashes, others: Mapping[str, Hashes]) -> None:
    """Raises `RowsOverlap` when a calibration sample is in one of `others`, by its name."""
    for name, other in others.items():
        places = overlapping(calibration, other)
        if len(places):
            raise RowsOverlap(
                f"{len(places)} of {len(calibration)} calibration samples are {name} samples, too, "
                f"the first is number {int(places[0])}; leave them out of one of the two"
            )
