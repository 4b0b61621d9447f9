"""Do certificates keep what they promise, and what do they cost?

    ./just bench certificates [--full] [--json] [--seed N]

Samples of n are drawn, with replacement, from populations whose truth is known; every rule chooses
its threshold on each, and the truth says how often its risk is above eps. docs/reference/
certificates.md explains every key. Exit codes: 0 measured, 1 a key is null, or a rule breaks its
promise too often, costs more than the reference, or a control looks good.
"""

import itertools
import math
import sys
from collections.abc import Sequence
from time import perf_counter_ns

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.calibrate.decide import judge
from models.calibrate.rules import BETTING_FROM
from models.calibrate.scores import confidence, score_of
from tests.bench.calibration_rules import RULES, Reference, Rule, Terms, find_reference, terms
from tests.bench.measure import typical_us
from tests.bench.populations import Population, populations
from tests.bench.setting import Setting, begin, end, note

SAYS = "How often each calibration rule breaks its promise, and what it costs in escalation."
DELTA = 0.1
SIZES = (300, 1000, 3000)
PROMISED = (0.01, 0.02)
LEAST_CONTROL = 0.3
"""A rule without a guarantee breaks its promise in more than this share of calibrations."""
DEARER = 0.01
"""Of escalation, which a rule may cost more than the reference's same rule."""
DECIDE_US = 12.0


class Plan(Struct, frozen=True):
    """How much of everything."""

    resamples: int
    compared: int
    """Of them, how many the reference is run on: it is slow."""
    decisions: int


QUICK = Plan(resamples=30, compared=10, decisions=4000)
FULL = Plan(resamples=1000, compared=150, decisions=40000)


class RuleRow(Struct, frozen=True):
    """One rule on one population, at one n and eps."""

    task: str
    rule: str
    n: int
    eps: float
    delta: float
    violation_rate: float
    """Share of resamples whose threshold has a true risk above eps."""
    escalation: float
    """Mean over resamples of the true escalation."""
    oracle_escalation: float
    """Least of any threshold that keeps eps on the population."""
    reference_escalation: float | None
    """The reference code's mean, on the first `compared` of the resamples."""
    dearer: float | None
    """How much more this rule escalates than the reference, on the same resamples."""
    mean_risk: float
    base_risk: float
    """Of the promise, when nothing is escalated: at or below eps nothing can be broken."""
    resamples: int
    compared: int


class CertificateFigures(Setting, frozen=True, kw_only=True):
    """The JSON object of `./just bench certificates`."""

    worst_violation_rate: float | None
    decide_us: float | None
    decide_us_margin: float | None
    floor_decide_us: float | None
    control_decide_us: float | None
    control_violation_rate: float | None
    rows: tuple[RuleRow, ...]
    why: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("certificates", SAYS, arguments, also=("scipy",))
    plan = QUICK if options.quick else FULL
    reference = find_reference()
    if reference is None:
        note("no reference code beside the repository: reference_escalation is null")
    rows: list[RuleRow] = []
    for population in populations(options.seed, whole=not options.quick):
        note(f"{population.task}: drawing from {population.drawn_from.n}")
        rows += measure(population, plan, options.seed, reference)
    floor, top, margin, control = decisions(plan.decisions, options.seed)
    figures = CertificateFigures(
        **msgspec.structs.asdict(setting),
        worst_violation_rate=max(
            [row.violation_rate for row in rows if kind_of(row) == "certified"], default=None
        ),
        decide_us=round(top, 2),
        decide_us_margin=round(margin, 2),
        floor_decide_us=round(floor, 2),
        control_decide_us=round(control, 2),
        control_violation_rate=min(
            [row.violation_rate for row in rows if could_look_bad(row)], default=None
        ),
        rows=tuple(rows),
        why={},
    )
    return end(figures, figures.why, doubtful(figures), json=options.json)


def measure(
    population: Population, plan: Plan, seed: int, reference: Reference | None
) -> list[RuleRow]:
    """Every rule at every n and eps, all on the same resamples.

    `excess` is cpdiff or betting, whichever n says: its row is the other's, not a second run.
    """
    rows: list[RuleRow] = []
    for eps, n in itertools.product(PROMISED, SIZES):
        at = terms(population.tune, eps, DELTA)
        chance = np.random.default_rng([seed, n])
        places = [chance.integers(0, population.drawn_from.n, n) for _ in range(plan.resamples)]
        found = [judged(population, rule, at, places, plan.compared, reference) for rule in RULES]
        same_as = "excess-cpdiff" if n < BETTING_FROM else "excess-betting"
        (default,) = (row for row in found if row.rule == same_as)
        rows += [msgspec.structs.replace(default, rule="excess"), *found]
    return rows


