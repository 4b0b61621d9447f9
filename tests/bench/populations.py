"""Finite populations whose truth is known: samples are drawn from them with replacement.

`apparel` and `activity` are the logits the zoo's shipped files give on held-out data, or on
held-out and test data pooled (which are not alike); a part is put aside for tuning. `made-up` needs
no data: ten classes, and one difficulty shared by an edge net and a better cloud net.
"""

import functools
import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.calibrate.certificate import Promise
from models.calibrate.outcomes import Outcomes, of_logits
from models.calibrate.scores import Logits, Scores
from models.calibrate.temperature import fit_temperature
from models.pipeline.compute.tensor import compile_step
from models.pipeline.kinds import Dtype, Kind
from models.pipeline.ops.tensor import Step, after
from models.zoo.data import DataMissing, Labels, Raw, load
from models.zoo.figures import ZOO

BATCH = 500
MOST_TUNE = 2000
MADE_UP = 20_000


class Population(NamedTuple):
    """Outcomes to tune on, outcomes to draw from, and what is true of the latter."""

    task: str
    tune: Outcomes
    drawn_from: Outcomes
    truth: "Truth"


class Truth:
    """The exact risk and escalation of every threshold on a finite population."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._n = outcomes.n
        order = np.argsort(outcomes.scores, kind="stable")  # NaN last
        usable = int((~np.isnan(outcomes.scores)).sum())
        self._ranked = outcomes.scores[order][:usable]
        self._lost = {
            promise: _from_the_top(outcomes.loss(promise)[order][:usable])
            for promise in ("harm", "excess", "teacher", "selective")
        }

    def escalation(self, threshold: float | None) -> float:
        return 1 - self._local(self._place(threshold)) / self._n

    def risk(self, promise: Promise, threshold: float | None) -> float:
        place = self._place(threshold)
        total = self._local(place) if promise == "selective" else self._n
        return float(self._lost[promise][place]) / max(total, 1)

    def base_risk(self, promise: Promise) -> float:
        return self.risk(promise, 0.0)

    def oracle(self, promise: Promise, eps: float) -> float:
        """The least escalation of any threshold that keeps eps."""
        # Only whole ties are local: a place counts where its score differs from the one below.
        starts = np.flatnonzero(np.append(True, self._ranked[1:] != self._ranked[:-1]))
        local = len(self._ranked) - starts
        total = local if promise == "selective" else self._n
        kept = local[self._lost[promise][starts] / total <= eps]
        return 1 - int(kept.max(initial=0)) / self._n

    def _place(self, threshold: float | None) -> int:
        if threshold is None:
            return len(self._ranked)
        return int(np.searchsorted(self._ranked, threshold, side="left"))

    def _local(self, place: int) -> int:
        return len(self._ranked) - place


def populations(seed: int, *, whole: bool) -> Iterator[Population]:
    """`made-up` always, then those whose data are on this machine; held-out data, or `whole`."""
    yield made_up_population(seed)
    for task in ("apparel", "activity"):
        try:
            found = load(task)
        except DataMissing:
            continue
        raw, labels = found.held_x, found.held_y
        if whole:
            raw = np.concatenate([raw, found.test_x])
            labels = np.concatenate([labels, found.test_y])
        yield _population(task, *shipped_logits(task, raw), labels, seed)


def made_up_population(seed: int, n: int = MADE_UP) -> Population:
    return _population("made-up", *made_up(seed, n), seed)


def made_up(seed: int, n: int = MADE_UP) -> tuple[Logits, Logits, Labels]:
    """Edge logits, cloud logits and labels of ten classes: right in 88 and 94 of 100."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 10, n)
    ahead = np.zeros((n, 10))
    ahead[np.arange(n), labels] = chance.gamma(3.0, 2.0, size=n)
    shared = 0.9 * chance.normal(size=(n, 10))
    edge = ahead + shared + 0.9 * chance.normal(size=(n, 10))
    cloud = 1.2 * ahead + shared + 0.6 * chance.normal(size=(n, 10))
    return edge.astype(np.float32), cloud.astype(np.float32), labels


def shipped_logits(task: str, raw: Raw) -> tuple[Logits, Logits]:
    """What the zoo's edge and cloud files of this task answer to raw samples."""
    figures = msgspec.json.decode((ZOO / task / "figures.json").read_bytes(), type=_Prepared)
    given: Dtype = "uint8" if raw.dtype == np.uint8 else "int16"
    kind = Kind(given, raw.shape[1:])
    steps = []
    for step in figures.preparation:
        steps.append(compile_step(step, kind))
        kind = after(step, kind)
    prepared = [functools.reduce(lambda value, step: step(value), steps, row) for row in raw]
    batch = np.ascontiguousarray(np.stack(prepared), dtype=np.float32)
    return _run(task, "edge", batch), _run(task, "cloud", batch)


class _Prepared(Struct, frozen=True):
    preparation: tuple[Step, ...]


def _run(task: str, half: str, batch: npt.NDArray[np.float32]) -> Logits:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(ZOO / task / f"{half}.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: batch[first : first + BATCH]})[0]
        for first in range(0, len(batch), BATCH)
    ]
    return np.concatenate(parts)


def _population(task: str, edge: Logits, cloud: Logits, labels: Labels, seed: int) -> Population:
    order = np.random.default_rng(seed).permutation(len(labels))
    cut = min(MOST_TUNE, len(labels) // 4)
    tune, rest = order[:cut], order[cut:]
    temperature = fit_temperature(edge[tune], labels[tune])
    every = of_logits(edge, cloud, labels, temperature=temperature)
    drawn_from = every.where(rest)
    return Population(task, every.where(tune), drawn_from, Truth(drawn_from))


def _from_the_top(losses: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Sums from each place to the last, and 0 beyond it."""
    return np.append(losses[::-1].cumsum(dtype=np.int64)[::-1], 0)


def reference_grid(tune: Scores) -> Scores:
    """The grid of the reference code: 151 quantiles, each once, descending."""
    return np.unique(np.quantile(tune[~np.isnan(tune)], np.linspace(0, 1, 151)))[::-1]
