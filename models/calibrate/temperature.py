"""The temperature that makes a model's confidences honest, from tuning samples."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.calibrate.outcomes import check_labels
from models.calibrate.scores import Logits

Labels = npt.NDArray[np.integer[Any]]


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature in [0.05, 20] under which the labels are likeliest, smoothed as Platt did.

    Each label counts as certain but for 1 / (n + 2), spread over the other classes. Without that, a
    model that is right on every tune sample would get temperature 0: every score would be 1, and
    no threshold could tell one input from another.

    Raises `LabelOutside`, ValueError for logits that are not finite or do not fit the labels.
    """
    from scipy.optimize import minimize_scalar

    if (
        logits.ndim != 2
        or len(logits) == 0
        or logits.shape[1] < 2
        or labels.shape != (len(logits),)
    ):
        raise ValueError(
            "wanted logits [n, K], K at least 2, and labels [n], "
            f"not {list(logits.shape)} and {list(labels.shape)}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or an infinity; leave those samples out of the fit")
    check_labels(labels, logits.shape[1], len(logits))
    wide = logits.astype(np.float64)
    below_top = wide - wide.max(axis=1, keepdims=True)
    count, classes = wide.shape
    doubt = 1 / (count + 2)
    targets = np.full(wide.shape, doubt / (classes - 1))
    targets[np.arange(count), labels] = 1 - doubt
    expected = (targets * below_top).sum(axis=1)

    def surprise(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        norms = np.log(np.exp(below_top / temperature).sum(axis=1))
        return float((norms - expected / temperature).mean())

    # Convex in 1/T, so one valley in log T: a bounded search finds it.
    found = minimize_scalar(
        surprise, bounds=(math.log(0.05), math.log(20.0)), method="bounded", options={"xatol": 1e-6}
    )
    return float(math.exp(float(found.x)))