def judged(
    population: Population,
    rule: Rule,
    at: Terms,
    places: Sequence[npt.NDArray[np.int64]],
    compared: int,
    reference: Reference | None,
) -> RuleRow:
    """One rule on all resamples, against the truth."""
    truth, promise = population.truth, rule.promise
    scores, losses = population.drawn_from.scores, population.drawn_from.loss(promise)
    found: list[float | None] = []
    theirs: list[float | None] = []
    for number, chosen in enumerate(places):
        sample = scores[chosen], losses[chosen]
        found.append(rule.ours(*sample, at, number))
        if reference is not None and rule.theirs is not None and number < compared:
            chance = np.random.default_rng(number)
            theirs.append(_none_above_one(rule.theirs(reference, *sample, at, chance)))
    risks = [truth.risk(promise, threshold) for threshold in found]
    escalated = [truth.escalation(threshold) for threshold in found]
    by_reference = [truth.escalation(threshold) for threshold in theirs]
    return RuleRow(
        task=population.task,
        rule=rule.name,
        n=len(places[0]),
        eps=at.eps,
        delta=at.delta,
        violation_rate=_mean([risk > at.eps + 1e-12 for risk in risks]),
        escalation=_mean(escalated),
        oracle_escalation=round(truth.oracle(promise, at.eps), 4),
        reference_escalation=_mean(by_reference) if theirs else None,
        dearer=round(_mean(escalated[: len(theirs)]) - _mean(by_reference), 4) if theirs else None,
        mean_risk=round(float(np.mean(risks)), 5),
        base_risk=round(truth.base_risk(promise), 5),
        resamples=len(places),
        compared=len(theirs),
    )


def decisions(count: int, seed: int) -> tuple[float, float, float, float]:
    """Median microseconds from ten logits to a decision: the bare list, top, margin, numpy."""
    logits = 4 * np.random.default_rng(seed).normal(size=(200, 10)).astype(np.float32)
    top, margin = score_of("top", 1.3), score_of("margin", 1.3)
    took: list[list[int]] = [[], [], [], []]
    for number in range(count):
        row = logits[number % len(logits)]
        marks = [perf_counter_ns()]
        row.tolist()
        marks.append(perf_counter_ns())
        judge(top(row), 0.8)
        marks.append(perf_counter_ns())
        judge(margin(row), 0.8)
        marks.append(perf_counter_ns())
        judge(float(confidence(row[None], 1.3)[0]), 0.8)
        marks.append(perf_counter_ns())
        for spent, (before, after) in zip(took, itertools.pairwise(marks), strict=True):
            spent.append(after - before)
    bare, by_top, by_margin, by_numpy = map(typical_us, took)
    return bare, by_top, by_margin, by_numpy


def doubtful(figures: CertificateFigures) -> list[str]:
    """Promises broken, dearer than the reference, or a control that looks good."""
    doubts: list[str] = []
    for row in figures.rows:
        where = f"{row.rule} on {row.task}, n {row.n}, eps {row.eps}"
        if kind_of(row) == "certified" and row.violation_rate > allowed(row):
            doubts.append(f"{where}: broken in {row.violation_rate} of the resamples")
        if kind_of(row) == "marginal" and row.mean_risk > row.eps * (1 + 2 / row.resamples**0.5):
            doubts.append(f"{where}: a mean risk of {row.mean_risk}")
        if could_look_bad(row) and row.violation_rate < LEAST_CONTROL:
            doubts.append(f"{where}: the control is broken in {row.violation_rate} only")
        # Betting is a game of chance, too: ten resamples cannot tell one point of escalation.
        if not figures.quick and row.dearer is not None and row.dearer > DEARER:
            doubts.append(f"{where}: escalates {row.dearer:.4f} more than the reference")
    if figures.decide_us is not None and figures.decide_us > DECIDE_US:
        doubts.append(f"a decision takes {figures.decide_us} us, {DECIDE_US} are allowed")
    return doubts


def allowed(row: RuleRow) -> float:
    """delta and two standard errors of it."""
    return row.delta + 2 * math.sqrt(row.delta * (1 - row.delta) / row.resamples)


def kind_of(row: RuleRow) -> str:
    return next((rule.kind for rule in RULES if rule.name == row.rule), "certified")


def could_look_bad(row: RuleRow) -> bool:
    """A control, where there is something to break."""
    return kind_of(row) == "control" and row.base_risk > 1.25 * row.eps


def _none_above_one(threshold: float) -> float | None:
    """The reference says infinity, and sometimes minus infinity, which is everything local."""
    return None if threshold > 1 else max(threshold, 0.0)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


if __name__ == "__main__":
    sys.exit(main())
