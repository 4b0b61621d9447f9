"""Pareto testing: of many ways to route, one whose promise holds, and the cheapest of its kind.

Laufer-Goldshtein et al. 2022 (arXiv 2210.07913):

1. On *tune* rows each configuration has a cost and a risk. Those that no other beats in both are
   kept, and ordered from the safest to the cheapest.
2. On *calibration* rows they are tested in that order, and the walk stops at the first that fails.
   The order was fixed before, so the last that passed keeps the promise with chance 1 - delta.

A configuration is a row of two tables over the inputs: `losses` int8 [C, n] (what the promise
counts: 0 where the cloud answers) and `costs` float32 [C, n] (in escalations).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Promise
from models.calibrate.rules import HARM_SHARE, lower_limit, upper_limit

Losses = npt.NDArray[np.int8]
Costs = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


class Ways(NamedTuple):
    """Configurations of one kind."""

    losses: Losses
    costs: Costs
    escalated: Flags
    """bool [C, n]: what the cloud answers."""


def front(risks: npt.NDArray[np.float64], costs: npt.NDArray[np.float64]) -> Places:
    """Configurations that no other beats in risk and cost, from the safest to the cheapest."""
    order = np.lexsort((risks, costs))
    kept = []
    least = np.inf
    for place in order:
        if risks[place] < least:
            kept.append(place)
            least = risks[place]
    return np.array(kept[::-1], dtype=np.intp)


def keeps(losses: Losses, *, promise: Promise, eps: float, delta: float) -> Flags:
    """Which configurations pass the promise's test on these rows, one by one; bool [C]."""
    from scipy.special import bdtr

    n = losses.shape[1]
    lost = (losses > 0).sum(axis=1)
    if promise == "excess":
        won = (losses < 0).sum(axis=1)
        limit = upper_limit(lost, n, HARM_SHARE * delta)
        limit = limit - lower_limit(won, n, (1 - HARM_SHARE) * delta)
        return np.asarray(limit <= eps)
    return np.asarray(bdtr(lost.astype(np.float64), n, eps) <= delta)


def choose(
    ways: Ways, tune: Places, calibration: Places, *, promise: Promise, eps: float, delta: float
) -> int | None:
    """The place of the cheapest configuration that is certified; None where none is."""
    risks = ways.losses[:, tune].mean(axis=1, dtype=np.float64)
    costs = ways.costs[:, tune].mean(axis=1, dtype=np.float64)
    walk = front(risks, costs)
    passed = keeps(ways.losses[walk][:, calibration], promise=promise, eps=eps, delta=delta)
    length = len(passed) if passed.all() else int(passed.argmin())
    return int(walk[length - 1]) if length else None
