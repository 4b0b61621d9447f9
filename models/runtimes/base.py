"""The port between a pipeline and whatever runs a model file.

Rules every runtime keeps, checked by one contract suite:
1. Opening a file and running it raise `RuntimeFailed` and nothing else of the library's own.
2. `run` takes one array per input port and gives one per output port, in the ports' order, of the
   ports' dtypes. The first axis counts rows; row i of an output depends on row i of the inputs.
3. `run` neither keeps nor changes the arrays it is given, not in later calls either, and what it
   returns belongs to the caller.
4. A value that is not finite goes through: judging it is the decision's work, not the runtime's.
5. An array of another dtype than its port's is refused, never converted.
6. One thread calls `run` at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.runtimes.wish import Precision, Provider

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Port(NamedTuple):
    """One input or output of a model file."""

    name: str
    dtype: str
    """numpy's name of it."""
    shape: tuple[int | None, ...]
    """With the batch axis; None where any length goes, () where the file does not say."""


class Skipped(NamedTuple):
    """A provider that was wanted before the one in use, and why it is not the one."""

    provider: str
    reason: str


class Options(NamedTuple):
    """How a file is to be opened."""

    provider: Provider = "cpu"
    precision: Precision = "f32"
    threads: int = 1
    cache: Path | None = None
    """Folder of this device's own artefacts; None makes none."""


PLAIN = Options()


class Runtime(Protocol):
    """One opened model file."""

    @property
    def name(self) -> str:
        """The runtime, as `choose` knows it."""
        ...

    @property
    def version(self) -> str:
        """The library's."""
        ...

    @property
    def provider(self) -> str:
        """What computes, in small letters: `cpu`, `cuda`, `gpu`, `npu`."""
        ...

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Providers passed over on the way to this one."""
        ...

    @property
    def precision(self) -> Precision: ...

    @property
    def inputs(self) -> tuple[Port, ...]: ...

    @property
    def outputs(self) -> tuple[Port, ...]: ...

    def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs of a batch. Raises `RuntimeFailed`."""
        ...


class Opener(Protocol):
    """How a runtime opens a file. Raises `RuntimeFailed`."""

    def __call__(self, file: Path, options: Options = ..., /) -> Runtime: ...
