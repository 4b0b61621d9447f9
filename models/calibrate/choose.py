"""Which score decides best: chosen on tune samples by what its order of escalations gains.

Escalate the least sure samples first and watch the loss fall: the area under that curve, between
the one of a random order (0) and the one of an order that knows the losses (1), is the deferral
gain. Samples of one score go together. Calibration samples take no part, so any choice is free.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Promise, ScoreName
from models.calibrate.outcomes import Losses, of_logits
from models.calibrate.scores import Logits, Scores, confidence, score
from models.calibrate.temperature import Labels, fit_temperature
from models.errors import TooFewSamples

CANDIDATES: tuple[ScoreName, ...] = ("top", "margin")
"""Entropy and sums of squares led on nothing that was measured (cascade note, section 3)."""


class Choice(NamedTuple):
    """The score to use, and every candidate's deferral gain."""

    name: ScoreName
    gains: tuple[tuple[ScoreName, float], ...]


class Tuned(NamedTuple):
    """All that tuning samples choose about the score."""

    name: ScoreName
    temperature: float
    gains: tuple[tuple[ScoreName, float], ...]
    without_mistake: bool
    """The edge was right on every tuning sample, so the temperature stayed 1."""


def tune_score(
    edge: Logits,
    cloud: Logits,
    labels: Labels | None,
    *,
    promise: Promise,
    candidates: Sequence[ScoreName] = CANDIDATES,
) -> Tuned:
    """Temperature and score for tuning logits [n, K]; without labels the cloud's answers serve.

    Samples whose edge logits are degenerate take no part in the temperature. Raises `LabelOutside`,
    `OutcomesMissing`, and `TooFewSamples` where no sample is left.
    """
    usable = ~np.isnan(confidence(edge, 1.0))
    if not usable.any():
        raise TooFewSamples(
            f"all of {len(edge)} tuning outputs are NaN, infinite or all equal; look at the model"
        )
    answers = cloud.argmax(axis=1) if labels is None else labels
    right = edge[usable].argmax(axis=1) == answers[usable]
    without_mistake = bool(right.all())
    temperature = 1.0 if without_mistake else fit_temperature(edge[usable], answers[usable])
    losses = of_logits(edge, cloud, labels).loss(promise)
    chosen = choose_score(edge, losses, temperature, candidates)
    return Tuned(chosen.name, temperature, chosen.gains, without_mistake)


def choose_score(
    logits: Logits,
    losses: Losses,
    temperature: float,
    candidates: Sequence[ScoreName] = CANDIDATES,
) -> Choice:
    """The candidate with the largest deferral gain on tune samples; of equals, the first."""
    gains = tuple(
        (name, deferral_gain(score(name, logits, temperature), losses)) for name in candidates
    )
    return Choice(max(gains, key=lambda found: found[1])[0], gains)


def deferral_gain(scores: Scores, losses: Losses) -> float:
    """The area by which this order beats a random one, as a share of the best order's.

    0 where no order can gain anything. Samples without a score are escalated first.
    """
    order = np.nan_to_num(scores, nan=-1.0)
    random = _area(np.zeros(len(scores)), losses)
    ideal = _area(-losses.astype(np.float64), losses)
    return (_area(order, losses) - random) / (ideal - random) if ideal > random else 0.0


def _area(scores: Scores, losses: npt.NDArray[np.int8]) -> float:
    """The mean loss removed, over all shares escalated from 0 to 1; straight within ties."""
    ranked = np.argsort(scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[ranked])), len(scores) - 1)
    share = np.concatenate([[0.0], (ends + 1) / len(scores)])
    removed = np.concatenate([[0.0], losses[ranked].cumsum(dtype=np.int64)[ends] / len(scores)])
    return float(np.trapezoid(removed, share))
