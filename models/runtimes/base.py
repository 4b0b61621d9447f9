"""The port between a pipeline and whatever runs a model file.

Rules every runtime keeps, checked by one contract suite:
1. Opening a file and running it raise `RuntimeFailed` and nothing else of the library's own.
2. `run` takes float32 [n, ...] and gives float32 [n, K]; row i depends on sample i alone.
3. `run` neither keeps nor changes the batch it is given, and what it returns belongs to the caller.
4. A value that is not finite goes through: judging it is the decision's work, not the runtime's.
5. One thread calls `run` at a time.
"""

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Provider = Literal["cpu", "auto"]
"""`auto` takes the accelerator where there is one, else the processor."""


class Runtime(Protocol):
    """One opened model file."""

    @property
    def name(self) -> str:
        """The runtime, as `choose` knows it."""
        ...

    @property
    def provider(self) -> str:
        """What computes: `cpu` or `cuda`."""
        ...

    def run(self, batch: Floats) -> Floats:
        """Logits of a batch. Raises `RuntimeFailed`."""
        ...


class Opener(Protocol):
    """How a runtime opens a file. Raises `RuntimeFailed`."""

    def __call__(self, file: Path, *, provider: Provider) -> Runtime: ...
