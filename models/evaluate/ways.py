"""Ways to route: which thresholds on which scores, with which models, and what each row costs.

| way | answers locally where | runs on every request |
|---|---|---|
| device -> cloud | the device's score reaches a threshold | - |
| ... by margin | its margin does | - |
| ... by class | less the expected loss, learned for each predicted class, does | - |
| two on the device -> cloud | the top of both models' mean does | the second |
| two that agree -> cloud | both agree, too (ABC, arXiv 2407.02348) | the second |
| middle -> cloud | the middle model's score does | the middle |
| device -> middle -> cloud | either's score reaches its own threshold | the middle, where asked |
| device + middle -> cloud | the top of both models' mean does | the middle |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Promise
from models.calibrate.gain import fit_gain
from models.calibrate.outcomes import Groups, Outcomes, of_logits
from models.calibrate.scores import Logits, Scores, score
from models.errors import UnfitData
from models.evaluate.pareto import Places, Ways

BASE = "device -> cloud"
THRESHOLDS = 60
PAIRS = 16
"""Thresholds of each of two scores: 16 * 16 ways of three stages."""
SHRINK = 100
"""Rows of all classes that each class's own curve is mixed with."""


@dataclass(frozen=True, kw_only=True)
class ExploreInputs:
    """Rows of a classification task, and what might be tried.

    Attributes:
        edge_logits, cloud_logits: floating [n, K].
        y: the truth [n]; None only for the promise `teacher`.
        middle_logits: of a model between the two, [n, K].
        second_logits: of a second model on the device, [n, K].
        groups: person, device or clip of each row.
        promise, eps, delta: as for a certificate; `selective` is not explored.
        temperature: divides the logits of the device's model.
        middle_cost, second_cost: of one run, as a share of what an escalation costs.
        splits, seed: how often, and with which chance.
    """

    edge_logits: Logits
    cloud_logits: Logits
    y: npt.NDArray[np.integer[Any]] | None = None
    middle_logits: Logits | None = None
    second_logits: Logits | None = None
    groups: Groups | None = None
    promise: Promise = "harm"
    eps: float = 0.01
    delta: float = 0.1
    temperature: float = 1.0
    middle_cost: float = 0.1
    second_cost: float = 0.02
    splits: int = 40
    seed: int = 0


MakeWays = Callable[[Places], Ways]
"""From the places of the tune rows: a learned way looks at them, the others do not."""


def ways_of(given: ExploreInputs) -> dict[str, MakeWays]:
    """Every way the inputs allow. Raises `UnfitData` for logits of other rows or classes."""
    edge = _judged(given, given.edge_logits, given.temperature)
    margin = score("margin", given.edge_logits, given.temperature)
    ways: dict[str, MakeWays] = {
        BASE: _fixed(_two_stages(edge.scores, edge, given)),
        "device -> cloud, by margin": _fixed(_two_stages(margin, edge, given)),
        "device -> cloud, by class": lambda tune: _two_stages(
            _class_scores(given, edge, tune), edge, given
        ),
    }
    second, middle = given.second_logits, given.middle_logits
    if second is not None:
        both = _judged(given, _mean(given.edge_logits, second), 1.0)
        ways["two on the device -> cloud"] = _fixed(
            _two_stages(both.scores, both, given, every=given.second_cost)
        )
        agree = given.edge_logits.argmax(axis=1) == second.argmax(axis=1)
        ways["two that agree -> cloud"] = _fixed(
            _two_stages(np.where(agree, both.scores, np.nan), both, given, every=given.second_cost)
        )
    if middle is not None:
        between = _judged(given, middle, 1.0)
        ways["middle -> cloud"] = _fixed(
            _two_stages(between.scores, between, given, every=given.middle_cost)
        )
        ways["device -> middle -> cloud"] = _fixed(_three_stages(edge, between, given))
        both = _judged(given, _mean(given.edge_logits, middle), 1.0)
        ways["device + middle -> cloud"] = _fixed(
            _two_stages(both.scores, both, given, every=given.middle_cost)
        )
    return ways


