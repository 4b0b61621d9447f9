"""What a decision costs on the device: from the logits of a model to an answer, and to its risk.

A decision is what a worker does with one output: label and confidence, hard or not, and the risk
that is certified at its threshold. The floor judges a number that is ready and does no more; the
control is the same decision by numpy and scipy, as it is written where no device waits for it.
"""

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import TypeVar

import numpy as np

from models.calibrate.certificate import Certificate
from models.calibrate.certify import certify
from models.calibrate.choose import tune_score
from models.calibrate.decide import judge
from models.calibrate.outcomes import of_logits
from models.calibrate.scores import Logits
from models.pipeline.heads import Classify
from models.pipeline.reading import reader_of
from tests.bench.measure import interleaved, median, typical_us
from tests.bench.populations import made_up
from tests.bench.rows import DecideRow

LIMIT_US = 12.0
EPS = 0.02
CALLS = 400
TUNING, CALIBRATING = 1000, 4000
CLASSES = tuple(f"class {number}" for number in range(10))

Decision = tuple[str, bool, float | None]
"""Label, hard, certified risk of a local answer."""
Decide = Callable[[Logits], Decision]
T = TypeVar("T")


def decide_row(rounds: int, seed: int) -> DecideRow:
    """The three ways on the same logits, in turns. Raises `AssertionError` when two disagree."""
    logits, certificate = _certified(seed)
    rows = list(logits[-CALLS:])
    device, control = _on_device(certificate), _by_numpy(certificate)
    for row in rows:
        _check_alike(device(row), control(row))
    sure = [0.5 + 0.5 * place / CALLS for place in range(CALLS)]
    ways = [
        lambda: _us(device, rows),
        lambda: _us(lambda ready: judge(ready, certificate.threshold), sure),
        lambda: _us(control, rows),
    ]
    took, floor, slow = interleaved(rounds, ways)
    return DecideRow(
        classes=len(CLASSES),
        curve_points=len(certificate.curve.thresholds) if certificate.curve else 0,
        rounds=rounds,
        decide_us=median(took, 2),
        floor_decide_us=median(floor, 2),
        control_decide_us=median(slow, 2),
    )


def _certified(seed: int) -> tuple[Logits, Certificate]:
    """Logits of a made-up edge net, float32 [n, 10], and a certificate for it with its curve."""
    edge, cloud, labels = made_up(seed)
    tune, rest = slice(TUNING), slice(TUNING, TUNING + CALIBRATING)
    tuned = tune_score(edge[tune], cloud[tune], labels[tune], promise="excess", candidates=["top"])
    outcomes = of_logits(edge, cloud, labels, temperature=tuned.temperature)
    certificate = certify(
        outcomes.where(np.arange(len(edge))[tune]),
        outcomes.where(np.arange(len(edge))[rest]),
        promise="excess",
        eps=EPS,
        score=tuned.name,
        temperature=tuned.temperature,
    )
    return edge, certificate


def _on_device(certificate: Certificate) -> Decide:
    """By the functions a worker calls. The risk is looked up each time, as a budget that moves the
    threshold has to; a worker with a fixed one keeps the number."""
    head = Classify(CLASSES)
    read = reader_of(head, temperature=certificate.temperature, score=certificate.score)
    threshold, curve = certificate.threshold, certificate.curve
    assert curve is not None

    def decide(logits: Logits) -> Decision:
        _, label, confidence = read(logits)
        if judge(confidence, threshold).hard:
            return label, True, None
        return label, False, curve.risk_at(threshold)

    return decide


def _by_numpy(certificate: Certificate) -> Decide:
    from scipy.special import softmax

    assert certificate.curve is not None
    assert certificate.threshold is not None
    threshold = certificate.threshold
    lows, bounds = np.array(certificate.curve.thresholds), np.array(certificate.curve.bounds)

    def decide(logits: Logits) -> Decision:
        shares = softmax(logits.astype(np.float64) / certificate.temperature)
        index = int(np.argmax(shares))
        if not np.isfinite(shares).all() or np.ptp(logits) == 0 or shares[index] < threshold:
            return CLASSES[index], True, None
        place = np.searchsorted(lows, threshold, side="right") - 1
        return CLASSES[index], False, float(np.where(place >= 0, bounds[place], 1.0))

    return decide


def _check_alike(one: Decision, other: Decision) -> None:
    assert one == other, f"two ways to decide disagree: {one} and {other}"


def _us(call: Callable[[T], object], given: Sequence[T]) -> float:
    took = []
    for one in given:
        begun = perf_counter_ns()
        call(one)
        took.append(perf_counter_ns() - begun)
    return typical_us(took)
