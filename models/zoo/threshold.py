"""Chooses the cascade's temperature and threshold from held-out data.

Rules:
1. The held-out part is cut in two: *tune* gives the temperature, *calibrate* the threshold. Where
   persons are known, no person is in both.
2. Scores come from the INT8 file that ships, through onnxruntime.
3. Without a mistake on tune the likeliest temperature is zero, which makes every score one. The
   temperature is 1 then: the net's own scores.
4. Where nothing can be certified, the threshold is the smallest one at which no held-out sample is
   harmed, and `feasible` is false.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.calibrate.fit import (
    METHOD,
    fit_harm_threshold,
    fit_temperature,
    probability_grid,
)
from models.calibrate.scores import Logits, Scores, confidence
from models.manifest import Decision
from models.zoo.data import Dataset, Labels

Mask = npt.NDArray[np.bool_]

DELTA = 0.1
HALVES_SEED = 0


def tune_mask(dataset: Dataset, tune_persons: tuple[int, ...]) -> Mask:
    """True for the held-out samples that tune, false for those that calibrate."""
    if dataset.held_groups is not None:
        return np.isin(dataset.held_groups, tune_persons)
    order = np.random.default_rng(HALVES_SEED).permutation(len(dataset.held_y))
    return order < len(order) // 2


def harmed(edge_logits: Logits, cloud_logits: Logits, labels: Labels) -> Mask:
    """Where the edge net is wrong and the cloud net right."""
    edge_wrong: Mask = edge_logits.argmax(axis=1) != labels
    cloud_right: Mask = cloud_logits.argmax(axis=1) == labels
    return edge_wrong & cloud_right


def decide(
    edge_logits: Logits,
    cloud_logits: Logits,
    labels: Labels,
    tune: Mask,
    *,
    eps: float,
    split: str,
) -> Decision:
    """The decision for held-out logits; `split` says in words how tune and calibrate were cut."""
    without_mistake = bool((edge_logits[tune].argmax(axis=1) == labels[tune]).all())
    temperature = 1.0 if without_mistake else fit_temperature(edge_logits[tune], labels[tune])
    scores = confidence(edge_logits, temperature)
    harms = harmed(edge_logits, cloud_logits, labels)
    grid = probability_grid()
    found = fit_harm_threshold(scores[~tune], harms[~tune], eps=eps, delta=DELTA, grid=grid)
    feasible = found.threshold is not None
    note = f"tune {int(tune.sum())}, calibrate {found.n} held-out samples, {split}"
    if without_mistake:
        note += "; no mistake on tune, so the temperature is 1"
    if found.threshold is None:
        note += (
            f"; {found.n} samples certify nothing (needed without a single harm: "
            f"{found.feasible_n}), so this is the smallest threshold without harm on all of them"
        )
    return Decision(
        temperature=temperature,
        threshold=_without_harm(scores, harms, grid)
        if found.threshold is None
        else found.threshold,
        promise="harm",
        eps=eps,
        delta=DELTA,
        n=found.n,
        k=found.k_at_threshold,
        upper_bound=found.upper_bound,
        method=METHOD,
        feasible=feasible,
        note=note,
    )


def _without_harm(scores: Scores, harms: Mask, grid: Scores) -> float:
    """The smallest threshold of `grid` at which no sample is harmed; its largest where all are."""
    worst = scores[harms].max(initial=0.0)
    safe = grid[grid > worst]
    return float(safe[-1]) if len(safe) else float(grid[0])
