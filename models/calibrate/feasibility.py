"""What a promise needs: the least samples, the least escalation, and the labels that would do.

The number of labels is an estimate made on *tune* samples. It asks at which n the test would pass
if the calibration samples had the tune samples' rates, at a threshold that keeps at least half of
what the tune samples say could stay local.
"""

import math

import numpy as np
import numpy.typing as npt

from models.calibrate.betting import STAKE, betting_p
from models.calibrate.certificate import Guarantee, Promise
from models.calibrate.groups import as_game, group_means
from models.calibrate.outcomes import Losses, Outcomes
from models.calibrate.rules import (
    BETTING_FROM,
    HARM_SHARE,
    counts_at,
    lower_limit,
    upper_limit,
)
from models.calibrate.scores import Scores

Floats = npt.NDArray[np.float64]

MOST = 10_000_000
"""Nobody labels more."""
GROWTH = 1.02


def least_n(
    promise: Promise, guarantee: Guarantee, *, eps: float, delta: float, by_group: bool = False
) -> int:
    """The least n at which samples without a single loss certify eps.

    Exact rules: (1 - eps)^n <= delta. cpdiff: the same with its share of delta. Conformal risk
    control: 1 / (n + 1) <= eps. Betting: found by trying.
    """
    if guarantee == "marginal":
        return math.ceil(1 / eps - 1e-9) - 1
    if by_group:
        return _least_betting(promise, eps, delta)
    if promise == "excess":
        exact = _least_exact(eps, HARM_SHARE * delta)
        return (
            exact
            if exact < BETTING_FROM
            else max(BETTING_FROM, _least_betting("excess", eps, delta))
        )
    return _least_exact(eps, delta)


def least_escalation(promise: Promise, base_risk: float, eps: float) -> float:
    """What has to be escalated even by a score that knows the answers.

    A share base_risk - eps of losses has to go; of `selective`, (base_risk - eps) / (1 - eps),
    since right answers have to stay in proportion (arXiv 2606.29054).
    """
    excess = max(base_risk - eps, 0.0)
    return excess / (1 - eps) if promise == "selective" else excess


def labels_that_would_do(
    tune: Outcomes,
    *,
    promise: Promise,
    guarantee: Guarantee,
    eps: float,
    delta: float,
    grid: Scores,
    more_than: int = 0,
    by_group: bool = False,
) -> int | None:
    """Samples (or groups) that would certify something worth having; None if no number would.

    `more_than` is the number that is known not to do.
    """
    losses = tune.loss("harm" if (promise, guarantee) == ("excess", "marginal") else promise)
    rates = _Rates(tune, losses, promise, grid)
    safe = rates.risk <= eps
    if promise != "selective":  # whose walk may begin anywhere; the others begin at the top
        safe &= np.arange(len(grid)) < _prefix(safe)
    if not safe.any():
        return None
    chosen = np.flatnonzero(safe & (rates.local >= rates.local[safe].max() / 2))
    least = least_n(promise, guarantee, eps=eps, delta=delta, by_group=by_group)
    least = max(least, more_than + 1)
    if by_group and tune.groups is not None and guarantee == "high-probability":
        found = _group_estimate(tune, losses, promise, eps, delta, grid[chosen])
        return None if found is None else max(least, found)
    n = float(least)
    while n <= MOST:
        if rates.would_pass(chosen, round(n), promise, guarantee, eps, delta):
            return round(n)
        n = max(n * GROWTH, n + 1)
    return None


class _Rates:
    """What the tune samples say happens at each threshold; half a loss is added to each."""

    def __init__(self, tune: Outcomes, losses: Losses, promise: Promise, grid: Scores) -> None:
        self.local = counts_at(tune.scores, np.ones(tune.n, dtype=bool), grid) / tune.n
        self.lost = (counts_at(tune.scores, losses > 0, grid) + 0.5) / (tune.n + 1)
        self.won = counts_at(tune.scores, losses < 0, grid) / tune.n
        self.risk = self.lost - self.won
        if promise == "selective":
            self.risk = self.lost / np.maximum(self.local, self.lost)

    def would_pass(
        self,
        chosen: npt.NDArray[np.intp],
        n: int,
        promise: Promise,
        guarantee: Guarantee,
        eps: float,
        delta: float,
    ) -> bool:
        from scipy.special import bdtr

        lost = np.ceil(self.lost[chosen] * n)
        if guarantee == "marginal":
            return bool(((lost + 1) / (n + 1) <= eps).any())
        if promise == "excess":
            won = np.floor(self.won[chosen] * n)
            upper = upper_limit(np.minimum(lost, n), n, HARM_SHARE * delta)
            return bool((upper - lower_limit(won, n, (1 - HARM_SHARE) * delta) <= eps).any())
        total = np.full(len(chosen), n)
        if promise == "selective":
            total = np.floor(self.local[chosen] * n).astype(np.int64)
        lost = np.minimum(lost, total)
        return bool(((bdtr(lost, np.maximum(total, 1), eps) <= delta) & (total > 0)).any())


def _prefix(kept: npt.NDArray[np.bool_]) -> int:
    return len(kept) if kept.all() else int(kept.argmin())


def _group_estimate(
    tune: Outcomes, losses: Losses, promise: Promise, eps: float, delta: float, grid: Scores
) -> int | None:
    """A bet b on groups of mean r, variance v gains about b (m - r) - b^2 (v + (m - r)^2) / 2."""
    assert tune.groups is not None  # noqa: S101 - asked for by the one caller
    best = 0.0
    for threshold in grid:
        local = tune.scores >= threshold
        values = np.where(local, losses - (eps if promise == "selective" else 0.0), 0.0)
        game, mean = as_game(group_means(values, tune.groups), promise, eps)
        ahead = mean - float(game.mean())
        if ahead > 0:
            spread = float(game.var()) + ahead**2
            stake = min(STAKE / (1 - mean), ahead / spread)
            best = max(best, stake * ahead - stake**2 * spread / 2)
    needed = math.log(1 / delta) / best if best > 0 else math.inf
    return None if needed > MOST else math.ceil(needed)


def _least_exact(eps: float, delta: float) -> int:
    return math.ceil(math.log(delta) / math.log1p(-eps))


def _least_betting(promise: Promise, eps: float, delta: float) -> int:
    game, mean = as_game(np.zeros(1), promise, eps)
    nothing = float(game[0]) if promise != "selective" else 0.0  # all local, none wrong

    def passes(n: int) -> bool:
        return bool(betting_p(np.full((1, n), nothing), mean, delta)[0] <= delta)

    high = 1
    while not passes(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high
