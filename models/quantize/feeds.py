"""Prepared inputs checked against a model's own, and cut into the batches it takes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, helper

from models.errors import CalibrationTooSmall, CalibrationUnfit
from models.quantize.options import Array
from models.quantize.reading import real_inputs

LEAST = 16
"""Fewer samples say nothing of a range."""
ENOUGH = 100
"""From here on ranges hardly move; fewer are used with a warning."""
_CHUNK_ROWS = 64
_CHUNK_BYTES = 16 << 20


class Input(NamedTuple):
    """One input of a model; None where it takes any length."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]


class Feeds(NamedTuple):
    """Samples for every input of one model, of its dtypes: arrays [n, ...]."""

    inputs: tuple[Input, ...]
    arrays: tuple[Array, ...]

    @property
    def n(self) -> int:
        return len(self.arrays[0])

    @property
    def batch(self) -> int | None:
        """The only batch size the model takes, or None."""
        return next((each.shape[0] for each in self.inputs if each.shape[0] is not None), None)

    def batches(self) -> Iterator[tuple[Array, ...]]:
        """All samples in order, in batches the model takes; the last is padded where it must be.

        Padding repeats the last sample: ranges stay as they are, and whoever collects outputs
        drops what is beyond `n`.
        """
        rows = self.batch or self._rows()
        for start in range(0, self.n, rows):
            cut = tuple(array[start : start + rows] for array in self.arrays)
            short = rows - len(cut[0])
            if self.batch is not None and short:
                cut = tuple(np.concatenate([each, np.repeat(each[-1:], short, 0)]) for each in cut)
            yield cut

    def sample(self, index: int) -> tuple[Array, ...]:
        """One sample as a request would feed it, repeated where the batch size is fixed."""
        rows = self.batch or 1
        return tuple(np.repeat(array[index : index + 1], rows, 0) for array in self.arrays)

    def _rows(self) -> int:
        each = sum(array[:1].nbytes for array in self.arrays)
        return max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(1, each)))


def inputs_of(model: ModelProto) -> tuple[Input, ...]:
    """The inputs of a model that a caller feeds."""
    return tuple(
        Input(
            value.name,
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                for dim in value.type.tensor_type.shape.dim
            ),
        )
        for value in real_inputs(model.graph)
    )


def fit(model: ModelProto, arrays: Sequence[Array], *, least: int = LEAST) -> Feeds:
    """`arrays` as feeds of `model`. Raises `CalibrationUnfit`, `CalibrationTooSmall`."""
    inputs = inputs_of(model)
    if len(arrays) != len(inputs):
        names = ", ".join(each.name for each in inputs)
        raise CalibrationUnfit(
            f"{len(arrays)} arrays came for a model with {len(inputs)} inputs ({names}); "
            "give one array for each, in this order"
        )
    fitted = tuple(_fitted(each, array) for each, array in zip(inputs, arrays, strict=True))
    counts = {len(array) for array in fitted}
    if len(counts) > 1:
        raise CalibrationUnfit(
            f"the inputs have {', '.join(map(str, sorted(counts)))} samples; "
            "sample i of every input belongs together, so their numbers must be equal"
        )
    if (n := counts.pop()) < least:
        raise CalibrationTooSmall(
            f"{n} samples came and {least} are the least; {ENOUGH} to 1,000 that look like what "
            "the device will see are usual"
        )
    return Feeds(inputs, fitted)


def _fitted(given: Input, array: Array) -> Array:
    if given.dtype.kind == "f" and array.dtype.kind == "f":
        array = array.astype(given.dtype, copy=False)  # float16 and float64 samples
    if array.dtype != given.dtype:
        raise CalibrationUnfit(
            f"samples of {given.name!r} are {array.dtype} and the model takes {given.dtype}; "
            "prepare them as the model's pipeline does"
        )
    fits = array.ndim == len(given.shape) and all(
        wanted is None or wanted == length
        for wanted, length in zip(given.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in given.shape[1:])
        raise CalibrationUnfit(
            f"samples of {given.name!r} have the shape {list(array.shape[1:])} and the model takes "
            f"[{wanted}]; give an array [n, ...] of prepared samples"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
        raise CalibrationUnfit(
            f"sample {bad} of {given.name!r} holds NaN or an infinity; leave it out or repair it"
        )
    return array
