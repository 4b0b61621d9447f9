"""What both halves of a package answer to every sample.

The cloud's answers may come with the samples instead, from a cloud model that is not here; then its
labels are known and its logits are not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models import package
from models.dataset import Samples
from models.errors import FileMissing
from models.manifest import Manifest, Role, TensorSpec
from models.package import Package
from models.pipeline.values import Value
from models.predict import Prediction, Predictor
from models.runtimes.base import Runtime
from models.runtimes.wish import AS_DECLARED, Runs

Tell = Callable[[str], None]
TIMED = 200
"""Samples asked one by one, as devices ask, for times that mean something."""
_TOGETHER = 64
_TELL_EVERY_S = 10.0


@dataclass(frozen=True)
class Answered:
    """Predictions in the order of the samples, and how long some of them took alone."""

    manifest: Manifest
    """As the edition that answered has it."""
    edge: tuple[Prediction, ...]
    cloud: tuple[Prediction, ...] | None
    """None where only labels of the cloud are known (`Samples.cloud`)."""
    edge_ms: npt.NDArray[np.float64]
    cloud_ms: npt.NDArray[np.float64] | None
    request_bytes: npt.NDArray[np.int64]
    """What escalating each sample would send."""
    runtimes: tuple[Runtime, ...]
    """The edge half's."""


def answer(
    whole: Package,
    samples: Samples,
    *,
    on: Runs = AS_DECLARED,
    known: Answered | None = None,
    allow_custom: bool = False,
    tell: Tell,
) -> Answered:
    """Ask both halves of a package, the edge half as the edition that `whole` is.

    `known` is what another edition answered to the same samples: the cloud is not asked again.
    `allow_custom` lets them run code of their own. Raises `ModelsError`.
    """
    folder = whole.folder
    edge = Predictor.load(
        whole,
        runtime=on.runtime,
        provider=on.provider,
        precision=on.precision,
        allow_custom=allow_custom,
    )
    given = edge.package.manifest.input
    said, edge_ms = _ask(edge, samples.values, "edge", tell)
    cloud: tuple[Prediction, ...] | None = None
    cloud_ms = None
    if known is not None:
        cloud, cloud_ms = known.cloud, known.cloud_ms
    elif Role.CLOUD in package.roles(folder):
        predictor = Predictor.load(package.read(folder, Role.CLOUD), allow_custom=allow_custom)
        cloud, cloud_ms = _ask(predictor, samples.values, "cloud", tell)
    elif samples.cloud is None:
        raise FileMissing(
            f"{folder} holds no cloud half, and the samples say nothing of the cloud's answers; "
            "give the whole package folder, or a column `cloud`"
        )
    return Answered(
        manifest=edge.package.manifest,
        edge=said,
        cloud=cloud,
        edge_ms=edge_ms,
        cloud_ms=cloud_ms,
        request_bytes=np.array([_size(given, value) for value in samples.values], np.int64),
        runtimes=edge.graph.runtimes,
    )


def _ask(
    predictor: Predictor, values: Sequence[Value], half: str, tell: Tell
) -> tuple[tuple[Prediction, ...], npt.NDArray[np.float64]]:
    """The answers, and the times of those that were asked alone."""
    said = [predictor.predict(value) for value in values[:TIMED]]
    times = np.array([one.prepare_us + one.run_us for one in said], np.float64) / 1000
    told = begun = time.monotonic()
    for at in range(TIMED, len(values), _TOGETHER):
        said += predictor.predict_batch(values[at : at + _TOGETHER])
        now = time.monotonic()
        if now - told > _TELL_EVERY_S:
            told = now
            left_s = (now - begun) / (len(said) - TIMED) * (len(values) - len(said))
            tell(f"{half} half: {len(said):,} of {len(values):,}, about {left_s:.0f} s left")
    return tuple(said), times


def _size(given: TensorSpec, value: Value) -> int:
    match value:
        case np.ndarray():
            return value.nbytes
        case bytes() | str():
            return len(value)
        case _:
            return len(str(value))
