"""Whether scores are distributed as they were: advisories, never the alarm. (pure)

A shift of the scores says nothing of the risk: a benign one fires these tests nearly always, and a
harmful one, of confident errors, hardly ever. So nothing follows from them but a line in status.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

BINS = 10
PSI_MARKED = 0.2
"""The customary limit of a shift worth a look."""
KS_LEVEL = 0.01
_FLOOR = 1e-4


class Drift(Struct, frozen=True):
    """How far recent scores are from earlier ones."""

    ks: float
    """Largest distance of the two distribution functions."""
    ks_p: float
    """Chance of one at least as large without a shift (asymptotic)."""
    psi: float
    """Population stability index over the deciles of the earlier scores."""

    @property
    def advice(self) -> str | None:
        """A line for a person; None where there is nothing to say."""
        said = []
        if self.ks_p < KS_LEVEL:
            said.append(f"KS {self.ks:.2f}, p {self.ks_p:.1g}")
        if self.psi > PSI_MARKED:
            said.append(f"PSI {self.psi:.2f}")
        return f"scores have shifted ({', '.join(said)})" if said else None


def compare(earlier: Sequence[float], recent: Sequence[float]) -> Drift:
    """How far apart two samples of scores are. Raises ValueError where one is empty."""
    if not earlier or not recent:
        raise ValueError("both samples of scores need one score at least")
    distance = _ks(sorted(earlier), sorted(recent))
    return Drift(
        ks=distance,
        ks_p=_ks_p(distance, len(earlier), len(recent)),
        psi=_psi(sorted(earlier), recent),
    )


def _ks(first: Sequence[float], second: Sequence[float]) -> float:
    i = j = 0
    most = 0.0
    while i < len(first) and j < len(second):
        here = min(first[i], second[j])
        while i < len(first) and first[i] == here:
            i += 1
        while j < len(second) and second[j] == here:
            j += 1
        most = max(most, abs(i / len(first) - j / len(second)))
    return most


def _ks_p(distance: float, n: int, m: int) -> float:
    """Kolmogorov's series with Stephens' correction for small samples."""
    effective = math.sqrt(n * m / (n + m))
    x = (effective + 0.12 + 0.11 / effective) * distance
    if x < 0.2:  # the series converges slowly there, to 1
        return 1.0
    total = math.fsum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * total))


def _psi(earlier: Sequence[float], recent: Sequence[float]) -> float:
    edges = sorted({earlier[len(earlier) * k // BINS] for k in range(1, BINS)})
    was, now = _shares(earlier, edges), _shares(recent, edges)
    return math.fsum((b - a) * math.log(b / a) for a, b in zip(was, now, strict=True))


def _shares(scores: Sequence[float], edges: Sequence[float]) -> list[float]:
    counts = [0] * (len(edges) + 1)
    for score in scores:
        counts[sum(score >= edge for edge in edges)] += 1
    return [max(count / len(scores), _FLOOR) for count in counts]
