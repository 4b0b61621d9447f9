"""Where escalating makes things worse: a cloud model that is worse here, or beyond some rate.

Rules:
1. What counts are the rows on which one alone is right. On equal footing each is as likely as the
   other, so a sign test (McNemar 1947) says whether a difference is more than chance.
2. A part is *clear* when its p-value, times the number of parts looked at, is below 5 %. Others are
   shown all the same when the cloud lost there: many small losses may be one large one.
3. Without the truth nobody can know: the cloud's answer was taken for right.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np

from models.evaluate.curves import Flags, deferral, peak, ranked
from models.evaluate.inputs import Sample
from models.evaluate.metrics import sign_test
from models.evaluate.sections import Hurting, HurtPart

CLEAR = 0.05
SURELY_FALLS = 0.01
CONFIDENCE_PARTS = 5
SHOWN_PARTS = 8

Kind = Literal["class", "group", "confidence"]


def hurting(sample: Sample, escalated: Flags) -> Hurting:
    """What escalating does to all rows, beyond each rate, and to parts of the `escalated`."""
    if sample.measure == "agreement":
        return Hurting(
            "cannot be known",
            "Only the cloud's answers are known, so nobody can say where they are worse.",
            *(None,) * 5,
            falls_surely=False,
            lost_points=None,
            escalated_gain_points=None,
            parts=(),
        )
    helped, hurt = _counts(sample, np.ones(sample.n, dtype=np.bool_))
    p = sign_test(helped, hurt)
    top = peak(deferral(sample.scores, sample.edge_wrong, sample.cloud_wrong))
    cloud_right = 1 - float(sample.cloud_wrong.mean())
    falls = top.escalated if top.right > cloud_right + 1e-12 else None
    beyond = _beyond(sample, top.escalated)
    # The peak was chosen for being highest, so this asks for more than one chance in twenty.
    sure = sign_test(*_counts(sample, beyond)) < SURELY_FALLS
    gain = 100 * (helped - hurt) / sample.n
    lost = 100 * (top.right - cloud_right)
    verdict: Literal["helps", "no clear difference", "hurts"]
    if p >= CLEAR:
        verdict = "no clear difference"
    else:
        verdict = "helps" if gain > 0 else "hurts"
    parts = _parts(sample, escalated)
    return Hurting(
        verdict=verdict,
        sentence=_sentence(verdict, gain, falls, lost, parts, sure=sure),
        gain_points=gain,
        only_cloud_right_count=helped,
        only_edge_right_count=hurt,
        p_ratio=p,
        falls_from_escalated_percent=None if falls is None else 100 * falls,
        falls_surely=falls is not None and sure,
        lost_points=lost,
        escalated_gain_points=_gain_points(sample, escalated),
        parts=parts,
    )


def _counts(sample: Sample, rows: Flags) -> tuple[int, int]:
    """Rows on which the cloud alone is right, and the edge alone."""
    helped = int((sample.edge_wrong & ~sample.cloud_wrong & rows).sum())
    return helped, int((sample.cloud_wrong & ~sample.edge_wrong & rows).sum())


def _beyond(sample: Sample, escalated: float) -> Flags:
    """The rows that are still local with this share escalated."""
    order = np.sort(ranked(sample.scores))
    first = round(escalated * sample.n)
    if first >= sample.n:
        return np.zeros(sample.n, dtype=np.bool_)
    beyond: Flags = ranked(sample.scores) >= order[first]
    return beyond


def _gain_points(sample: Sample, rows: Flags) -> float | None:
    if not rows.any():
        return None
    helped, hurt = _counts(sample, rows)
    return 100 * (helped - hurt) / int(rows.sum())


def _parts(sample: Sample, escalated: Flags) -> tuple[HurtPart, ...]:
    looked = _slices(sample, escalated)
    found = []
    for kind, name, rows in looked:
        helped, hurt = _counts(sample, rows)
        if hurt <= helped:
            continue
        p = min(1.0, sign_test(helped, hurt) * len(looked))
        count = int(rows.sum())
        loss = 100 * (hurt - helped) / count
        found.append(HurtPart(kind, name, count, helped, hurt, loss, p, p < CLEAR))
    found.sort(key=lambda part: (part.p_ratio, -part.loss_points))
    return tuple(found[:SHOWN_PARTS])


def _slices(sample: Sample, escalated: Flags) -> list[tuple[Kind, str, Flags]]:
    """The escalated rows by class, by group and by confidence, empty ones left out."""
    slices: list[tuple[Kind, str, Flags]] = []
    if sample.classes is not None:
        for number in np.unique(sample.classes[escalated]):
            name = sample.class_names[int(number)]
            slices.append(("class", name, escalated & (sample.classes == number)))
    if sample.groups is not None:
        slices += [
            ("group", str(group), escalated & (sample.groups == group))
            for group in np.unique(sample.groups[escalated])
        ]
    scored = sample.scores[escalated & ~np.isnan(sample.scores)]
    if len(scored):
        edges = np.unique(np.quantile(scored, np.linspace(0, 1, CONFIDENCE_PARTS + 1)))
        for low, high in pairwise(edges):
            last = high == edges[-1]
            below = sample.scores <= high if last else sample.scores < high
            inside = escalated & (sample.scores >= low) & below
            slices.append(("confidence", f"confidence {low:.2f} to {high:.2f}", inside))
    return slices


def _sentence(
    verdict: str,
    gain: float,
    falls: float | None,
    lost: float,
    parts: tuple[HurtPart, ...],
    *,
    sure: bool,
) -> str:
    match verdict:
        case "hurts":
            whole = f"Escalating hurts: the cloud is {-gain:.2f} points worse than the device here."
        case "helps":
            whole = f"The cloud is {gain:.2f} points better than the device here."
        case _:
            whole = f"Cloud less device is {gain:+.2f} points, which may be chance."
    if falls is None:
        whole += " Accuracy never falls when more is escalated."
    else:
        whole += (
            f" Accuracy is best with {100 * falls:.1f} % escalated and falls by {lost:.2f} points"
            " from there to escalating everything"
        )
        whole += "." if sure else ", which may be chance."
    clear = [
        f"{part.kind} {part.name}" if part.kind != "confidence" else part.name
        for part in parts
        if part.clear
    ]
    if clear:
        whole += f" Among what is escalated the cloud is clearly worse on {', '.join(clear)}."
    return whole
