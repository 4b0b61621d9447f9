"""What a cascade does with held-out and test samples, as every task of the zoo publishes it."""

import math

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Certificate
from models.calibrate.scores import Logits, confidence
from models.zoo.data import Labels
from models.zoo.figures import CascadeFigures
from models.zoo.threshold import harmed


def cascade_figures(
    certificate: Certificate, held: Logits, edge: Logits, cloud: Logits, labels: Labels
) -> CascadeFigures:
    """What the cascade does with held-out and test samples under a certificate."""
    threshold = math.inf if certificate.threshold is None else certificate.threshold
    local_held, local = (
        confidence(logits, certificate.temperature) >= threshold for logits in (held, edge)
    )
    routed = np.where(local, edge.argmax(axis=1), cloud.argmax(axis=1))
    recalls = [
        float((edge.argmax(axis=1)[labels == one] == one).mean()) for one in np.unique(labels)
    ]

    def percent(flags: npt.NDArray[np.bool_]) -> float:
        return round(100.0 * float(flags.mean()), 2)

    return CascadeFigures(
        held_escalated_percent=percent(~local_held),
        test_escalated_percent=percent(~local),
        test_percent=percent(routed == labels),
        test_harm_percent=percent(harmed(edge, cloud, labels) & local),
        test_macro_recall_edge_percent=round(100.0 * float(np.mean(recalls)), 2),
    )
