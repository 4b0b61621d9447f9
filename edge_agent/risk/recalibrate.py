"""A short process that makes a certificate of audited requests, and ends.

It holds what the supervisor must not: numpy and the rules of calibration. One `Order` comes in as
JSON on standard input, one `Outcome` goes out as JSON on standard output; exit code 0.

1. The promise is `teacher`: audits know no labels. It implies `harm` and `excess` at the same eps.
2. The thresholds that are tried come from scores of other requests and from the old curve.
3. The certificate is the device's own: it is bound to what the old one is bound to, says where it
   comes from, and stays on the device.
"""

import sys

import msgspec
import numpy as np

from edge_agent.risk.job import Order, Outcome
from models.calibrate.certificate import Certificate
from models.calibrate.certify import certify
from models.calibrate.outcomes import Outcomes
from models.errors import ModelsError

NOTE = "made on the device from audited requests, after an alarm about {}"


def main() -> int:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(perform(order)) + b"\n")
    return 0


def perform(order: Order) -> Outcome:
    """The certificate of these audits, or why there is none."""
    old = order.certificate
    try:
        made = certify(
            _tune(order),
            Outcomes(
                scores=np.array(
                    [np.nan if one.score is None else one.score for one in order.samples],
                    dtype=np.float64,
                ),
                disagree=np.array([one.disagree for one in order.samples], dtype=bool),
            ),
            promise="teacher",
            eps=old.eps,
            delta=order.delta,
            score=old.score,
            temperature=old.temperature,
            bound=old.bound,
            note=NOTE.format(old.id),
        )
    except ModelsError as error:
        return Outcome(None, f"{error.code}: {error}")
    return Outcome(made, made.note) if _is_of_use(made) else Outcome(None, made.note)


def _is_of_use(made: Certificate) -> bool:
    return made.feasible and made.threshold is not None


def _tune(order: Order) -> Outcomes:
    curve = order.certificate.curve
    scores = [*order.tune, *(curve.thresholds if curve is not None else ())]
    if order.certificate.threshold is not None:
        scores.append(order.certificate.threshold)
    tune = np.array(scores, dtype=np.float64)
    return Outcomes(scores=tune, disagree=np.zeros(len(tune), dtype=bool))


if __name__ == "__main__":
    sys.exit(main())
