"""`evaluate`: from rows, a certificate and prices to everything a page can say of them."""

from __future__ import annotations

import msgspec
import numpy as np

from models.calibrate.scores import Logits, confidence
from models.errors import ConstantScore
from models.evaluate import curves
from models.evaluate.audit import audit
from models.evaluate.certified import judge_certificate, likeness_of
from models.evaluate.cost import cost
from models.evaluate.curves import Curve, Flags
from models.evaluate.hurting import hurting
from models.evaluate.inputs import EvaluationInputs, Sample, counts_groups, sample_of
from models.evaluate.metrics import (
    Bin,
    calibration_error,
    clopper_pearson,
    ranking,
    reliability,
    surprise,
)
from models.evaluate.parts import as_range, parts
from models.evaluate.precision import precision
from models.evaluate.sections import (
    About,
    Accuracy,
    Audit,
    Bins,
    Confidence,
    Evaluation,
    Points,
    RiskCoverage,
)
from models.evaluate.wording import caveats, headline, unknown

CURVE_POINTS = 201


def evaluate(given: EvaluationInputs) -> Evaluation:
    """Judges a cascade on given rows.

    Raises `UnfitData`, `LabelOutside` and `TooFewSamples` (see `inputs.sample_of`).
    """
    sample = sample_of(given)
    certificate = given.certificate
    local = sample.local(certificate.threshold)
    about = About(
        task=given.task,
        rows_count=sample.n,
        groups_count=None if sample.groups is None else len(np.unique(sample.groups)),
        measure=sample.measure,
        score=certificate.score,
        classes_count=None if sample.classes is None else len(sample.class_names),
        package=given.package,
        certificate=certificate.id,
    )
    accuracy = _accuracy(sample, local)
    certified = judge_certificate(sample, local, certificate)
    hurts = hurting(sample, ~local)
    tried = _audit(given, sample)
    likeness = likeness_of(given, sample)
    forms = None
    if given.edge_logits is not None and given.edge_fp32_logits is not None:
        forms = precision(given, sample, given.edge_logits, given.edge_fp32_logits)
    split = parts(sample, local, certificate.promise)
    return Evaluation(
        format=1,
        headline=headline(about, accuracy, certified, tried),
        caveats=caveats(given, sample, certified, tried, hurts, split, likeness),
        unknown=unknown(given, sample),
        about=about,
        accuracy=accuracy,
        certified=certified,
        audit=tried,
        likeness=likeness,
        confidence=_confidence(given, sample),
        precision=forms,
        parts=split,
        hurting=hurts,
        cost=cost(given, sample, local),
    )


def to_json(evaluation: Evaluation) -> bytes:
    """The whole evaluation, indented; a number keeps every digit."""
    return msgspec.json.format(msgspec.json.encode(evaluation), indent=2) + b"\n"


def from_json(document: bytes) -> Evaluation:
    """What `to_json` wrote. Raises msgspec.ValidationError for anything else."""
    return msgspec.json.decode(document, type=Evaluation)


def _accuracy(sample: Sample, local: Flags) -> Accuracy:
    edge, cloud = sample.edge_wrong, sample.cloud_wrong
    system = np.where(local, edge, cloud)
    curve = curves.deferral(sample.scores, edge, cloud)
    best = curves.peak(curve)
    gain = curves.deferral_gain(sample.scores, edge, cloud)
    cloud_right = 1 - float(cloud.mean())
    within = [
        _percent(curves.escalation_for(curve, cloud_right - points / 100)) for points in (1, 0.5, 0)
    ]
    ranges = [
        as_range(clopper_pearson(int((~wrong).sum()), sample.n)) for wrong in (edge, cloud, system)
    ]
    return Accuracy(
        edge_percent=100 * (1 - float(edge.mean())),
        edge_range=ranges[0],
        cloud_percent=100 * cloud_right,
        cloud_range=ranges[1],
        system_percent=100 * (1 - float(system.mean())),
        system_range=ranges[2],
        escalated_percent=100 * (1 - float(local.mean())),
        local_percent=100 * (1 - float(edge[local].mean())) if local.any() else None,
        best_percent=100 * best.right,
        best_escalated_percent=100 * best.escalated,
        within_1_point_escalated_percent=within[0],
        within_half_point_escalated_percent=within[1],
        within_0_points_escalated_percent=within[2],
        deferral_gain_percent=_percent(gain),
        system=_points(curves.thinned(curve, CURVE_POINTS)),
        oracle=_points(curves.oracle_deferral(edge, cloud)),
        ideal=_points(curves.ideal_deferral(edge, cloud)),
        random=_points(curves.random_deferral(edge, cloud)),
    )


def _audit(given: EvaluationInputs, sample: Sample) -> Audit | None:
    if given.resamples <= 0 or (counts_groups(given.certificate) and sample.groups is None):
        return None
    try:
        return audit(sample, given.certificate, resamples=given.resamples, seed=given.seed)
    except ConstantScore:
        return None  # the caveats say so


def _confidence(given: EvaluationInputs, sample: Sample) -> Confidence:
    order = ranking(sample.scores, sample.edge_wrong)
    scored = sample.scores[~np.isnan(sample.scores)]
    logits, temperature = given.edge_logits, given.certificate.temperature
    before = after = None
    nll_before = nll_after = None
    if logits is not None and given.judged is None and sample.classes is not None:
        before, after = (_reliability(sample, logits, each) for each in (1.0, temperature))
        if len(scored):
            nll_before, nll_after = (
                surprise(logits, sample.classes, each) for each in (1.0, temperature)
            )
    covered = curves.thinned(curves.risk_coverage(sample.scores, sample.edge_wrong), CURVE_POINTS)
    return Confidence(
        auroc_ratio=order.auroc,
        aurc_percent=100 * order.aurc,
        e_aurc_percent=100 * order.e_aurc,
        augrc_percent=100 * order.augrc,
        ece_before_percent=_error(before),
        ece_after_percent=_error(after),
        nll_before_nats=nll_before,
        nll_after_nats=nll_after,
        temperature_ratio=temperature,
        distinct_count=len(np.unique(scored)),
        tied_at_top_percent=(
            100 * float((scored == scored.max()).sum()) / sample.n if len(scored) else 0.0
        ),
        without_score_count=sample.n - len(scored),
        risk_coverage=RiskCoverage(_percents(covered.x), _percents(covered.y)),
        reliability_before=_bins(before),
        reliability_after=_bins(after),
    )


def _reliability(sample: Sample, logits: Logits, temperature: float) -> tuple[Bin, ...]:
    """Of the top probability, whatever score the certificate judges by: it alone is a chance."""
    return reliability(confidence(logits, temperature), sample.edge_wrong)


def _error(bins: tuple[Bin, ...] | None) -> float | None:
    return None if bins is None else _percent(calibration_error(bins))


def _bins(bins: tuple[Bin, ...] | None) -> Bins | None:
    if not bins:
        return None
    return Bins(
        rows_count=tuple(each.rows for each in bins),
        confidence_percent=tuple(100 * each.confidence for each in bins),
        right_percent=tuple(100 * each.right for each in bins),
    )


def _points(curve: Curve) -> Points:
    return Points(_percents(curve.x), _percents(curve.y))


def _percents(values: curves.Floats) -> tuple[float, ...]:
    return tuple((100 * values).tolist())


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
