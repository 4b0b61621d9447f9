"""Thresholds nobody certified: a package before its calibration, and twins."""

from models.calibrate.certificate import Certificate
from models.calibrate.certify import named


def by_hand(
    *, note: str, threshold: float | None = None, temperature: float = 1.0, method: str = "none"
) -> Certificate:
    """A certificate that keeps no promise; without a threshold every input is hard."""
    certificate = Certificate(
        id="",
        promise="harm",
        guarantee="high-probability",
        eps=0.02,
        delta=0.1,
        score="top",
        temperature=temperature,
        threshold=threshold,
        n=0,
        groups=None,
        design_effect=None,
        method=method,
        upper_bound=None,
        k=None,
        won=None,
        local=None,
        curve=None,
        gain=None,
        bound=None,
        feasible=False,
        needed_n=None,
        base_risk=1.0,
        least_escalation=1.0,
        tune_sha256=None,
        calibration_sha256=None,
        note=note,
    )
    return named(certificate)
