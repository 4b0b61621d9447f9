"""Made-up cascades: logits of a device and a cloud whose skill is chosen, and certificates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Certificate, Guarantee, Promise

CLASSES = 4


class Cascade(NamedTuple):
    """Logits [n, 4] of both models, and the truth [n]."""

    edge: npt.NDArray[np.float64]
    cloud: npt.NDArray[np.float64]
    y: npt.NDArray[np.int64]


def made_up(rows: int, *, seed: int, edge_skill: float = 2.5, cloud_skill: float = 4.0) -> Cascade:
    """Noise, and `skill` added at the true class; some rows are harder for both."""
    chance = np.random.default_rng(seed)
    y = chance.integers(0, CLASSES, rows)
    true = np.eye(CLASSES)[y]
    ease = chance.uniform(0.2, 1.8, (rows, 1))
    edge, cloud = (
        chance.normal(size=(rows, CLASSES)) + skill * ease * true
        for skill in (edge_skill, cloud_skill)
    )
    return Cascade(edge, cloud, y)


def certificate(
    *,
    threshold: float | None,
    promise: Promise = "excess",
    guarantee: Guarantee = "high-probability",
    eps: float = 0.05,
    n: int = 500,
    feasible: bool = True,
    groups: int | None = None,
    **changes: Any,
) -> Certificate:
    """A certificate that says so; nothing was calibrated."""
    values: dict[str, Any] = {
        "id": "c-0000000000000000",
        "delta": 0.1,
        "score": "top",
        "temperature": 1.0,
        "design_effect": None,
        "method": "made up",
        "upper_bound": None,
        "k": None,
        "won": None,
        "local": None,
        "curve": None,
        "gain": None,
        "bound": None,
        "needed_n": None,
        "base_risk": 0.0,
        "least_escalation": 0.0,
        "tune_sha256": None,
        "calibration_sha256": None,
    }
    return Certificate(
        promise=promise,
        guarantee=guarantee,
        eps=eps,
        threshold=threshold,
        n=n,
        feasible=feasible,
        groups=groups,
        **(values | changes),
    )
