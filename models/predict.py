"""One package, ready to answer: the same code on device, gateway and an operator's desk.

A `Predictor` prepares a raw sample, runs the graph, and says label, answer and confidence. It
judges nothing: whether an answer is hard is `calibrate.decide`'s to say.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from models.errors import GoldenMismatch
from models.golden import golden_inputs, read_samples
from models.manifest import Golden, Role, Said
from models.package import Package
from models.pipeline.answers import Answer, Classified
from models.pipeline.declared import Features, Model
from models.pipeline.features import FeatureSource
from models.pipeline.graph import Graph
from models.pipeline.heads import Search
from models.pipeline.nodes import Resources
from models.pipeline.reading import References, reader_of
from models.pipeline.values import Array, Value
from models.references import read_references
from models.runtimes.base import Runtime
from models.runtimes.choose import open_model
from models.runtimes.wish import Precision, Provider


class Prediction(Struct, frozen=True):
    """What a pipeline says about one sample."""

    label: str
    """The answer in a few words: a class, `2 bag, 1 shoe`, `12.3 kWh`."""
    confidence: float | None
    """None when the output is NaN, infinite or says nothing; the answer then means nothing."""
    answer: Answer
    output: Array
    """What the graph ended in: logits [K] for a class."""
    prepare_us: int
    run_us: int
    """Of the whole batch the sample was run in."""
    feature_age_s: float | None = None
    """How old the oldest looked-up features are; NaN when a declared default stood in for them;
    None when the pipeline looks up none."""

    def details(self) -> str:
        """The whole answer as JSON; empty where the label says it all."""
        if isinstance(self.answer, Classified) and len(self.answer.top) < 2:
            return ""
        return msgspec.json.encode(self.answer).decode()


class Predictor:
    """Answers for one role of one package. One thread at a time, like the runtimes in it."""

    def __init__(self, package: Package, graph: Graph, clock_ns: Callable[[], int]) -> None:
        manifest = package.manifest
        self.package = package
        self.graph = graph
        self._clock_ns = clock_ns
        self._without_sources: Predictor | None = None
        edge = package.role is Role.EDGE
        self._read = reader_of(
            manifest.answer,
            temperature=manifest.certificate.temperature if edge else 1.0,
            score=manifest.certificate.score if edge else "head",  # no rule reads the cloud's
            references=self._references(),
        )

    def _references(self) -> References | None:
        head = self.package.manifest.answer
        if not isinstance(head, Search):
            return None
        return read_references(head, self.package.path(head.reference), self.graph.output.shape[0])

    @classmethod
    def load(
        cls,
        package: Package,
        *,
        runtime: str | None = None,
        provider: Provider = "cpu",
        precision: Precision = "f32",
        allow_custom: bool = False,
        sources: Mapping[str, FeatureSource] | None = None,
        opener: Callable[[Model], Runtime] | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> "Predictor":
        """Open the models of a package, by `opener` where there is one. Raises `ModelsError`."""
        opened: dict[str, Runtime] = {}

        def open_one(node: Model) -> Runtime:
            name = node.form if runtime is None or node.form == "twin" else runtime
            file = package.path(node.file)
            opened[node.id] = (
                open_model(file, name, provider=provider, precision=precision)
                if opener is None
                else opener(node)
            )
            return opened[node.id]

        given = package.manifest.input
        resources = Resources(package.folder, allow_custom, sources or {})
        graph = Graph(package.pipeline, given.name, given.kind, open_one, resources)
        made = cls(package, graph, clock_ns)
        if sources and any(isinstance(node, Features) for node in package.pipeline.nodes):
            bare = Resources(package.folder, allow_custom)
            again = Graph(
                package.pipeline, given.name, given.kind, lambda node: opened[node.id], bare
            )
            made._without_sources = cls(package, again, clock_ns)
        return made

    @property
    def without_sources(self) -> "Predictor":
        """The same opened models where every feature has its default.

        Golden answers are made so: what a source says of a key is no fact about this machine.
        """
        return self._without_sources or self

    def predict(self, sample: Value) -> Prediction:
        """Answer for one raw sample that passed `check_input`. Raises `RuntimeFailed`."""
        begun = self._clock_ns()
        places = self.graph.prepare(sample)
        prepared = self._clock_ns()
        output = self.graph.finish(places)
        ended = self._clock_ns()
        age_s = self.graph.feature_age_s(places)
        return self._prediction(
            output, (prepared - begun) // 1000, (ended - prepared) // 1000, age_s
        )

    def predict_batch(self, samples: Sequence[Value]) -> tuple[Prediction, ...]:
        """Answers for raw samples, run as one batch where the graph allows it.

        Raises `RuntimeFailed`.
        """
        begun = self._clock_ns()
        places = [self.graph.prepare(sample) for sample in samples]
        prepared = self._clock_ns()
        outputs = self.graph.finish_all(places)
        ended = self._clock_ns()
        prepare_us, run_us = (prepared - begun) // 1000, (ended - prepared) // 1000
        return tuple(
            self._prediction(output, prepare_us, run_us, self.graph.feature_age_s(one))
            for output, one in zip(outputs, places, strict=True)
        )

    def predictions(self, outputs: Sequence[Array]) -> tuple[Prediction, ...]:
        """What outputs mean, for who ran the graph by other means."""
        return tuple(self._prediction(output, 0, 0, None) for output in outputs)

    def _prediction(
        self, output: Array, prepare_us: int, run_us: int, age_s: float | None
    ) -> Prediction:
        answer, label, confidence = self._read(output)
        return Prediction(label, confidence, answer, output, prepare_us, run_us, age_s)

    def golden_samples(self, golden: Golden | None = None) -> tuple[Value, ...]:
        """The package's golden inputs, or those another `golden` describes."""
        given = self.package.manifest.input
        golden = golden or self.package.manifest.golden
        if golden.samples is None:
            return golden_inputs(given, golden)
        return read_samples(given, golden, self.package.path(golden.samples).read_bytes())

    def golden_difference(self) -> str | None:
        """What this machine answers otherwise than the package stores; None if nothing."""
        manifest, role = self.package.manifest, self.package.role
        # One by one, as a device answers: some runtimes compile another graph for a batch.
        predict = self.without_sources.predict
        found = [predict(sample) for sample in self.golden_samples()]
        wanted = manifest.golden_answers(role)
        for at, (want, have) in enumerate(zip(wanted, found, strict=True)):
            if want.label != have.label or not _near(want, have, manifest.golden.tolerance):
                return (
                    f"{role.value} half of {manifest.task} {manifest.version} answers golden input "
                    f"{at} with {_words(have)}, the package stores {_words(want)}"
                )
        return None

    def check_golden(self) -> None:
        """Return if this machine computes what the package stores. Raises `GoldenMismatch`."""
        difference = self.golden_difference()
        if difference is not None:
            raise GoldenMismatch(
                f"{difference}; its certificate means nothing on this machine's runtime, "
                "so calibrate it here or do not use it here"
            )


def _near(want: Said, have: Prediction, tolerance: float) -> bool:
    if want.confidence is None or have.confidence is None:
        return want.confidence is have.confidence
    return abs(want.confidence - have.confidence) <= tolerance


def _words(said: Said | Prediction) -> str:
    if said.confidence is None:
        return f"{said.label} (no confidence)"
    return f"{said.label} ({said.confidence:.4f})"
