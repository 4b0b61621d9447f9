"""The sentences of an evaluation: the headline, what to beware of, what nobody can know from this.

A sentence here quotes figures of the sections and never computes one that is not there.
"""

from __future__ import annotations

import numpy as np

from models.evaluate.inputs import EvaluationInputs, Sample, counts_groups
from models.evaluate.sections import (
    About,
    Accuracy,
    Audit,
    Caveat,
    Certified,
    Headline,
    Hurting,
    Likeness,
    Parts,
)

PROMISES = {
    "excess": "all answers together are at most {eps} less often right than the cloud's",
    "harm": "at most {eps} % of inputs get a wrong answer from the device that the cloud had right",
    "teacher": "at most {eps} % of inputs get another answer from the device than from the cloud",
    "selective": "at most {eps} % of the answers given on the device are wrong",
}
FEW_ROWS = 300
FEW_GROUPS = 20
TIED = 10.0
LOW_CERTIFIED = 50.0


def promised(certified: Certified) -> str:
    """The promise in words, without saying whether it was kept."""
    eps = f"{certified.eps_percent:g}"
    if certified.promise == "excess":
        eps += " point" if certified.eps_percent == 1 else " points"
    words = PROMISES[certified.promise].format(eps=eps)
    if certified.guarantee == "marginal":
        return f"{words}, on average over calibrations"
    return f"{words}, sure to {100 - certified.delta_percent:g} %"


def headline(
    about: About, accuracy: Accuracy, certified: Certified, audit: Audit | None
) -> Headline:
    """What a reader takes away who reads nothing else."""
    sent = round(10 * accuracy.escalated_percent)
    one = {0: "none goes", 1: "1 goes"}.get(sent, f"{sent:,} go")
    if about.measure == "accuracy":
        right = (
            f"accuracy {accuracy.system_percent:.1f} % (device alone"
            f" {accuracy.edge_percent:.1f}, cloud alone {accuracy.cloud_percent:.1f})"
        )
    else:
        right = (
            f"{accuracy.system_percent:.1f} % of the answers are the cloud's or the same as"
            f" the cloud's (device alone {accuracy.edge_percent:.1f})"
        )
    return Headline(
        sentence=f"Of 1,000 inputs {one} to the cloud; {right}.",
        promise=_promise(certified, audit),
        verdict=certified.verdict,
        escalated_per_1000_count=sent,
    )


def _promise(certified: Certified, audit: Audit | None) -> str:
    if not certified.feasible:
        told = f"No promise is made: not with {_counted(certified.n_count, certified)}."
        if certified.needed_count is not None:
            told += f" About {certified.needed_count:,} would do."
        return told
    risk, eps = f"{certified.risk_percent:.2f}", f"{certified.eps_percent:g}"
    match certified.verdict:
        case "kept":
            here = f"kept on these data ({risk} of {eps} allowed)"
        case "above, within chance":
            here = f"above it on these data ({risk} of {eps} allowed), but within chance"
        case _:
            here = f"BROKEN on these data ({risk} of {eps} allowed)"
    told = f"Promise: {promised(certified)}: {here}"
    if audit is None or audit.verdict == "not promised":
        return told + "."
    word = "kept" if audit.verdict == "kept" else "BROKEN"
    return (
        f"{told}; {word} in the audit ({audit.violation_percent:.1f} % of"
        f" {audit.resamples_count:,} calibrations exceed it, {audit.allowed_percent:g} % may)."
    )


def _counted(count: int, certified: Certified) -> str:
    return f"{count:,} {certified.counted[:-1] if count == 1 else certified.counted}"


def caveats(
    given: EvaluationInputs,
    sample: Sample,
    certified: Certified,
    audit: Audit | None,
    hurts: Hurting,
    split: Parts,
    likeness: Likeness | None,
) -> tuple[Caveat, ...]:
    """What to know before quoting a figure, the severe first."""
    found = [
        *_about_promise(certified, audit, sample),
        *_about_likeness(likeness),
        *_about_data(given, sample),
        *_about_hurting(hurts),
        *_about_parts(certified, split),
    ]
    return tuple(sorted(found, key=lambda caveat: not caveat.severe))


def unknown(given: EvaluationInputs, sample: Sample) -> tuple[str, ...]:
    """What these data cannot tell."""
    found = []
    if sample.measure == "agreement":
        found.append(
            "Accuracy: there are no labels. Right means here: as the cloud answered. Where the"
            " cloud is wrong, nobody can see it."
        )
        found.append("Where escalating hurts: that too needs labels.")
    if given.edge_logits is None:
        found.append("Calibration of the confidence (ECE, NLL): only classifiers' logits give it.")
    elif given.edge_fp32_logits is None:
        found.append("What INT8 costs: the FP32 file's outputs were not given.")
    if sample.groups is None:
        found.append("The worst person, device or clip: no groups were given.")
    if given.resamples > 0 and sample.groups is None and counts_groups(given.certificate):
        found.append(
            "Whether the rule keeps its promise: the certificate counts groups, and no groups were"
            " given, so there is no audit."
        )
    if given.calibration is None:
        found.append(
            "Whether these data are like those the certificate was made from: those were not given."
        )
    if given.prices is None:
        found.append("Money: no prices were given.")
    if given.edge_ms is None:
        found.append("Times: none were measured.")
    return tuple(found)


