"""The edge model as FP32 beside the INT8 file that ships: what rounding did to its confidence.

A threshold belongs to one file. *Transfer* says what it would do on the other: how much more is
escalated on INT8, and how much more the promise's risk is. Cactus' users saw escalation double.
"""

from __future__ import annotations

from dataclasses import replace

from models.calibrate.certificate import Certificate
from models.calibrate.scores import Logits, confidence
from models.evaluate.inputs import EvaluationInputs, Sample, sample_of
from models.evaluate.metrics import calibration_error, ranking, reliability, spearman
from models.evaluate.sections import Form, Precision


def precision(
    given: EvaluationInputs, int8: Sample, int8_logits: Logits, fp32_logits: Logits
) -> Precision:
    """Both forms on the same rows; `int8` is the sample that was judged with `int8_logits`."""
    fp32 = sample_of(replace(given, edge_logits=fp32_logits, edge_fp32_logits=None))
    first = _form(fp32, fp32_logits, given.certificate)
    second = _form(int8, int8_logits, given.certificate)
    same = int8_logits.argmax(axis=1) == fp32_logits.argmax(axis=1)
    return Precision(
        fp32=first,
        int8=second,
        same_label_percent=100 * float(same.mean()),
        rank_correlation_ratio=spearman(int8.scores, fp32.scores),
        transfer_escalated_points=second.escalated_percent - first.escalated_percent,
        transfer_risk_points=second.risk_percent - first.risk_percent,
    )


def _form(sample: Sample, logits: Logits, certificate: Certificate) -> Form:
    order = ranking(sample.scores, sample.edge_wrong)
    bins = reliability(confidence(logits, certificate.temperature), sample.edge_wrong)
    error = calibration_error(bins)
    local = sample.local(certificate.threshold)
    return Form(
        right_percent=100 * (1 - float(sample.edge_wrong.mean())),
        auroc_ratio=order.auroc,
        aurc_percent=100 * order.aurc,
        ece_percent=None if error is None else 100 * error,
        escalated_percent=100 * (1 - float(local.mean())),
        risk_percent=100 * sample.risk(local, certificate.promise),
    )
