"""Tests of a mean by betting: exact for samples in [0, 1] of any distribution, at any n.

Waudby-Smith and Ramdas 2020 (arXiv 2010.09686). Against H0 "the mean is m or more" a player with
capital 1 bets b_t >= 0 that sample t lies below m: the capital is multiplied by 1 - b_t (x_t - m).
Under H0 it is a supermartingale, so it exceeds 1 / delta with chance at most delta, ever (Ville).
The bet may depend on earlier samples only:

    b_t = min(0.9 / (1 - m), sqrt(2 ln(1 / delta) / (n v_(t-1))))

with v the running variance, begun at 1/4. The result depends on the order of the samples, which has
to be a random one.
"""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STAKE = 0.9
"""Never more of the capital than this: one sample of 1 must not ruin the player."""


def betting_p(samples: Floats, mean: float, delta: float) -> Floats:
    """p-values for "the mean is `mean` or more", one for each row of samples [G, n] in [0, 1]."""
    n = samples.shape[1]
    seen = np.arange(2, n + 2)  # samples so far, and one made-up sample of 1/2
    running = (0.5 + samples.cumsum(axis=1)) / seen
    np.subtract(samples, running, out=running)
    np.multiply(running, running, out=running)
    variance = (0.25 + running.cumsum(axis=1)) / seen
    stakes = np.empty_like(samples)
    stakes[:, 0] = 0.25
    stakes[:, 1:] = variance[:, :-1]
    np.sqrt(2 * math.log(1 / delta) / n / stakes, out=stakes)
    np.minimum(stakes, STAKE / (1 - mean), out=stakes)
    np.multiply(stakes, mean - samples, out=stakes)
    best = np.log1p(stakes).cumsum(axis=1).max(axis=1)
    p: Floats = np.minimum(1.0, np.exp(-best))
    return p


def betting_bound(samples: Floats, delta: float) -> float:
    """An upper limit on the mean of one row of samples [n] in [0, 1], broken with chance delta.

    The least mean that is rejected, by halving, to 1e-6: the true one is rejected with chance delta
    at most. 1 where nothing is.
    """
    low, high = 0.0, 1.0 - 1e-9
    if betting_p(samples[None, :], high, delta)[0] > delta:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if betting_p(samples[None, :], middle, delta)[0] <= delta:
            high = middle
        else:
            low = middle
    return high
