"""What an evaluation is made from, and the one form all its parts work on.

Rules:
1. A row is one input, with what device and cloud answered. Classification gives logits; every other
   task gives its scores and what was wrong, since only its head knows when two answers are alike.
2. Without the truth (`y`) the cloud's answer is taken for right, and "right" means "as the cloud".
3. Everything is checked here, once: the parts take a `Sample` at its word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Certificate, Promise
from models.calibrate.outcomes import Groups, Outcomes, check_labels, of_logits
from models.calibrate.scores import Logits
from models.errors import UnfitData
from models.evaluate.curves import Flags, Floats
from models.evaluate.metrics import Classes
from models.evaluate.sections import Measure


@dataclass(frozen=True)
class Link:
    """Round trips to the cloud without its own work, as percentiles in ms."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an escalation costs, in `currency`."""

    currency: str = "EUR"
    per_call: float = 0.0
    per_megabyte: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """Everything `evaluate` may be told. Arrays have one row for each of n inputs.

    Attributes:
        task: its name, shown on the page.
        package: name and version of what is judged, shown too.
        certificate: threshold, temperature, score and promise of the package.
        labels: names of the K classes; the numbers where empty.
        y: the truth, 0 to K - 1; None where only the cloud answered.
        edge_logits: floating [n, K], of the file that ships (INT8), dequantised.
        edge_fp32_logits: the same rows through the FP32 file, to compare.
        cloud_logits: floating [n, K]; or
        cloud_predictions: whole numbers [n].
        judged: instead of all the logits, for tasks other than classification.
        groups: person, device or clip of each row; those of `judged` where not given.
        calibration: the rows the certificate was made from, to ask whether these are alike.
        request_bytes: what escalating a row sends; one number for all, or [n].
        edge_ms, cloud_ms: times measured on the device and in the cloud, any number of each.
        link, deadline_ms, prices: what the answer's way costs.
        resamples: how often the audit calibrates anew; 0 leaves it out.
        seed: of every draw.
    """

    task: str
    certificate: Certificate
    package: str = ""
    labels: tuple[str, ...] = ()
    y: npt.NDArray[np.integer[Any]] | None = None
    edge_logits: Logits | None = None
    edge_fp32_logits: Logits | None = None
    cloud_logits: Logits | None = None
    cloud_predictions: npt.NDArray[np.integer[Any]] | None = None
    judged: Outcomes | None = None
    groups: Groups | None = None
    calibration: Outcomes | None = None
    request_bytes: npt.NDArray[Any] | int | None = None
    edge_ms: npt.NDArray[Any] | None = None
    cloud_ms: npt.NDArray[Any] | None = None
    link: Link | None = None
    deadline_ms: float | None = None
    prices: Prices | None = None
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The rows, judged."""

    scores: Floats
    edge_wrong: Flags
    cloud_wrong: Flags
    disagree: Flags
    measure: Measure
    classes: Classes | None
    """The true class of each row; the cloud's where the truth is not known."""
    class_names: tuple[str, ...]
    groups: Groups | None
    weights: Floats
    """What each row counts in the promise's risk, 1 on average: groups may count alike."""

    @property
    def n(self) -> int:
        return len(self.scores)

    def local(self, threshold: float | None) -> Flags:
        """What a device with this threshold answers itself."""
        if threshold is None:
            return np.zeros(self.n, dtype=np.bool_)
        # A comparison with NaN is false: no score, not local.
        return self.scores >= threshold

    def where(self, chosen: npt.NDArray[Any]) -> Sample:
        """Only the rows a mask or an array of places chooses."""
        return replace(
            self,
            scores=self.scores[chosen],
            edge_wrong=self.edge_wrong[chosen],
            cloud_wrong=self.cloud_wrong[chosen],
            disagree=self.disagree[chosen],
            classes=None if self.classes is None else self.classes[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            weights=self.weights[chosen],
        )

    def risk(self, local: Flags, promise: Promise) -> float:
        """What the promise bounds, with these rows answered locally."""
        lost = float((self.losses(promise) * self.weights)[local].sum())
        over = float(self.weights[local].sum() if promise == "selective" else self.weights.sum())
        return lost / over if over else 0.0

    def losses(self, promise: Promise) -> Floats:
        """What the promise counts against a local answer of each row."""
        edge, cloud = self.edge_wrong.astype(np.float64), self.cloud_wrong.astype(np.float64)
        match promise:
            case "excess":
                return edge - cloud
            case "harm":
                return edge * (1 - cloud)
            case "teacher":
                return self.disagree.astype(np.float64)
            case "selective":
                return edge
            case _:
                assert_never(promise)


def sample_of(given: EvaluationInputs) -> Sample:
    """Checks what was given and judges every row.

    Raises:
        UnfitData: arrays that do not fit each other or the certificate, or something is missing.
        LabelOutside: a label outside the classes.
        TooFewSamples: there is no row.
    """
    outcomes, classes = _outcomes(given)
    groups = outcomes.groups if given.groups is None else given.groups
    if groups is not None and groups.shape != (outcomes.n,):
        raise UnfitData(f"groups has shape {list(groups.shape)}; wanted [{outcomes.n}]")
    edge_wrong, cloud_wrong = outcomes.edge_wrong, outcomes.cloud_wrong
    measure: Measure = "accuracy"
    if edge_wrong is None or cloud_wrong is None:
        measure = "agreement"
        edge_wrong, cloud_wrong = outcomes.disagree, np.zeros(outcomes.n, dtype=np.bool_)
    return Sample(
        scores=outcomes.scores,
        edge_wrong=edge_wrong,
        cloud_wrong=cloud_wrong,
        disagree=outcomes.disagree,
        measure=measure,
        classes=classes,
        class_names=_class_names(given),
        groups=groups,
        weights=_weights(given.certificate, groups, outcomes.n),
    )


def counts_groups(certificate: Certificate) -> bool:
    """Whether the certificate's promise is about a row of a group drawn at random."""
    return certificate.groups is not None and certificate.n == certificate.groups


def _weights(certificate: Certificate, groups: Groups | None, rows: int) -> Floats:
    if groups is None or not counts_groups(certificate):
        return np.ones(rows)
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weights: Floats = rows / len(sizes) / sizes[member]
    return weights


def _outcomes(given: EvaluationInputs) -> tuple[Outcomes, Classes | None]:
    if given.judged is not None:
        return given.judged, None
    logits, name = given.edge_logits, given.certificate.score
    if logits is None:
        raise UnfitData("nothing to evaluate: give edge_logits, or judged rows")
    if name == "head":
        raise UnfitData("the certificate's score comes from a head, not from logits; give judged")
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise UnfitData(f"edge_logits has shape {list(logits.shape)}; wanted [n, K], K at least 2")
    fp32 = given.edge_fp32_logits
    if fp32 is not None and fp32.shape != logits.shape:
        raise UnfitData(
            f"edge_fp32_logits has shape {list(fp32.shape)}; wanted {list(logits.shape)},"
            " the same rows as edge_logits"
        )
    cloud = _cloud_logits(given, logits)
    y = given.y
    if y is not None and (y.shape != (len(logits),) or not np.issubdtype(y.dtype, np.integer)):
        raise UnfitData(f"y is {y.dtype} {list(y.shape)}; wanted {len(logits)} whole numbers")
    outcomes = of_logits(
        logits,
        cloud,
        y,
        name=name,
        temperature=given.certificate.temperature,
        groups=given.groups,
    )
    truth = cloud.argmax(axis=1) if y is None else y
    return outcomes, truth.astype(np.int64)


def _cloud_logits(given: EvaluationInputs, edge: Logits) -> Logits:
    """The cloud's logits; where only its answers are known, a one in each answer's place."""
    if given.cloud_logits is not None:
        if given.cloud_logits.shape != edge.shape:
            raise UnfitData(
                f"cloud_logits has shape {list(given.cloud_logits.shape)}; wanted"
                f" {list(edge.shape)}, the same rows and classes as edge_logits"
            )
        return given.cloud_logits
    answers = given.cloud_predictions
    if answers is None:
        raise UnfitData("the cloud's answers are missing: give cloud_logits or cloud_predictions")
    if answers.shape != (len(edge),) or not np.issubdtype(answers.dtype, np.integer):
        raise UnfitData(
            f"cloud_predictions is {answers.dtype} {list(answers.shape)};"
            f" wanted {len(edge)} whole numbers"
        )
    check_labels(answers, edge.shape[1], len(edge))
    logits: Logits = np.eye(edge.shape[1])[answers]
    return logits


def _class_names(given: EvaluationInputs) -> tuple[str, ...]:
    if given.edge_logits is None:
        return given.labels
    count = given.edge_logits.shape[1]
    if given.labels and len(given.labels) != count:
        raise UnfitData(f"{len(given.labels)} labels for a model with {count} classes")
    return given.labels or tuple(str(number) for number in range(count))
