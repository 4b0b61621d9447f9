"""The twin: a model whose answer is written in its input.

Its file is JSON, `{"classes": K, "skip": s}`: the logits are the K values of the flattened input
that follow the first s. With an edge file that skips none and a cloud file that skips K, a sample
of 2K values says what both will answer, so a test chooses hard or wrong at will.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from models.errors import RuntimeFailed
from models.runtimes.base import Floats, Provider


class TwinFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What a twin's model file holds."""

    classes: Annotated[int, Meta(ge=1)]
    skip: Annotated[int, Meta(ge=0)] = 0


class TwinRuntime:
    """Runs twin files."""

    name = "twin"
    provider = "cpu"

    def __init__(self, file: Path, *, provider: Provider) -> None:
        try:
            self._slice = msgspec.json.decode(file.read_bytes(), type=TwinFile)
        except (OSError, msgspec.DecodeError) as error:
            raise RuntimeFailed(
                f"{file.name} is no twin's file: {error}; build it again"
            ) from error

    def run(self, batch: Floats) -> Floats:
        flat = batch.reshape(len(batch), -1)
        first, last = self._slice.skip, self._slice.skip + self._slice.classes
        if flat.shape[1] < last:
            raise RuntimeFailed(
                f"a sample has {flat.shape[1]} values and the twin reads {last}; send larger ones"
            )
        return flat[:, first:last].copy()
