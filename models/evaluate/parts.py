"""Every class and every group on its own: a promise about all rows hides the worst of them.

The ranges of one table hold together with 95 %: each has level 1 - 0.05 / (rows of the table), so
that the worst, which is chosen for being worst, is not shown worse than it may be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.calibrate.certificate import Promise
from models.evaluate.curves import Flags
from models.evaluate.inputs import Sample
from models.evaluate.metrics import Interval, clopper_pearson, difference_interval, macro_recall
from models.evaluate.sections import Part, Parts, Range

LEVEL = 0.95


def parts(sample: Sample, local: Flags, promise: Promise) -> Parts:
    """Accuracy, escalation and the promise's risk by class and by group."""
    by_class: list[tuple[str, Flags]] = []
    if sample.classes is not None:
        by_class = [
            (sample.class_names[int(number)], sample.classes == number)
            for number in np.unique(sample.classes)
        ]
    by_group: list[tuple[str, Flags]] = []
    if sample.groups is not None:
        by_group = [(str(group), sample.groups == group) for group in np.unique(sample.groups)]
    classes, groups = (_table(sample, local, promise, each) for each in (by_class, by_group))
    system_wrong = np.where(local, sample.edge_wrong, sample.cloud_wrong)
    recalls = [
        None if sample.classes is None else 100 * macro_recall(wrong, sample.classes)
        for wrong in (sample.edge_wrong, sample.cloud_wrong, system_wrong)
    ]
    return Parts(classes, groups, _worst(classes), _worst(groups), *recalls)


def risk_range(losses: Sequence[float], rows: int, *, level: float = LEVEL) -> Interval:
    """Limits of a mean of losses of -1, 0 and 1, exact (conservative where some are -1)."""
    plus = sum(1 for loss in losses if loss > 0)
    minus = sum(1 for loss in losses if loss < 0)
    if minus:
        return difference_interval(plus, minus, rows, level=level)
    return clopper_pearson(plus, rows, level=level)


def as_range(interval: Interval) -> Range:
    return Range(100 * interval.low, 100 * interval.high)


def _worst(table: tuple[Part, ...]) -> Part | None:
    return min(table, key=lambda part: (part.system_percent, part.name), default=None)


def _table(
    sample: Sample, local: Flags, promise: Promise, parts: list[tuple[str, Flags]]
) -> tuple[Part, ...]:
    if not parts:
        return ()
    level = 1 - (1 - LEVEL) / len(parts)
    losses = sample.losses(promise)
    system_wrong = np.where(local, sample.edge_wrong, sample.cloud_wrong)
    rows_of = []
    for name, inside in parts:
        count = int(inside.sum())
        kept = losses[inside & local]
        # The selective promise is about the local answers; the others about all.
        over = len(kept) if promise == "selective" else count
        risk = float(kept.sum() / over) if over else 0.0
        within = risk_range(kept.tolist(), over, level=level) if over else Interval(0.0, 1.0)
        wrong = int(system_wrong[inside].sum())
        rows_of.append(
            Part(
                name=name,
                rows_count=count,
                edge_percent=100 * float((~sample.edge_wrong[inside]).mean()),
                cloud_percent=100 * float((~sample.cloud_wrong[inside]).mean()),
                system_percent=100 * (1 - wrong / count),
                system_range=as_range(clopper_pearson(count - wrong, count, level=level)),
                escalated_percent=100 * float((~local[inside]).mean()),
                risk_percent=100 * risk,
                risk_range=as_range(within),
            )
        )
    return tuple(rows_of)
