"""Tries a calibration rule again and again on the data given: does it keep what it promises?

Rules:
1. The rows are taken for the world: a resampling draws n of them with replacement, calibrates, and
   its threshold's true risk is that over all rows. So P(risk > eps) is counted, not estimated from
   a second sample, and it must be at most delta (cascade note, section 3).
2. It judges the rule on data like these. Whether tomorrow's data are like these is another
   question: `Halves` asks part of it, by leaving out whole groups where there are any.
3. The grid of thresholds comes from the rows' scores, which hold no outcome. The selective rule
   chooses its start on a tune sample of its own, as large as the calibration sample.
4. A resampling that certifies nothing escalates everything and breaks nothing.
5. Where the certificate counts groups, groups are drawn, with all their rows, and its n is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from models.calibrate.certificate import Certificate, Promise
from models.calibrate.groups import by_groups, crc_by_groups
from models.calibrate.rules import (
    Found,
    crc,
    exact_binomial,
    excess_default,
    grid_from,
    selective,
    selective_start,
    walk_from,
)
from models.errors import UnfitData
from models.evaluate.curves import Floats, least_escalation
from models.evaluate.inputs import Sample, counts_groups
from models.evaluate.sections import Audit, Halves, LabelPoint

GRID_POINTS = 200
SPLITS = 40
LEAST_GROUPS = 4
LABEL_RESAMPLES = 100
LABEL_STEPS = (100, 300, 1000, 3000)
MOST_LABELS = 10_000
"""Rows a resampling may draw."""

Draw = Callable[[np.random.Generator], Sample]
Calibrate = Callable[[Sample, np.random.Generator], float | None]
"""From calibration rows to a threshold; None where nothing is certified."""


class Trial(NamedTuple):
    """What became of one threshold on all rows."""

    certified: bool
    escalated: float
    risk: float


def calibration_rule(certificate: Certificate, grid: Floats, tune: Sample) -> Calibrate:
    """The rule that makes thresholds like the certificate's.

    `tune` is drawn from where the selective promise needs a tune sample.
    """
    eps, delta, promise = certificate.eps, certificate.delta, certificate.promise
    if counts_groups(certificate):
        return _group_rule(certificate, grid, tune)
    if certificate.guarantee == "marginal":
        lost: Promise = "harm" if promise == "excess" else promise
        return lambda rows, chance: crc(rows.scores, rows.losses(lost), eps=eps).threshold

    def excess(rows: Sample, chance: np.random.Generator) -> Found:
        return excess_default(
            rows.scores,
            rows.losses(promise),
            eps=eps,
            delta=delta,
            grid=grid,
            seed=int(chance.integers(1 << 31)),
        )

    def binomial(rows: Sample, chance: np.random.Generator) -> Found:
        return exact_binomial(rows.scores, rows.losses(promise), eps=eps, delta=delta, grid=grid)

    def chosen_start(rows: Sample, chance: np.random.Generator) -> Found:
        tuned = tune.where(chance.integers(0, tune.n, rows.n))
        start = selective_start(tuned.scores, tuned.edge_wrong, eps=eps)
        if start is None:
            return Found(None, None, None, "selective")
        return selective(rows.scores, rows.edge_wrong, eps=eps, delta=delta, grid=grid, start=start)

    rule = {"excess": excess, "selective": chosen_start}.get(promise, binomial)
    return lambda rows, chance: rule(rows, chance).threshold


def _group_rule(certificate: Certificate, grid: Floats, tune: Sample) -> Calibrate:
    eps, promise = certificate.eps, certificate.promise

    def rule(rows: Sample, chance: np.random.Generator) -> float | None:
        groups = rows.groups
        if groups is None:
            raise UnfitData("the certificate counts groups; say which row is of which")
        if certificate.guarantee == "marginal":
            lost = rows.losses("harm" if promise == "excess" else promise).astype(np.int8)
            return crc_by_groups(rows.scores, lost, groups, eps=eps, grid=grid).threshold
        walk = grid
        if promise == "selective":
            tuned = tune.where(chance.integers(0, tune.n, rows.n))
            start = selective_start(tuned.scores, tuned.edge_wrong, eps=eps)
            if start is None:
                return None
            walk = walk_from(grid, start)
        return by_groups(
            rows.scores,
            rows.losses(promise).astype(np.int8),
            groups,
            promise=promise,
            eps=eps,
            delta=certificate.delta,
            grid=walk,
            seed=int(chance.integers(1 << 31)),
        ).threshold

    return rule


def audit(
    sample: Sample,
    certificate: Certificate,
    *,
    resamples: int,
    seed: int,
    rule: Calibrate | None = None,
) -> Audit:
    """The certificate's rule (or another, to compare) with the certificate's n, on `sample`.

    Raises `ConstantScore` where the scores tell no row from another, `UnfitData` where the
    certificate counts groups and the rows have none.
    """
    chance = np.random.default_rng(seed)
    grid = grid_from(sample.scores, GRID_POINTS)
    rule = rule or calibration_rule(certificate, grid, sample)
    draw = _drawing(sample, certificate)
    n = certificate.n or sample.n
    trials = _resample(sample, certificate, rule, draw(n), resamples, chance)
    broken = float(np.mean([trial.risk > certificate.eps + 1e-12 for trial in trials]))
    error = float(np.sqrt(broken * (1 - broken) / resamples))
    least = oracle(sample, certificate)
    escalated = float(np.mean([trial.escalated for trial in trials]))
    unit = 1.0
    if counts_groups(certificate) and sample.groups is not None:
        unit = sample.n / len(np.unique(sample.groups))
    most = max(n, int(MOST_LABELS / unit))
    steps = {step for step in LABEL_STEPS if all(_apart(step, near) for near in (n, 2 * n))}
    steps = {n} | {step for step in (*steps, 2 * n) if step <= most}
    by_labels = tuple(
        _point(n, trials, least)
        if count == n
        else _point(
            count,
            _resample(
                sample, certificate, rule, draw(count), min(LABEL_RESAMPLES, resamples), chance
            ),
            least,
        )
        for count in sorted(steps)
    )
    verdict: Literal["kept", "broken", "not promised"]
    if certificate.guarantee == "marginal":
        verdict = "not promised"
    else:
        # Two standard errors of a rule that breaks its promise with chance delta exactly.
        spare = 2 * float(np.sqrt(certificate.delta * (1 - certificate.delta) / resamples))
        verdict = "kept" if broken <= certificate.delta + spare else "broken"
    return Audit(
        method=certificate.method,
        n_count=n,
        resamples_count=resamples,
        violation_percent=100 * broken,
        standard_error_percent=100 * error,
        allowed_percent=100 * certificate.delta,
        verdict=verdict,
        escalated_percent=100 * escalated,
        oracle_escalated_percent=100 * least,
        premium_points=100 * (escalated - least),
        nothing_certified_percent=100 * float(np.mean([not trial.certified for trial in trials])),
        risk_percent=tuple(
            100 * float(risk)
            for risk in np.quantile([trial.risk for trial in trials], np.linspace(0, 1, 101))
        ),
        halves=_halves(sample, certificate, rule, chance),
        by_labels=by_labels,
        labels_sentence=labels_sentence(
            by_labels, n, "groups" if counts_groups(certificate) else "labels"
        ),
    )


def oracle(sample: Sample, certificate: Certificate) -> float:
    """The share a threshold must escalate that knows every outcome."""
    if certificate.promise != "selective":
        losses = sample.losses(certificate.promise) * sample.weights
        return least_escalation(sample.scores, losses, certificate.eps)
    levels = np.unique(sample.scores[~np.isnan(sample.scores)])
    local = [sample.local(float(level)) for level in levels]
    kept = [
        1 - float(each.mean())
        for each in local
        if sample.risk(each, "selective") <= certificate.eps + 1e-12
    ]
    return min(kept, default=1.0)


def labels_sentence(points: tuple[LabelPoint, ...], n: int, what: str) -> str:
    """What more labels would save, counted from the labels there are."""
    here = next(point for point in points if point.n_count == n)
    more = [point for point in points if point.n_count > n and point.certified_percent > 50]
    gains = [
        (point.n_count - n, here.escalated_percent - point.escalated_percent) for point in more
    ]
    worth = [gain for gain in gains if gain[1] >= 0.5]
    if worth:
        added, saved = worth[0]
        return (
            f"With {added:,} more {what} the same promise would escalate about {saved:.1f} points"
            f" less: {here.escalated_percent - saved:.1f} % instead of"
            f" {here.escalated_percent:.1f} %."
        )
    if here.certified_percent <= 50:
        return (
            f"With n = {n:,} {what} the rule mostly certifies nothing, and up to"
            f" {points[-1].n_count:,} would change little: promise less, or use a better edge"
            " model."
        )
    return f"More {what} would save less than half a point: they are not what limits this cascade."


def _drawing(sample: Sample, certificate: Certificate) -> Callable[[int], Draw]:
    """For a count, how so many rows (or groups, with all their rows) are drawn."""
    if not counts_groups(certificate):
        return lambda n: lambda chance: sample.where(chance.integers(0, sample.n, n))
    if sample.groups is None:
        raise UnfitData("the certificate counts groups; say which row is of which")
    _, member = np.unique(sample.groups, return_inverse=True)
    rows_of = [np.flatnonzero(member == number) for number in range(int(member.max()) + 1)]

    def drawn(n: int, chance: np.random.Generator) -> Sample:
        chosen = [rows_of[number] for number in chance.integers(0, len(rows_of), n)]
        rows = sample.where(np.concatenate(chosen))
        # A group that is drawn twice is two groups.
        return replace(rows, groups=np.repeat(np.arange(n), [len(each) for each in chosen]))

    return lambda n: lambda chance: drawn(n, chance)


def _resample(
    sample: Sample,
    certificate: Certificate,
    rule: Calibrate,
    draw: Draw,
    resamples: int,
    chance: np.random.Generator,
) -> list[Trial]:
    trials = []
    for _ in range(resamples):
        drawn = draw(chance)
        trials.append(_trial(sample, certificate, rule(drawn, chance)))
    return trials


def _apart(step: int, near: int) -> bool:
    """Whether two counts are so different that both are worth a point."""
    return not 0.75 < step / near < 1.35


def _trial(sample: Sample, certificate: Certificate, threshold: float | None) -> Trial:
    local = sample.local(threshold)
    return Trial(
        threshold is not None,
        1 - float(local.mean()),
        sample.risk(local, certificate.promise),
    )


def _point(n: int, trials: list[Trial], least: float) -> LabelPoint:
    escalated = float(np.mean([trial.escalated for trial in trials]))
    certified = float(np.mean([trial.certified for trial in trials]))
    return LabelPoint(n, 100 * escalated, 100 * (escalated - least), 100 * certified)


def _halves(
    sample: Sample, certificate: Certificate, rule: Calibrate, chance: np.random.Generator
) -> Halves | None:
    """Calibrate on a random half of the groups (or rows), judge on the rest."""
    groups = None if sample.groups is None else np.unique(sample.groups)
    by_group = groups is not None and len(groups) >= LEAST_GROUPS
    if sample.n < 2:
        return None
    trials = []
    for _ in range(SPLITS):
        if by_group and groups is not None and sample.groups is not None:
            half = chance.permutation(groups)[: len(groups) // 2]
            inside = np.isin(sample.groups, half)
        else:
            inside = chance.permutation(sample.n) < sample.n // 2
        threshold = rule(sample.where(inside), chance)
        trials.append(_trial(sample.where(~inside), certificate, threshold))
    risks = [trial.risk for trial in trials]
    above = float(np.mean([risk > certificate.eps + 1e-12 for risk in risks]))
    return Halves(
        split_by="group" if by_group else "row",
        splits_count=SPLITS,
        above_eps_percent=100 * above,
        median_risk_percent=100 * float(np.median(risks)),
        worst_risk_percent=100 * max(risks),
        escalated_percent=100 * float(np.mean([trial.escalated for trial in trials])),
    )
