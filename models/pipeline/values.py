"""What flows through a pipeline: arrays, and what is not yet an array."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Record = Mapping[str, float | int | str | bool | None]
"""One row of a table: fields by name, None where a value is missing."""
Value = Array | bytes | str | Record
Compiled = Callable[[Value], Value]
"""A step ready to run; its constants are made when it is compiled."""


def array(value: Value) -> Array:
    """The value, which the plan has found to be an array here."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"an array was planned here, not {type(value).__name__}")
    return value


def text(value: Value) -> str:
    """The value, which the plan has found to be a text here."""
    if not isinstance(value, str):
        raise TypeError(f"a text was planned here, not {type(value).__name__}")
    return value


def record(value: Value) -> Record:
    """The value, which the plan has found to be a record here."""
    if not isinstance(value, Mapping):
        raise TypeError(f"a record was planned here, not {type(value).__name__}")
    return value
