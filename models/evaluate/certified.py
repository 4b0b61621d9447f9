"""What became of a certificate on given data, and whether these are like its calibration data."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.calibrate.betting import betting_bound
from models.calibrate.certificate import Certificate
from models.calibrate.exchange import compare
from models.calibrate.groups import group_means
from models.calibrate.outcomes import Groups
from models.errors import TooFewSamples
from models.evaluate.audit import oracle
from models.evaluate.curves import Flags
from models.evaluate.inputs import EvaluationInputs, Sample, counts_groups
from models.evaluate.parts import as_range, risk_range
from models.evaluate.sections import Bounds, Certified, Kept, Likeness, Range

TELLING_P = 0.025
"""Each of the two tests warns from here on."""


def judge_certificate(sample: Sample, local: Flags, certificate: Certificate) -> Certified:
    """The certificate's figures, its risk here, and whether the promise is kept."""
    losses = sample.losses(certificate.promise)[local]
    over = len(losses) if certificate.promise == "selective" else sample.n
    risk = sample.risk(local, certificate.promise)
    if counts_groups(certificate) and sample.groups is not None:
        within = _group_range(sample, sample.groups, local, certificate)
    else:
        within = as_range(risk_range(losses.tolist(), over)) if over else Range(0.0, 100.0)
    least = oracle(sample, certificate)
    verdict: Kept
    if not certificate.feasible:
        verdict = "no promise"
    elif risk <= certificate.eps + 1e-12:
        verdict = "kept"
    elif within.low_percent <= 100 * certificate.eps:
        verdict = "above, within chance"
    else:
        verdict = "broken"
    return Certified(
        promise=certificate.promise,
        guarantee=certificate.guarantee,
        method=certificate.method,
        eps_percent=100 * certificate.eps,
        delta_percent=100 * certificate.delta,
        threshold_ratio=certificate.threshold,
        counted="groups" if counts_groups(certificate) else "samples",
        n_count=certificate.n,
        k_count=certificate.k,
        upper_bound_percent=None
        if certificate.upper_bound is None
        else 100 * certificate.upper_bound,
        needed_count=certificate.needed_n,
        feasible=certificate.feasible,
        note=certificate.note,
        risk_percent=100 * risk,
        risk_range=within,
        verdict=verdict,
        oracle_escalated_percent=100 * least,
        premium_points=100 * (1 - float(local.mean()) - least),
        bounds=_bounds(sample, certificate),
    )


def _group_range(sample: Sample, groups: Groups, local: Flags, certificate: Certificate) -> Range:
    """95 % for the mean over groups, by betting: exact, and wide where groups are few."""
    losses = sample.losses(certificate.promise)
    if certificate.promise == "selective":
        losses = losses - certificate.eps
    means = (group_means(losses * local, groups) + 1) / 2
    above = 2 * betting_bound(means, 0.025) - 1
    below = 1 - 2 * betting_bound(1 - means, 0.025)
    shift = certificate.eps if certificate.promise == "selective" else 0.0
    return Range(100 * max(below + shift, -1.0), 100 * min(above + shift, 1.0))


def likeness_of(given: EvaluationInputs, sample: Sample) -> Likeness | None:
    """Of the scores and of the promise's loss, which is disagreement where labels are missing."""
    there = given.calibration
    if there is None:
        return None
    promise = given.certificate.promise
    if sample.measure == "agreement" or there.edge_wrong is None or there.cloud_wrong is None:
        promise = "teacher"
    groups = None
    if there.groups is not None and sample.groups is not None:
        groups = (there.groups, sample.groups)
    losses = (there.loss(promise), sample.losses(promise).astype(np.int8))
    try:
        found = compare((there.scores, sample.scores), losses, groups, seed=given.seed)
    except TooFewSamples:
        return None
    verdict: Literal["alike", "not alike", "too few to tell"]
    if not found.alike:
        verdict = "not alike"
    else:
        verdict = "alike" if found.least_p <= TELLING_P else "too few to tell"
    return Likeness(
        verdict=verdict,
        units="rows" if groups is None else "groups",
        units_count=found.units,
        score_p_ratio=found.score_p,
        loss_p_ratio=found.loss_p,
        loss_calibration_percent=100 * found.loss_first,
        loss_here_percent=100 * found.loss_second,
        least_p_ratio=found.least_p,
    )


def _bounds(sample: Sample, certificate: Certificate) -> Bounds | None:
    curve = certificate.curve
    if curve is None:
        return None
    rows = []
    for threshold, bound in zip(curve.thresholds, curve.bounds, strict=True):
        local = sample.local(threshold)
        risk = sample.risk(local, certificate.promise)
        rows.append((threshold, 100 * (1 - float(local.mean())), 100 * bound, 100 * risk))
    thresholds, escalated, bounds, risks = zip(*rows, strict=True)
    return Bounds(thresholds, escalated, bounds, risks)
