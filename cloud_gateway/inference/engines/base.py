"""The port to whatever computes the cloud's answers.

Rules every engine keeps:
1. `answer` takes samples that passed `models.tensors.check_input` for `given`, and answers each.
2. One thread calls `answer` at a time.
3. What cannot be computed raises `RuntimeFailed`; nothing of a library's own escapes.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from models.manifest import TensorSpec
from models.pipeline.values import Value
from models.predict import Prediction


class Wanted(Struct, frozen=True):
    """The release whose cloud model should answer for its task."""

    task: str
    version: str
    archive_sha256: str


class Engine(Protocol):
    """One cloud model, loaded and warm."""

    @property
    def given(self) -> TensorSpec: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def classifies(self) -> bool:
        """Whether it chooses one of the labels, from logits."""
        ...

    @property
    def provider(self) -> str:
        """What computes: `cpu` or `cuda`."""
        ...

    @property
    def warm_run_us(self) -> int:
        """How long one answer took, warm."""
        ...

    def answer(self, samples: Sequence[Value]) -> Sequence[Prediction]: ...


Open = Callable[[Wanted], Engine]
"""Loads and warms an engine. Raises `ModelsError`, `OSError`. Runs off the event loop."""
