"""An evaluation for a terminal: the headline, what to beware of, and the figures one quotes."""

from __future__ import annotations

from models.evaluate.sections import Evaluation
from models.evaluate.shown import NOTHING, shown, value_at

WIDTH = 46

FIGURES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "What escalating buys",
        (
            ("sent to the cloud", "accuracy.escalated_percent"),
            ("right: cascade", "accuracy.system_percent"),
            ("right: device alone", "accuracy.edge_percent"),
            ("right: cloud alone", "accuracy.cloud_percent"),
            ("best possible", "accuracy.best_percent"),
            ("… when escalating", "accuracy.best_escalated_percent"),
            ("within 1 point of the cloud from", "accuracy.within_1_point_escalated_percent"),
            ("as good as the cloud from", "accuracy.within_0_points_escalated_percent"),
            ("deferral gain (0 chance, 100 ideal)", "accuracy.deferral_gain_percent"),
        ),
    ),
    (
        "The promise",
        (
            ("promised risk, at most", "certified.eps_percent"),
            ("risk on these data", "certified.risk_percent"),
            ("threshold", "certified.threshold_ratio"),
            ("hindsight would escalate", "certified.oracle_escalated_percent"),
            ("audit: calibrations that break it", "audit.violation_percent"),
            ("audit: may break it", "audit.allowed_percent"),
            ("audit: beyond hindsight", "audit.premium_points"),
        ),
    ),
    (
        "The confidence",
        (
            ("AUROC", "confidence.auroc_ratio"),
            ("AURC", "confidence.aurc_percent"),
            ("AUGRC", "confidence.augrc_percent"),
            ("ECE before scaling", "confidence.ece_before_percent"),
            ("ECE after", "confidence.ece_after_percent"),
        ),
    ),
    (
        "FP32 and INT8",
        (
            ("right: FP32", "precision.fp32.right_percent"),
            ("right: INT8", "precision.int8.right_percent"),
            ("same label", "precision.same_label_percent"),
            ("rank correlation of confidences", "precision.rank_correlation_ratio"),
            ("escalated on INT8, more than FP32", "precision.transfer_escalated_points"),
        ),
    ),
    (
        "What it costs, per 1,000",
        (
            ("calls to the cloud", "cost.cloud_calls_per_1000_count"),
            ("sent", "cost.bytes_per_1000_bytes"),
            ("price", "cost.per_1000_cost"),
            ("price of 1,000 right answers", "cost.per_1000_right_cost"),
            ("right in time", "cost.right_in_time_percent"),
        ),
    ),
)


def to_text(evaluation: Evaluation) -> str:
    """Plain text, about a screen; what is not known is left out."""
    lines = [
        f"{evaluation.about.task}: {evaluation.headline.sentence}",
        evaluation.headline.promise,
    ]
    lines += [
        f"{'Beware' if caveat.severe else 'Note'}: {caveat.text}" for caveat in evaluation.caveats
    ]
    for title, figures in FIGURES:
        rows = [(words, _shown(evaluation, path)) for words, path in figures]
        known = [f"  {words:<{WIDTH}}{value:>14}" for words, value in rows if value != NOTHING]
        if known:
            lines += ["", title, *known]
    lines += ["", evaluation.hurting.sentence]
    for words, part in (
        ("class", evaluation.parts.worst_class),
        ("group", evaluation.parts.worst_group),
    ):
        if part is not None:
            within = part.system_range
            lines.append(
                f"Worst {words}: {part.name}, {part.system_percent:.1f} % right"
                f" ({within.low_percent:.1f} to {within.high_percent:.1f})."
            )
    if evaluation.audit is not None:
        lines.append(evaluation.audit.labels_sentence)
    if evaluation.unknown:
        lines += ["", "What these data cannot tell:"]
        lines += [f"  - {sentence}" for sentence in evaluation.unknown]
    return "\n".join(lines).replace("\u00a0", " ") + "\n"


def _shown(evaluation: Evaluation, path: str) -> str:
    """The figure, or a dash where it or its whole section is missing."""
    section = path.split(".")[0]
    if getattr(evaluation, section) is None:
        return NOTHING
    return shown(path.rsplit(".", 1)[-1], value_at(evaluation, path))
