"""The package's own cloud pipeline, in this process, by the code the device runs too.

The archive is checked against the hash in the release here as on a device: the gateway's own disk
is no better than anybody else's.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cloud_gateway.inference.engines.base import Wanted
from models import package
from models.errors import FileMissing, HashMismatch
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Features
from models.pipeline.features import FeatureSource
from models.pipeline.heads import Classify
from models.pipeline.values import Value
from models.predict import Prediction, Predictor
from models.runtimes.wish import Provider

_WARM_RUNS = 5


class LocalEngine:
    """One loaded cloud model."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        manifest = predictor.package.manifest
        self.given: TensorSpec = manifest.input
        self.labels: tuple[str, ...] = manifest.labels
        self.classifies = isinstance(manifest.answer, Classify)
        self.provider = ",".join(dict.fromkeys(one.provider for one in predictor.graph.runtimes))
        self.warm_run_us = _median_us(predictor.without_sources, predictor.golden_samples()[0])

    def answer(self, samples: Sequence[Value]) -> Sequence[Prediction]:
        if len(samples) == 1:
            return (self._predictor.predict(samples[0]),)
        return self._predictor.predict_batch(samples)


def open_local(
    archive: Path,
    wanted: Wanted,
    *,
    folder: Path,
    provider: Provider,
    allow_custom: bool,
    source: Callable[[str], FeatureSource],
) -> LocalEngine:
    """Unpack, check, load and warm a cloud model, whose features come from `source` by their name.

    Raises `ModelsError`.
    """
    try:
        data = archive.read_bytes()
    except OSError as error:
        raise FileMissing(
            f"the cloud archive of {wanted.task} {wanted.version} cannot be read "
            f"({error.strerror}); publish the package again"
        ) from error
    found = package.digest(data)
    if found != wanted.archive_sha256:
        raise HashMismatch(
            f"the cloud archive of {wanted.task} {wanted.version} has SHA-256 {found[:12]}…, its "
            f"release says {wanted.archive_sha256[:12]}…; publish the package again"
        )
    unpacked = package.unpack(data, folder / wanted.archive_sha256)
    whole = package.read(unpacked, Role.CLOUD)
    named = (node.source for node in whole.pipeline.nodes if isinstance(node, Features))
    predictor = Predictor.load(
        whole,
        provider=provider,
        allow_custom=allow_custom,
        sources={name: source(name) for name in named},
    )
    predictor.check_golden()
    return LocalEngine(predictor)


def _median_us(predictor: Predictor, sample: Value) -> int:
    times = []
    for _ in range(_WARM_RUNS):
        begun = time.perf_counter_ns()
        predictor.predict(sample)
        times.append((time.perf_counter_ns() - begun) // 1000)
    return round(statistics.median(times))