def _fixed(ways: Ways) -> MakeWays:
    return lambda tune: ways


def _judged(given: ExploreInputs, logits: Logits, temperature: float) -> Outcomes:
    """A model's outcomes against the cloud. Raises `UnfitData` for logits of another shape."""
    if logits.shape != given.cloud_logits.shape:
        raise UnfitData(
            f"logits have shapes {list(logits.shape)} and {list(given.cloud_logits.shape)};"
            " wanted the same rows and classes from every model"
        )
    return of_logits(logits, given.cloud_logits, given.y, temperature=temperature)


def _mean(first: Logits, second: Logits) -> Logits:
    """Logarithms of the mean of two models' probabilities."""
    if first.shape != second.shape:
        raise UnfitData(f"logits have shapes {list(first.shape)} and {list(second.shape)}")
    shares = []
    for logits in (first, second):
        powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        shares.append(powers / powers.sum(axis=1, keepdims=True))
    mean: Logits = np.log(np.maximum((shares[0] + shares[1]) / 2, 1e-30))
    return mean


def _grid(scores: Scores, points: int) -> Scores:
    """Thresholds at quantiles of the scores, and one above them all."""
    seen = scores[~np.isnan(scores)]
    if len(seen) == 0:
        return np.array([np.inf])
    return np.append(np.unique(np.quantile(seen, np.linspace(0, 1, points))), np.inf)


def _two_stages(
    scores: Scores, judged: Outcomes, given: ExploreInputs, *, every: float = 0.0
) -> Ways:
    """Local from each of the thresholds on; `every` request pays for a run besides."""
    local = scores[None, :] >= _grid(scores, THRESHOLDS)[:, None]
    losses = np.where(local, judged.loss(given.promise)[None, :], 0).astype(np.int8)
    return Ways(losses, (~local + every).astype(np.float32), ~local)


def _three_stages(edge: Outcomes, middle: Outcomes, given: ExploreInputs) -> Ways:
    """The device answers from one threshold on, else the middle from another, else the cloud."""
    first = edge.scores[None, :] >= _grid(edge.scores, PAIRS)[:, None]
    second = middle.scores[None, :] >= _grid(middle.scores, PAIRS)[:, None]
    at_edge = np.repeat(first, len(second), axis=0)
    at_middle = ~at_edge & np.tile(second, (len(first), 1))
    escalated = ~at_edge & ~at_middle
    losses = np.where(
        at_edge,
        edge.loss(given.promise)[None, :],
        np.where(at_middle, middle.loss(given.promise)[None, :], 0),
    )
    costs = escalated + given.middle_cost * ~at_edge
    return Ways(losses.astype(np.int8), costs.astype(np.float32), escalated)


def _class_scores(given: ExploreInputs, edge: Outcomes, tune: Places) -> Scores:
    """Less the expected loss at a row's score, learned on tune rows for each predicted class."""
    answers = given.edge_logits.argmax(axis=1)
    losses = edge.loss(given.promise)
    usable = tune[~np.isnan(edge.scores[tune])]
    if len(usable) == 0:
        return edge.scores
    overall = _expected(edge.scores[usable], losses[usable], edge.scores)
    expected = overall.copy()
    for answer in np.unique(answers[usable]):
        own = usable[answers[usable] == answer]
        rows = answers == answer
        learned = _expected(edge.scores[own], losses[own], edge.scores[rows])
        expected[rows] = (len(own) * learned + SHRINK * overall[rows]) / (len(own) + SHRINK)
    # Inside a step of the curve the score itself decides.
    scores: Scores = np.where(np.isnan(edge.scores), np.nan, -expected + 1e-6 * edge.scores)
    return scores


def _expected(
    scores: Scores, losses: npt.NDArray[np.int8], asked: Scores
) -> npt.NDArray[np.float64]:
    """Isotonic expected loss at the scores asked for."""
    curve = fit_gain(scores, losses)
    place = np.searchsorted(np.array(curve.scores), np.nan_to_num(asked), side="right") - 1
    found: npt.NDArray[np.float64] = np.array(curve.gains)[np.maximum(place, 0)]
    return found
