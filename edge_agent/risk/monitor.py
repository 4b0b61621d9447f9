"""Whether audited losses still fit the promised risk: a mixture Shiryaev-Roberts e-detector. (pure)

H0: every request, given all before it, is answered here at a loss with chance at most `theta`.

1. One audited request counts z = 1 (answered here, and differently by the cloud) or z = 0. Audits
   are a uniform sample, so no weight is needed and E[z | past] is the risk itself.
2. For each ratio r the bet e(z) = 1 + b (z - theta) with b = (r - 1) / (1 - theta) is the
   likelihood ratio of a risk r theta against theta; b is held below 1 / theta so that e stays
   positive. Under H0 its mean is at most 1.
3. M <- (M + 1) e for each: a new copy starts after every audit, so a change is found whenever it
   comes. Under H0 the mean of M after t audits is at most t.
4. Alarm once the mean of the M over the ratios reaches horizon / delta. So the chance of a false
   alarm within `horizon` audits is at most `delta`, and the mean time to one is at least
   horizon / delta audits (Shin, Ramdas and Rinaldo, e-detectors).
5. Audits are counted in the order in which they were decided. A missing one counts z = 0, which
   keeps rule 4 whatever made it go missing.
6. An alarm stays until the monitor is begun anew.
"""

import math

from msgspec import Struct

RATIOS = (1.3, 1.6, 2.0, 3.0, 5.0, 10.0, 20.0)
"""How much worse than promised the risk may have become: from just noticeable to all at once."""
_NEAREST_TO_RUIN = 0.9
"""Of the largest bet: a single z = 0 leaves a tenth of what was at stake."""


class Monitor(Struct, frozen=True):
    """What is known after `audits` counted audits. `logs`: log M for each ratio; empty at first."""

    theta: float
    horizon: int
    delta: float
    audits: int = 0
    losses: int = 0
    logs: tuple[float, ...] = ()
    alarm_at: int | None = None
    """The number of the audit that raised the alarm."""

    def __post_init__(self) -> None:
        if not 0.0 < self.theta < 1.0 or not 0.0 < self.delta < 1.0 or self.horizon < 1:
            raise ValueError(
                "theta and delta must lie between 0 and 1 and horizon be at least 1, not"
                f" {self.theta}, {self.delta} and {self.horizon}"
            )

    @property
    def evidence(self) -> float:
        """How near the alarm is, 0 to 1, on a logarithmic scale; for people."""
        if not self.logs:
            return 0.0
        nearness = _log_mean(self.logs) / math.log(self.horizon / self.delta)
        return min(1.0, max(0.0, nearness))


def count(monitor: Monitor, *, loss: bool) -> Monitor:
    """The monitor after one more audit."""
    theta = monitor.theta
    excess = (1.0 if loss else 0.0) - theta
    before = monitor.logs or (-math.inf,) * len(RATIOS)
    logs = tuple(
        _log_add_one(log) + math.log1p(_bet(ratio, theta) * excess)
        for ratio, log in zip(RATIOS, before, strict=True)
    )
    audits = monitor.audits + 1
    alarm_at = monitor.alarm_at
    if alarm_at is None and _log_mean(logs) >= math.log(monitor.horizon / monitor.delta):
        alarm_at = audits
    return Monitor(
        theta=theta,
        horizon=monitor.horizon,
        delta=monitor.delta,
        audits=audits,
        losses=monitor.losses + loss,
        logs=logs,
        alarm_at=alarm_at,
    )


def begun_anew(monitor: Monitor, theta: float | None = None) -> Monitor:
    """Without evidence, after a change that is known: another certificate, another cloud model."""
    return Monitor(
        theta=monitor.theta if theta is None else theta,
        horizon=monitor.horizon,
        delta=monitor.delta,
    )


def _bet(ratio: float, theta: float) -> float:
    return min((ratio - 1.0) / (1.0 - theta), _NEAREST_TO_RUIN / theta)


def _log_add_one(log: float) -> float:
    """log(e^log + 1) without overflow."""
    return max(log, 0.0) + math.log1p(math.exp(-abs(log)))


def _log_mean(logs: tuple[float, ...]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))
