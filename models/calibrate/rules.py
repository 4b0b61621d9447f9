"""Calibration rules: from calibration samples and a grid of thresholds to a threshold.

Rules they share:
1. The grid is fixed without the calibration labels (`grid_from`: the scores of *tune* samples),
   and walked from the safest threshold down. The walk stops at the first threshold whose test does
   not reject "the risk exceeds eps", and the last one before it is returned: fixed-sequence
   testing, Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052). The chance that the
   returned threshold breaks eps is at most delta, whatever the shape of the risk.
2. A sample counts at a threshold when score >= threshold; one without a score (NaN) never does.
3. None of the functions looks at anything but its arguments. The betting rule depends on the order
   of the samples, so it shuffles them by a seed of its own.

`plug_in` and `sgr` are for benches and reports: the first keeps no promise, the second is what the
literature compares with.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.calibrate.betting import betting_bound, betting_p
from models.calibrate.scores import Scores
from models.errors import ConstantScore

Flags = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

BETTING_FROM = 1000
"""Samples from which betting certifies more than cpdiff (cascade note, section 3)."""
HARM_SHARE = 0.75
"""Of delta, for the upper limit of cpdiff; the lower limit gets the rest."""
MIN_TUNE_LOCAL = 20
"""Fewer tune samples above a threshold say too little to begin a walk there."""

START_POINTS = 151


class Found(NamedTuple):
    """What a rule chose; threshold, k and upper_bound are None where nothing can be certified."""

    threshold: float | None
    k: int | None
    """Losses at or above the threshold."""
    upper_bound: float | None
    """Upper confidence limit, level 1 - delta, on the risk at the threshold."""
    method: str
    won: int | None = None
    """Of excess: samples at or above it where the cloud alone was wrong."""


def grid_from(tune_scores: Scores, points: int = 400) -> Scores:
    """Thresholds at observed tune scores, strictly descending, and 0 at the end.

    At observed values, because ties are common: a threshold between two of them behaves like the
    upper one on all that was seen and like nothing known on the rest.

    Raises `ConstantScore` when the tune scores do not tell one sample from another.
    """
    seen = np.unique(tune_scores[~np.isnan(tune_scores)])
    if len(seen) < 2:
        what = "no tune sample has a score" if len(seen) == 0 else f"all are {seen[0]}"
        raise ConstantScore(
            f"no threshold can tell the {len(tune_scores)} tune samples apart, {what}; "
            "choose another score, or look at the model's outputs"
        )
    if len(seen) > points:
        usable = np.sort(tune_scores[~np.isnan(tune_scores)])
        places = np.ceil(np.linspace(0, len(usable) - 1, points) - 1e-9).astype(np.int64)
        seen = np.unique(usable[places])
    if seen[0] > 0:
        seen = np.concatenate([[0.0], seen])
    return seen[::-1].copy()


def counts_at(scores: Scores, counted: Flags, grid: Scores) -> Counts:
    """How many counted samples have a score at or above each threshold, int64 [G]."""
    there = np.sort(scores[(counted != 0) & ~np.isnan(scores)])
    return len(there) - np.searchsorted(there, grid, side="left")


def upper_limit(k: npt.ArrayLike, n: npt.ArrayLike, level: float) -> npt.NDArray[np.float64]:
    """Clopper-Pearson upper limit on a share of which k in n were seen, broken with chance level.

    Formula: the (1 - level) quantile of Beta(k + 1, n - k); 1 where k is n.
    """
    from scipy.special import betaincinv

    losses, total = np.broadcast_arrays(np.asarray(k, float), np.asarray(n, float))
    some = losses < total
    limit = np.ones(losses.shape)
    limit[some] = betaincinv(losses[some] + 1, (total - losses)[some], 1 - level)
    return limit


def lower_limit(k: npt.ArrayLike, n: npt.ArrayLike, level: float) -> npt.NDArray[np.float64]:
    """Clopper-Pearson lower limit: the `level` quantile of Beta(k, n - k + 1); 0 where k is 0."""
    from scipy.special import betaincinv

    losses, total = np.broadcast_arrays(np.asarray(k, float), np.asarray(n, float))
    some = losses > 0
    limit = np.zeros(losses.shape)
    limit[some] = betaincinv(losses[some], (total - losses)[some] + 1, level)
    return limit


def exact_binomial(
    scores: Scores, losses: Flags, *, eps: float, delta: float, grid: Scores
) -> Found:
    """P(score >= t and loss) <= eps for a loss of 0 or 1: promises `harm` and `teacher`.

    P(Binomial(n, eps) <= k) is a p-value for "the risk exceeds eps", and no other is smaller for
    the same k.
    """
    from scipy.special import bdtr

    method = "exact binomial, fixed sequence"
    n, k = len(scores), counts_at(scores, losses, grid)
    place = _last_passed(bdtr(k.astype(np.float64), n, eps) <= delta)
    if place is None:
        return Found(None, None, None, method)
    bound = float(upper_limit(k[place], n, delta))
    return Found(float(grid[place]), int(k[place]), bound, method)


def excess_cpdiff(
    scores: Scores, excess: Flags, *, eps: float, delta: float, grid: Scores
) -> Found:
    """E[1{score >= t} excess] <= eps, by two Clopper-Pearson limits.

    Passed where upper(k10; .75 delta) - lower(k01; .25 delta) <= eps; k10 counts samples only the
    edge had wrong, k01 those only the cloud had wrong. Both limits hold with chance 1 - delta.
    """
    method = "difference of exact limits (cpdiff), fixed sequence"
    n = len(scores)
    lost, won = counts_at(scores, excess > 0, grid), counts_at(scores, excess < 0, grid)
    bounds = upper_limit(lost, n, HARM_SHARE * delta) - lower_limit(
        won, n, (1 - HARM_SHARE) * delta
    )
    place = _last_passed(bounds <= eps)
    if place is None:
        return Found(None, None, None, method)
    return Found(
        float(grid[place]), int(lost[place]), float(bounds[place]), method, int(won[place])
    )


def excess_betting(
    scores: Scores, excess: Flags, *, eps: float, delta: float, grid: Scores, seed: int = 0
) -> Found:
    """E[1{score >= t} excess] <= eps, by betting on (1{score >= t} excess + 1) / 2."""
    method = "betting (WSR), fixed sequence"
    order = np.random.default_rng(seed).permutation(len(scores))
    shuffled, signs = scores[order], np.sign(excess[order]).astype(np.float64)
    # Thresholds between which no sample has an excess see the same game: it is played once.
    events = counts_at(scores, excess, grid)
    games, game_of = np.unique(events, return_index=True)
    mean = (1 + eps) / 2
    passed_until = len(grid)
    for first in range(0, len(games), 16):
        starts = game_of[first : first + 16]
        local = shuffled[None, :] >= grid[starts, None]
        lost = betting_p((local * signs + 1) / 2, mean, delta) > delta
        if lost.any():
            passed_until = int(starts[int(lost.argmax())])
            break
    if passed_until == 0:
        return Found(None, None, None, method)
    threshold = float(grid[passed_until - 1])
    local = shuffled >= threshold
    bound = 2 * betting_bound((local * signs + 1) / 2, delta) - 1
    return Found(
        threshold,
        int((local & (signs > 0)).sum()),
        min(bound, eps),
        method,
        int((local & (signs < 0)).sum()),
    )


def excess_default(
    scores: Scores, excess: Flags, *, eps: float, delta: float, grid: Scores, seed: int = 0
) -> Found:
    """cpdiff below `BETTING_FROM` samples, betting from there: fixed by n, never by the outcome."""
    if len(scores) < BETTING_FROM:
        return excess_cpdiff(scores, excess, eps=eps, delta=delta, grid=grid)
    return excess_betting(scores, excess, eps=eps, delta=delta, grid=grid, seed=seed)


def crc(scores: Scores, losses: Flags, *, eps: float) -> Found:
    """E[P(score >= t and loss)] <= eps over calibrations, for a loss of 0 or 1: `marginal`.

    Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814): just above the (k + 1)-th
    largest score of a loss, where (k + 1) / (n + 1) <= eps. About half of all calibrations end
    with a risk above eps.
    """
    method = "conformal risk control (CRC)"
    n = len(scores)
    allowed = math.floor(eps * (n + 1) + 1e-12) - 1
    if allowed < 0:
        return Found(None, None, None, method)
    lost = np.sort(scores[(losses != 0) & ~np.isnan(scores)])[::-1]
    threshold = 0.0 if len(lost) <= allowed else float(np.nextafter(lost[allowed], np.inf))
    if threshold > 1.0:
        return Found(None, None, None, method)
    return Found(threshold, int((lost >= threshold).sum()), None, method)


def selective_start(tune_scores: Scores, tune_wrong: Flags, *, eps: float) -> float | None:
    """Where a selective walk begins: the threshold most significant on the *tune* samples.

    From the top, the first thresholds leave too few samples to test anything, and the walk stalls.
    It is sought among `START_POINTS` quantiles: of more, the luckiest wins and not the best. And it
    lies half-way to the tune score below, which is the same to tune samples and leaves more others.
    None where no threshold leaves `MIN_TUNE_LOCAL` tune samples.
    """
    from scipy.special import bdtr

    coarse = grid_from(tune_scores, START_POINTS)
    local = counts_at(tune_scores, np.ones(len(tune_scores), dtype=bool), coarse)
    k = counts_at(tune_scores, tune_wrong, coarse)
    enough = local >= MIN_TUNE_LOCAL
    if not enough.any():
        return None
    p = np.where(enough, bdtr(k.astype(np.float64), np.maximum(local, 1), eps), np.inf)
    start = float(coarse[int(p.argmin())])
    return (start + float(tune_scores[tune_scores < start].max(initial=0.0))) / 2


def walk_from(grid: Scores, start: float) -> Scores:
    """The grid from `start` down, `start` included."""
    return np.concatenate([[start], grid[grid < start]])


def selective(
    scores: Scores, wrong: Flags, *, eps: float, delta: float, grid: Scores, start: float
) -> Found:
    """P(wrong | score >= t) <= eps, walked down the grid from `start`.

    Given how many samples m are at or above t, their losses are Binomial(m, risk), so
    P(Binomial(m, eps) <= k) is a p-value. `start` comes from tune samples (`selective_start`).
    """
    from scipy.special import bdtr

    method = "exact binomial of the local samples, fixed sequence from a start chosen on tune"
    walk = walk_from(grid, start)
    local = counts_at(scores, np.ones(len(scores), dtype=bool), walk)
    k = counts_at(scores, wrong, walk)
    p = np.where(local > 0, bdtr(k.astype(np.float64), np.maximum(local, 1), eps), 1.0)
    place = _last_passed(p <= delta)
    if place is None:
        return Found(None, None, None, method)
    bound = float(upper_limit(k[place], local[place], delta))
    return Found(float(walk[place]), int(k[place]), bound, method)


def plug_in(scores: Scores, losses: Flags, *, eps: float) -> Found:
    """A control that keeps no promise: the lowest threshold at which the samples keep eps.

    It is what everybody does by eye. More than half of all calibrations break eps (cascade note,
    section 3: 54 to 64 of 100).
    """
    usable = ~np.isnan(scores)
    order = np.argsort(-scores[usable], kind="stable")
    ranked, lost = scores[usable][order], np.sign(losses[usable][order]).astype(np.int64)
    if len(ranked) == 0:
        return Found(None, None, None, "plug-in")
    ends = np.append(ranked[1:] != ranked[:-1], True)  # only whole groups of ties can be local
    kept = np.flatnonzero((lost.cumsum() <= eps * len(scores)) & ends)
    if len(kept) == 0:
        return Found(None, None, None, "plug-in")
    last = int(kept[-1])
    return Found(float(ranked[last]), int((lost[: last + 1] > 0).sum()), None, "plug-in")


def sgr(scores: Scores, wrong: Flags, *, eps: float, delta: float) -> Found:
    """A baseline for `selective`: binary search over the samples' own scores, delta shared out.

    Geifman and El-Yaniv 2017 (arXiv 1705.08500), algorithm 1.
    """
    usable = ~np.isnan(scores)
    order = np.argsort(scores[usable], kind="stable")
    ranked, lost = scores[usable][order], (wrong[usable][order] != 0)
    n = len(ranked)
    if n == 0:
        return Found(None, None, None, "SGR")
    rounds = max(1, math.ceil(math.log2(n)))
    low, high = 0, n - 1
    best = Found(None, None, None, "SGR")
    for _ in range(rounds):
        place = int(np.searchsorted(ranked, ranked[(low + high + 1) // 2], side="left"))
        k, local = int(lost[place:].sum()), n - place
        bound = float(upper_limit(k, local, delta / rounds))
        if bound <= eps:
            if best.threshold is None or ranked[place] < best.threshold:
                best = Found(float(ranked[place]), k, bound, "SGR")
            high = place
        else:
            low = (low + high + 1) // 2
    return best


def _last_passed(passed: npt.NDArray[np.bool_]) -> int | None:
    """The place before the first test that failed; None where the first did."""
    place = (len(passed) if passed.all() else int(passed.argmin())) - 1
    return None if place < 0 else place
