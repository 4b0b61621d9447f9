"""Where the live risk lies, by the audits so far: a hedged betting confidence sequence. (pure)

For every candidate m of a grid two gamblers bet, one that the mean is above m and one that it is
below; the candidates under which neither has got rich stay (Waudby-Smith and Ramdas, "Estimating
means of bounded random variables by betting"). The interval covers the risk at all times together
with chance 1 - delta, so it may be looked at as often as one likes. It speaks of one unchanging
risk: after a change it is begun anew, and a window at a time.
"""

import math

DELTA = 0.05
WINDOW = 4_000
"""Audits after which it begins anew, so that a risk that has moved slowly is found as well."""
_POINTS = 160
_LEAST, _MOST = 5e-4, 0.6
_CAP = 0.8
GRID = tuple(_LEAST * (_MOST / _LEAST) ** (i / (_POINTS - 1)) for i in range(_POINTS))


class LiveRisk:
    """An interval for the risk, fed with audited outcomes in the order they were decided."""

    def __init__(self, delta: float = DELTA, *, window: int = WINDOW) -> None:
        self._delta = delta
        self._window = window
        self._begin()

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high), both ends included; (0, 1) while nothing is known."""
        return self._low, self._high

    def _begin(self) -> None:
        self.n = 0
        self.losses = 0
        self._low, self._high = 0.0, 1.0
        self._above = [0.0] * _POINTS
        self._below = [0.0] * _POINTS
        self._staying = list(range(_POINTS))

    def count(self, *, loss: bool) -> None:
        """One more audited outcome."""
        if self.n >= self._window:
            self._begin()
        self.n += 1
        x = 1.0 if loss else 0.0
        mean = (0.5 + self.losses) / (self.n + 9)  # of what came before, drawn towards little
        spread = max(mean * (1 - mean), 1e-3)
        stake = math.sqrt(2 * math.log(2 / self._delta) / (spread * self.n * math.log(1 + self.n)))
        ruin = math.log(2 / self._delta)
        staying = []
        for i in self._staying:
            m = GRID[i]
            self._above[i] += math.log1p(min(stake, _CAP / m) * (x - m))
            self._below[i] += math.log1p(-min(stake, _CAP / (1 - m)) * (x - m))
            high, low = max(self._above[i], self._below[i]), min(self._above[i], self._below[i])
            if high + math.log1p(math.exp(low - high)) < ruin:
                staying.append(i)
        self.losses += loss
        if not staying:
            # The risk has changed so much that no single one explains it all: begin with what is.
            self._begin()
            return
        self._staying = staying
        # The truth lies between grid points, so each end is the next point outside.
        self._low = GRID[staying[0] - 1] if staying[0] > 0 else 0.0
        self._high = GRID[staying[-1] + 1] if staying[-1] + 1 < _POINTS else 1.0