def _about_promise(certified: Certified, audit: Audit | None, sample: Sample) -> list[Caveat]:
    found = []
    if not certified.feasible:
        found.append(
            Caveat(
                "no_promise", True, f"The certificate promises nothing. {certified.note}".strip()
            )
        )
    if certified.verdict == "broken":
        found.append(
            Caveat(
                "promise_broken",
                True,
                f"On these data the risk is {certified.risk_percent:.2f} %, and at least"
                f" {certified.risk_range.low_percent:.2f} % beyond chance; promised were"
                f" {certified.eps_percent:g} %. Either these data are not like those it was"
                " calibrated on, or this is one of the calibrations that may fail. Calibrate"
                " again on data like these.",
            )
        )
    if certified.guarantee == "marginal":
        found.append(
            Caveat(
                "marginal",
                False,
                "The promise is about the mean over many calibrations. About half of all single"
                " calibrations exceed it.",
            )
        )
    if audit is not None and audit.verdict == "broken":
        found.append(
            Caveat(
                "audit_broken",
                True,
                f"In the audit {audit.violation_percent:.1f} % of the calibrations exceed the"
                f" promise, {audit.allowed_percent:g} % may. Tell us: the rule should not do this.",
            )
        )
    if audit is not None and audit.nothing_certified_percent > LOW_CERTIFIED:
        found.append(
            Caveat(
                "too_few_labels",
                False,
                f"In {audit.nothing_certified_percent:.0f} % of the audit's calibrations"
                f" {_counted(audit.n_count, certified)} certified nothing, so everything was"
                " escalated."
                f" {audit.labels_sentence}",
            )
        )
    if audit is not None and audit.halves is not None and certified.guarantee != "marginal":
        halves = audit.halves
        if halves.above_eps_percent > 2 * certified.delta_percent and halves.split_by == "group":
            found.append(
                Caveat(
                    "groups_differ",
                    True,
                    f"Calibrated on half of the groups and judged on the other half, the risk"
                    f" exceeded the promise in {halves.above_eps_percent:.0f} % of"
                    f" {halves.splits_count} splits, and reached {halves.worst_risk_percent:.1f} %."
                    " Groups differ: a promise from a few of them does not cover new ones."
                    " Calibrate on more groups, and by group.",
                )
            )
    if sample.measure == "agreement" and certified.promise != "teacher":
        found.append(
            Caveat(
                "risk_is_disagreement",
                False,
                f"Without labels the risk of `{certified.promise}` is replaced by disagreement"
                " with the cloud. For `excess` and `harm` that is an upper limit.",
            )
        )
    return found


def _about_likeness(likeness: Likeness | None) -> list[Caveat]:
    if likeness is None or likeness.verdict != "not alike":
        return []
    return [
        Caveat(
            "not_exchangeable",
            True,
            "These data are not drawn like those the certificate was made from (chance of"
            f" confidences this different {likeness.score_p_ratio:.4f}, of losses this different"
            f" {likeness.loss_p_ratio:.4f}; the device's loss there"
            f" {likeness.loss_calibration_percent:.2f} %, here {likeness.loss_here_percent:.2f} %)."
            " The promise was made for the other data: calibrate on data like these.",
        )
    ]


def _about_data(given: EvaluationInputs, sample: Sample) -> list[Caveat]:
    found = []
    if sample.n < FEW_ROWS:
        found.append(
            Caveat(
                "few_rows",
                True,
                f"Only {sample.n} rows: every share on this page is uncertain by several points."
                " Look at the intervals.",
            )
        )
    groups = 0 if sample.groups is None else len(np.unique(sample.groups))
    if 0 < groups < FEW_GROUPS:
        found.append(
            Caveat(
                "few_groups",
                True,
                f"The {sample.n:,} rows come from {groups} groups, and rows of one group are alike:"
                " intervals and the audit count rows, so they are too sure. Another choice of"
                " groups may move every figure by more than its interval.",
            )
        )
    scored = sample.scores[~np.isnan(sample.scores)]
    if len(np.unique(scored)) < 2:
        found.append(
            Caveat(
                "constant_score",
                True,
                "All rows have the same confidence, or none: no threshold can choose between them,"
                " and there is no audit. Look at the model's outputs.",
            )
        )
    elif 100 * float((scored == scored.max()).mean()) > TIED:
        share = 100 * float((scored == scored.max()).mean())
        found.append(
            Caveat(
                "ties",
                False,
                f"{share:.0f} % of the rows share the highest confidence: a threshold takes all of"
                " them or none.",
            )
        )
    missing = sample.n - len(scored)
    if missing:
        found.append(
            Caveat(
                "without_score",
                False,
                f"{missing} rows have no confidence (NaN, infinite or all equal) and are always"
                " escalated.",
            )
        )
    return found


def _about_hurting(hurts: Hurting) -> list[Caveat]:
    if hurts.verdict == "hurts":
        return [Caveat("escalating_hurts", True, hurts.sentence)]
    clear = [part for part in hurts.parts if part.clear]
    if clear:
        return [Caveat("escalating_hurts_a_part", True, hurts.sentence)]
    return []


def _about_parts(certified: Certified, split: Parts) -> list[Caveat]:
    """Parts whose risk is beyond the promise by more than chance."""
    found = []
    for kind, table in (("class", split.classes), ("group", split.groups)):
        over = [part.name for part in table if part.risk_range.low_percent > certified.eps_percent]
        if over and certified.feasible:
            found.append(
                Caveat(
                    f"{kind}_above_promise",
                    False,
                    f"The promise is about all rows together. By {kind}, the risk is clearly above"
                    f" {certified.eps_percent:g} % for {', '.join(over)}.",
                )
            )
    return found
