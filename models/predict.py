"""One package, ready to answer: the same code on device, gateway and an operator's desk.

A `Predictor` prepares a raw sample, runs the model, and says label and confidence. It judges
nothing: whether an answer is hard is `calibrate.decide`'s to say.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from models.calibrate.scores import confidence_of
from models.errors import GoldenMismatch
from models.golden import golden_inputs
from models.package import Package
from models.pipeline.graph import Graph
from models.runtimes.base import Floats, Provider
from models.runtimes.choose import open_model
from models.tensors import Sample


class Prediction(Struct, frozen=True):
    """What the model says about one sample."""

    label: str
    index: int
    confidence: float | None
    """None when the logits are NaN, infinite or all equal; the label then means nothing."""
    logits: Floats
    prepare_us: int
    run_us: int
    """Of the whole batch the sample was run in."""


class Predictor:
    """Answers for one role of one package. One thread at a time, like the runtime in it."""

    def __init__(self, package: Package, graph: Graph, clock_ns: Callable[[], int]) -> None:
        self.package = package
        self.graph = graph
        self._labels = package.manifest.labels
        self._temperature = package.manifest.temperature(package.role)
        self._clock_ns = clock_ns

    @classmethod
    def load(
        cls,
        package: Package,
        *,
        runtime: str | None = None,
        provider: Provider = "cpu",
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> "Predictor":
        """Open the model of a package. Raises `RuntimeFailed`, `UnknownRuntime`."""
        manifest, model = package.manifest, package.pipeline.model
        opened = open_model(package.model_file, runtime or model.form, provider=provider)
        graph = Graph(package.pipeline, manifest.inputs[0], len(manifest.labels), opened)
        return cls(package, graph, clock_ns)

    def predict(self, sample: Sample) -> Prediction:
        """Answer for one raw sample that passed `check_input`. Raises `RuntimeFailed`."""
        begun = self._clock_ns()
        batch = self.graph.prepare(sample)[None]
        prepared = self._clock_ns()
        row = self.graph.infer(batch)[0]
        ended = self._clock_ns()
        return self._prediction(
            row, prepare_us=(prepared - begun) // 1000, run_us=(ended - prepared) // 1000
        )

    def predict_batch(self, samples: Sequence[Sample]) -> tuple[Prediction, ...]:
        """Answers for raw samples, run as one batch. Raises `RuntimeFailed`."""
        begun = self._clock_ns()
        batch = np.stack([self.graph.prepare(sample) for sample in samples])
        prepared = self._clock_ns()
        logits = self.graph.infer(batch)
        ended = self._clock_ns()
        return self.predictions(
            logits, prepare_us=(prepared - begun) // 1000, run_us=(ended - prepared) // 1000
        )

    def predictions(
        self, logits: Floats, *, prepare_us: int, run_us: int
    ) -> tuple[Prediction, ...]:
        """Label and confidence of every row, for who ran the graph by other means."""
        return tuple(self._prediction(row, prepare_us=prepare_us, run_us=run_us) for row in logits)

    def _prediction(self, row: Floats, *, prepare_us: int, run_us: int) -> Prediction:
        score = confidence_of(row, self._temperature)
        # argmax takes a NaN for the largest; without a confidence it must not choose the label.
        usable = row if score is not None else np.where(np.isnan(row), -np.inf, row)
        index = int(usable.argmax())
        return Prediction(self._labels[index], index, score, row, prepare_us, run_us)

    def check_golden(self) -> None:
        """Return if this machine computes what the package stores. Raises `GoldenMismatch`."""
        manifest, role = self.package.manifest, self.package.role
        golden = manifest.golden
        stored = np.array(manifest.golden_logits(role), dtype=np.float32)
        wanted = self.predictions(stored, prepare_us=0, run_us=0)
        found = self.predict_batch(golden_inputs(manifest.inputs[0], golden))
        for at, (want, have) in enumerate(zip(wanted, found, strict=True)):
            if want.label != have.label or not _near(want, have, golden.tolerance):
                raise GoldenMismatch(
                    f"{role.value} model of {manifest.task} {manifest.version} answers golden "
                    f"input {at} with {_words(have)}, the package stores {_words(want)}; its "
                    "threshold means nothing on this machine's runtime, so do not use it here"
                )


def _near(want: Prediction, have: Prediction, tolerance: float) -> bool:
    if want.confidence is None or have.confidence is None:
        return want.confidence is have.confidence
    return abs(want.confidence - have.confidence) <= tolerance


def _words(prediction: Prediction) -> str:
    if prediction.confidence is None:
        return f"{prediction.label} (no confidence)"
    return f"{prediction.label} ({prediction.confidence:.4f})"
