"""The certificate curve: bounds on the risk at every threshold, which all hold together.

Let u_(1) < ... < u_(n) be sorted uniform numbers. The chance of "score at or above t, and a loss"
lies, for all t at once, below what the (k + 1)-th of them may reach, k being the losses seen at or
above t: the chances of losing scores' tails behave like u_(1), u_(2), ..., or are larger where
scores tie. Berk and Jones 1979 let every u_(j) reach the same quantile of its own law, Beta(j,
n + 1 - j), and lower the level until all of them keep it together with chance 1 - delta. A lower
band is the same seen from the other side.

Rules:
1. The draws behind a level are made once for each n and remembered; the seed is fixed, so the same
   data give the same curve anywhere. It is an order statistic of the draws, so that the promise
   counts the simulation's own chance: P(broken) <= floor(delta (draws + 1)) / (draws + 1).
2. Only some ranks are bounded: all up to 64, then every 5 % more, up to a third of n. Between them
   the next one, which is further out, bounds too, so that the level costs the same for any n; a
   risk above a third is bounded by 1. Fewer ranks leave more of delta to each.
3. Of `excess` the band is an upper one for samples only the edge had wrong, less a lower one for
   those only the cloud had wrong; delta is shared as `rules.HARM_SHARE` says.
4. Of `selective` it is an upper one for wrong samples, over a lower one for local samples, which
   are many: sqrt(ln(1 / delta) / 2 n) below the share seen (Massart 1990). delta is shared 9 to 1.
5. Samples are taken as drawn one by one. For groups there is no such curve.
"""

import math
from functools import lru_cache
from typing import Literal, NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Promise
from models.calibrate.curve import Curve
from models.calibrate.rules import HARM_SHARE, Counts, Flags, counts_at, lower_limit, upper_limit
from models.calibrate.scores import Scores

Floats = npt.NDArray[np.float64]

DRAWS = 1999
SEED = 20_797
LEAST_TAKEN = 10
SINGLE_RANKS = 64
RANK_STEP = 1.05
WRONG_SHARE = 0.9
"""Of delta, for the wrong samples of `selective`; their number is far less certain."""
POINTS = 128


Side = Literal["upper", "lower"]


class Level(NamedTuple):
    """The level every rank is bounded at, and the ranks."""

    level: float
    ranks: tuple[int, ...]


def level(n: int, delta: float, side: Side) -> Level:
    """The pointwise level at which all ranks keep their bounds together with chance 1 - delta.

    Where delta is too small for the draws, it is shared out evenly among the ranks.
    """
    ranks = _ranks(n)
    taken = int(delta * (DRAWS + 1))
    if taken < LEAST_TAKEN:
        return Level(delta / len(ranks), ranks)
    return Level(_minima(n, side)[taken - 1], ranks)


@lru_cache(maxsize=64)
def _minima(n: int, side: Side) -> tuple[float, ...]:
    """Of each draw the least tail chance over all ranks, sorted."""
    from scipy.special import betainc, betaincc

    places = np.array(_ranks(n), dtype=np.float64)
    chance = np.random.default_rng([SEED, n])
    # u_(j) is the j-th of n + 1 exponential sums over the last; ranks in between only add up.
    steps = np.diff(places, prepend=0)
    sums = chance.standard_gamma(steps, size=(DRAWS, len(places))).cumsum(axis=1)
    rest = chance.standard_gamma(n + 1 - places[-1], size=(DRAWS, 1))
    tail = betaincc if side == "upper" else betainc
    chances = tail(places, n + 1 - places, sums / (sums[:, -1:] + rest))
    return tuple(np.sort(chances.min(axis=1)).tolist())


def upper_band(losses: Counts, n: int, delta: float) -> Floats:
    """Upper bounds, all with chance 1 - delta, on shares of which `losses` [G] in n were seen."""
    found = level(n, delta, "upper")
    ranks = np.array(found.ranks)
    place = np.searchsorted(ranks, losses + 1, side="left")
    known = place < len(ranks)
    bounds = np.ones(losses.shape)
    bounds[known] = upper_limit(ranks[place[known]] - 1, n, found.level)
    return bounds


def lower_band(seen: Counts, n: int, delta: float) -> Floats:
    """Lower bounds, all with chance 1 - delta, on shares of which `seen` [G] in n were seen."""
    found = level(n, delta, "lower")
    ranks = np.array(found.ranks)
    place = np.searchsorted(ranks, seen, side="right") - 1
    known = place >= 0
    bounds = np.zeros(seen.shape)
    bounds[known] = lower_limit(ranks[place[known]], n, found.level)
    return bounds


def curve(scores: Scores, losses: Flags, *, promise: Promise, delta: float, grid: Scores) -> Curve:
    """The certified risk at every threshold, from calibration samples; `grid` descends.

    At most `POINTS` thresholds of the grid are kept, where the bound moves. Between two of them the
    bound speaks for the lower one's losses, so it holds there, too.
    """
    n = len(scores)
    match promise:
        case "harm" | "teacher":
            bounds = upper_band(counts_at(scores, losses, grid), n, delta)
        case "excess":
            lost = upper_band(counts_at(scores, losses > 0, grid), n, HARM_SHARE * delta)
            won = lower_band(counts_at(scores, losses < 0, grid), n, (1 - HARM_SHARE) * delta)
            bounds = np.clip(lost - _one_step_higher(won), 0.0, 1.0)
        case "selective":
            wrong = upper_band(counts_at(scores, losses, grid), n, WRONG_SHARE * delta)
            seen = counts_at(scores, np.ones(n, dtype=bool), grid) / n
            slack = math.sqrt(math.log(1 / ((1 - WRONG_SHARE) * delta)) / (2 * n))
            local = np.maximum(seen - slack, 0.0)
            share = _one_step_higher(local)
            ratio = np.divide(wrong, share, out=np.ones(len(grid)), where=share > 0)
            bounds = np.minimum(ratio, 1.0)
        case _:
            assert_never(promise)
    return _thinned(grid[::-1], bounds[::-1])


def _one_step_higher(bounds: Floats) -> Floats:
    """What holds for all thresholds up to the next of the descending grid: that one's bound."""
    return np.concatenate([[0.0], bounds[:-1]])


def _thinned(thresholds: Scores, bounds: Floats) -> Curve:
    """A point where the bound changes; of too many every k-th, with the worst bound it covers."""
    moved = np.append(True, bounds[1:] != bounds[:-1])
    starts = np.flatnonzero(moved)
    if len(starts) > POINTS:
        starts = starts[np.linspace(0, len(starts) - 1, POINTS).round().astype(np.int64)]
    worst = np.minimum(np.ceil(np.maximum.reduceat(bounds, starts) * 1e6) / 1e6, 1.0)
    return Curve(tuple(thresholds[starts].tolist()), tuple(worst.tolist()))


def _ranks(n: int) -> tuple[int, ...]:
    """1 to 64, then each 5 % above the last, to a third of n."""
    last = min(n, max(n // 3, 50))
    ranks = list(range(1, min(last, SINGLE_RANKS) + 1))
    while ranks[-1] < last:
        ranks.append(min(last, max(ranks[-1] + 1, round(ranks[-1] * RANK_STEP))))
    return tuple(ranks)
