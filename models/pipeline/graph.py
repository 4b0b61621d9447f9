"""A declared pipeline ready to run: compiled steps, then a model."""

from collections.abc import Sequence

import numpy as np

from models.errors import RuntimeFailed
from models.manifest import TensorSpec
from models.pipeline.check import Kind
from models.pipeline.declared import Pipeline
from models.pipeline.steps import compile_steps
from models.runtimes.base import Floats, Runtime
from models.tensors import Sample


class Graph:
    """From raw samples to logits. Samples are taken to have passed `check_input`."""

    def __init__(
        self, pipeline: Pipeline, given: TensorSpec, classes: int, runtime: Runtime
    ) -> None:
        self._prepare = compile_steps(pipeline.prepare.steps, Kind(given.dtype, given.shape))
        self.runtime = runtime
        self._classes = classes

    def prepare(self, sample: Sample) -> Floats:
        """One raw sample as the model takes it, without batch axis."""
        return self._prepare(sample)

    def infer(self, batch: Floats) -> Floats:
        """Logits [n, K] of a batch of prepared samples. Raises `RuntimeFailed`."""
        logits = self.runtime.run(batch)
        if logits.shape != (len(batch), self._classes):
            raise RuntimeFailed(
                f"model gave an output of shape {list(logits.shape)} for {len(batch)} samples and "
                f"{self._classes} labels; the package does not fit its model, build it again"
            )
        return logits

    def run(self, sample: Sample) -> Floats:
        """Logits [K] of one raw sample."""
        logits: Floats = self.infer(self.prepare(sample)[None])[0]
        return logits

    def run_batch(self, samples: Sequence[Sample]) -> Floats:
        """Logits [n, K] of raw samples, each prepared alone and then run together."""
        return self.infer(np.stack([self.prepare(sample) for sample in samples]))
