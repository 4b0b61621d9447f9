"""The twin: a model whose answer is written in its input.

Its file is JSON. `{"classes": K, "skip": s}`: the logits are the K values of the flattened input
that follow the first s. With an edge file that skips none and a cloud file that skips K, a sample
of 2K values says what both will answer, so a test chooses hard or wrong at will.

A twin with other ports names them: `inputs` and `outputs`. Its inputs are flattened and strung
together in their order; each output takes what fills its shape after the first `skip` values.
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct

from models.errors import RuntimeFailed
from models.runtimes.base import PLAIN, Array, Options, Port
from models.runtimes.providers import first_that_opens

Dtype = Literal["bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]
_Count = Annotated[int, Meta(ge=0)]


class TwinInput(Struct, frozen=True, forbid_unknown_fields=True):
    """An input of any shape, unless it has one. Shapes are without the batch axis."""

    name: str
    dtype: Dtype = "float32"
    shape: tuple[_Count, ...] | None = None


class TwinOutput(Struct, frozen=True, forbid_unknown_fields=True):
    """What follows the first `skip` values, as `dtype` (fractions are cut off), in this shape."""

    name: str
    shape: tuple[_Count, ...]
    skip: _Count = 0
    dtype: Dtype = "float32"


class TwinFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What a twin's model file holds: `classes` and `skip`, or `outputs`."""

    classes: _Count = 0
    skip: _Count = 0
    inputs: Annotated[tuple[TwinInput, ...], Meta(min_length=1)] = (TwinInput("x"),)
    outputs: tuple[TwinOutput, ...] = ()
    rows: Annotated[int, Meta(ge=1)] | None = None
    """How many rows it takes at a time; None takes any number."""

    def __post_init__(self) -> None:
        if (self.classes > 0) is (len(self.outputs) > 0):
            raise ValueError("a twin has either `classes` or `outputs`")


class _Cut(NamedTuple):
    first: int
    last: int
    shape: tuple[int, ...]
    dtype: str


class TwinRuntime:
    """Runs twin files."""

    name = "twin"
    version = "1"
    precision: Literal["f32"] = "f32"

    def __init__(self, file: Path, options: Options = PLAIN, /) -> None:
        try:
            twin = msgspec.json.decode(file.read_bytes(), type=TwinFile)
        except (OSError, msgspec.DecodeError) as error:
            raise RuntimeFailed(
                f"{file.name} is no twin's file: {error}; build it again"
            ) from error
        outputs = twin.outputs or (TwinOutput("logits", (twin.classes,), twin.skip),)
        self._rows = twin.rows
        self._cuts = tuple(
            _Cut(each.skip, each.skip + prod(each.shape), each.shape, each.dtype)
            for each in outputs
        )
        self.inputs = tuple(
            Port(each.name, each.dtype, () if each.shape is None else (twin.rows, *each.shape))
            for each in twin.inputs
        )
        self.outputs = tuple(
            Port(each.name, each.dtype, (twin.rows, *each.shape)) for each in outputs
        )
        self.provider, self.skipped = first_that_opens(options.provider, ("cpu",), str)

    def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
        self._check(feeds)
        count = len(feeds[0])
        rows = np.concatenate([feed.reshape(count, -1) for feed in feeds], axis=1)
        outputs = []
        for first, last, shape, dtype in self._cuts:
            if rows.shape[1] < last:
                raise RuntimeFailed(
                    f"a sample has {rows.shape[1]} values and the twin reads {last}; "
                    "send larger ones"
                )
            with np.errstate(invalid="ignore"):  # an integer port holds no NaN
                outputs.append(rows[:, first:last].astype(dtype).reshape(count, *shape))
        return tuple(outputs)

    def _check(self, feeds: Sequence[Array]) -> None:
        found = [(feed.dtype.name, feed.shape[1:]) for feed in feeds]
        wanted = [
            (port.dtype, port.shape[1:] if port.shape else feed[1])
            for port, feed in zip(self.inputs, found, strict=False)
        ]
        counts = {len(feed) for feed in feeds}
        if found != wanted or len(feeds) != len(self.inputs) or len(counts) != 1:
            raise RuntimeFailed(
                f"the twin was given {_words(feeds)} and takes "
                f"{', '.join(f'{port.dtype} {list(port.shape)}' for port in self.inputs)}; "
                "the package does not fit its model, build it again"
            )
        if self._rows is not None and counts != {self._rows}:
            raise RuntimeFailed(
                f"the twin takes {self._rows} rows at a time and was given {counts.pop()}; "
                "open it through `open_model`, which divides a batch"
            )


def _words(feeds: Sequence[Array]) -> str:
    return ", ".join(f"{feed.dtype} {list(feed.shape)}" for feed in feeds) or "nothing"
