"""The package's own cloud pipeline, in this process, by the code the device runs too.

The archive is checked against the hash in the release here as on a device: the gateway's own disk
is no better than anybody else's.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from cloud_gateway.inference.engines.base import Wanted
from models import package
from models.errors import FileMissing, HashMismatch
from models.golden import golden_inputs
from models.manifest import Role, TensorSpec
from models.predict import Prediction, Predictor
from models.runtimes.base import Provider
from models.tensors import Sample

_WARM_RUNS = 5


class LocalEngine:
    """One loaded cloud model."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        manifest = predictor.package.manifest
        self.given: TensorSpec = manifest.inputs[0]
        self.labels: tuple[str, ...] = manifest.labels
        self.provider = predictor.graph.runtime.provider
        sample = golden_inputs(self.given, manifest.golden)[0]
        self.warm_run_us = _median_us(predictor, sample)

    def answer(self, samples: Sequence[Sample]) -> Sequence[Prediction]:
        if len(samples) == 1:
            return (self._predictor.predict(samples[0]),)
        return self._predictor.predict_batch(samples)


def open_local(archive: Path, wanted: Wanted, *, folder: Path, provider: Provider) -> LocalEngine:
    """Unpack, check, load and warm a cloud model. Raises `ModelsError`."""
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
    predictor = Predictor.load(package.read(unpacked, Role.CLOUD), provider=provider)
    predictor.check_golden()
    return LocalEngine(predictor)


def _median_us(predictor: Predictor, sample: Sample) -> int:
    times = []
    for _ in range(_WARM_RUNS):
        begun = time.perf_counter_ns()
        predictor.predict(sample)
        times.append((time.perf_counter_ns() - begun) // 1000)
    return round(statistics.median(times))
