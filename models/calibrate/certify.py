"""Makes a certificate from tuning and calibration outcomes.

Rules:
1. *Tune* outcomes give all that is chosen: temperature and score (by the caller), the grid, where a
   selective walk begins, how many labels would do. *Calibration* outcomes give what is tested.
   No row and no group is in both; where hashes or groups are known that is checked.
2. Which test is used follows from promise, guarantee, groups and n alone, never from the outcome.
3. Where the promise cannot be kept the certificate says so: threshold None, `feasible` false, and
   the labels that would do. Nothing is answered locally under it.
4. The threshold holds with chance 1 - delta, and so does the curve: each by itself.
5. How often edge and cloud disagree among local answers is bounded at the threshold that was found,
   at the same level, whatever was promised: Clopper-Pearson, by groups betting on their means. It
   is what a monitor without labels expects, and no promise of its own.

| promise | high-probability | by groups | marginal |
|---|---|---|---|
| `harm`, `teacher` | exact binomial | betting | CRC |
| `excess` | cpdiff below 1000 samples, betting from there | betting | CRC of harm |
| `selective` | exact binomial of the local samples | betting | not offered |
"""

import hashlib
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from models.calibrate.band import curve
from models.calibrate.certificate import Binding, Certificate, CertifiedScore, Guarantee, Promise
from models.calibrate.curve import Curve, Gain
from models.calibrate.feasibility import labels_that_would_do, least_escalation, least_n
from models.calibrate.gain import LABEL_FREE, Floats, fit_gain
from models.calibrate.groups import (
    by_groups,
    crc_by_groups,
    design_effect,
    group_means,
    limit_by_groups,
)
from models.calibrate.outcomes import Losses, Outcomes
from models.calibrate.overlap import refuse_overlap
from models.calibrate.rules import (
    Found,
    crc,
    exact_binomial,
    excess_default,
    grid_from,
    selective,
    selective_start,
    upper_limit,
    walk_from,
)
from models.calibrate.scores import Scores
from models.errors import GroupsMixed, PromiseNotOffered

Counting = Literal["groups", "rows"]

DELTA = 0.1
MARKED_EFFECT = 1.5
"""Rows of a group are so much more alike than strangers that counting rows is worth a warning."""


class _Terms(NamedTuple):
    promise: Promise
    guarantee: Guarantee
    eps: float
    delta: float
    by_group: bool


def certify(
    tune: Outcomes,
    calibration: Outcomes,
    *,
    promise: Promise,
    eps: float,
    delta: float = DELTA,
    guarantee: Guarantee = "high-probability",
    score: CertifiedScore = "top",
    temperature: float = 1.0,
    counting: Counting = "groups",
    worth: Floats | None = None,
    bound: Binding | None = None,
    note: str = "",
) -> Certificate:
    """The certificate for outcomes whose scores were computed as `score` and `temperature` say.

    Args:
        tune: chooses the grid; shares no row and no group with `calibration`.
        calibration: is tested. Where it has groups, they are what is counted.
        counting: `rows` counts rows although there are groups: the caller vouches that rows of one
            group are no more alike than strangers. The certificate says so, with the design effect.
        worth: what a right answer to each calibration sample is worth, for the gain curve.

    Raises:
        ConstantScore: the tune scores do not tell one sample from another.
        OutcomesMissing: a promise about labels, without labels.
        PromiseNotOffered: `selective` with the marginal guarantee.
        RowsOverlap, GroupsMixed: tune and calibration are not apart.
    """
    if not 0 < eps < 1 or not 0 < delta < 1:
        raise ValueError(f"eps and delta must lie between 0 and 1, not {eps} and {delta}")
    if guarantee == "marginal" and promise == "selective":
        raise PromiseNotOffered(
            "the marginal guarantee needs a risk that only grows as the threshold falls, and "
            "`selective` is none; choose high-probability, or another promise"
        )
    _apart(tune, calibration)
    by_group = calibration.groups is not None and counting == "groups"
    terms = _Terms(promise, guarantee, eps, delta, by_group)
    losses = calibration.loss(promise)
    grid = grid_from(tune.scores)
    found = _find(terms, tune, calibration, grid)
    feasible = found.threshold is not None
    base_risk = _mean(losses, calibration, by_group=by_group)
    effect = None if calibration.groups is None else design_effect(losses, calibration.groups)
    n = _units(calibration, by_group=by_group)
    needed = None if feasible else _labels(terms, tune, grid, n)
    local = None if found.threshold is None else _local_share(calibration.scores, found.threshold)
    certificate = Certificate(
        id="",
        promise=promise,
        guarantee=guarantee,
        eps=eps,
        delta=delta,
        score=score,
        temperature=temperature,
        threshold=found.threshold,
        n=n,
        groups=_group_count(calibration),
        design_effect=effect,
        method=found.method,
        upper_bound=found.upper_bound,
        k=found.k,
        won=found.won,
        local=local,
        curve=_curve(terms, calibration, losses, grid, found),
        gain=_gain(calibration, worth),
        bound=bound,
        feasible=feasible,
        needed_n=needed,
        base_risk=base_risk,
        least_escalation=least_escalation(promise, base_risk, eps),
        tune_sha256=tune.sha256(),
        calibration_sha256=calibration.sha256(),
        note="; ".join(_notes(terms, tune, calibration, note, effect, needed, feasible=feasible)),
        disagreement=_disagreement(terms, calibration, found.threshold),
    )
    return named(certificate)


def named(certificate: Certificate) -> Certificate:
    """The same with the id that its content gives."""
    bare = msgspec.structs.replace(certificate, id="")
    digest = hashlib.sha256(msgspec.json.encode(bare)).hexdigest()
    return msgspec.structs.replace(bare, id=f"c-{digest[:16]}")


def _apart(tune: Outcomes, calibration: Outcomes) -> None:
    if calibration.rows is not None and tune.rows is not None:
        refuse_overlap(calibration.rows, {"tuning": tune.rows})
    if calibration.groups is None or tune.groups is None:
        return
    both = np.intersect1d(calibration.groups, tune.groups)
    if len(both):
        raise GroupsMixed(
            f"{len(both)} groups stand in tuning and in calibration data, the first is {both[0]}; "
            "split by group"
        )


def _find(terms: _Terms, tune: Outcomes, calibration: Outcomes, grid: Scores) -> Found:
    promise, eps, delta = terms.promise, terms.eps, terms.delta
    scores, losses = calibration.scores, calibration.loss(promise)
    if terms.guarantee == "marginal":
        lost = calibration.loss("harm") if promise == "excess" else losses
        if terms.by_group and calibration.groups is not None:
            return crc_by_groups(scores, lost, calibration.groups, eps=eps, grid=grid)
        return crc(scores, lost, eps=eps)
    start = 1.0
    walk = grid
    if promise == "selective":
        chosen = selective_start(tune.scores, tune.loss(promise), eps=eps)
        if chosen is None:
            return Found(None, None, None, "none: too few tuning samples to begin a walk")
        start, walk = chosen, walk_from(grid, chosen)
    if terms.by_group and calibration.groups is not None:
        return by_groups(
            scores,
            losses,
            calibration.groups,
            promise=promise,
            eps=eps,
            delta=delta,
            grid=walk,
        )
    if promise == "selective":
        return selective(scores, losses, eps=eps, delta=delta, grid=grid, start=start)
    if promise == "excess":
        return excess_default(scores, losses, eps=eps, delta=delta, grid=grid)
    return exact_binomial(scores, losses, eps=eps, delta=delta, grid=grid)


def _curve(
    terms: _Terms, calibration: Outcomes, losses: Losses, grid: Scores, found: Found
) -> Curve | None:
    """By groups only what monotony gives: harm above a certified threshold is below its bound."""
    if not terms.by_group:
        return curve(
            calibration.scores, losses, promise=terms.promise, delta=terms.delta, grid=grid
        )
    if found.threshold is None or found.upper_bound is None:
        return None
    if terms.promise not in ("harm", "teacher"):
        return None
    return Curve((found.threshold,), (found.upper_bound,))


def _gain(calibration: Outcomes, worth: Floats | None) -> Gain | None:
    """From labels where there are any, else half of the disagreements; None without a score."""
    if np.isnan(calibration.scores).all():
        return None
    if calibration.edge_wrong is not None and calibration.cloud_wrong is not None:
        return fit_gain(calibration.scores, calibration.excess, weights=worth)
    fitted = fit_gain(calibration.scores, calibration.loss("teacher"), weights=worth)
    return Gain(fitted.scores, tuple(LABEL_FREE * gain for gain in fitted.gains), fitted.weights)


def _disagreement(terms: _Terms, calibration: Outcomes, threshold: float | None) -> float | None:
    if threshold is None:
        return None
    unlike = calibration.disagree & (calibration.scores >= threshold)
    if terms.by_group and calibration.groups is not None:
        return limit_by_groups(unlike, calibration.groups, terms.delta)
    return float(upper_limit(int(unlike.sum()), calibration.n, terms.delta))


def _labels(terms: _Terms, tune: Outcomes, grid: Scores, n: int) -> int | None:
    return labels_that_would_do(
        tune,
        promise=terms.promise,
        guarantee=terms.guarantee,
        eps=terms.eps,
        delta=terms.delta,
        grid=grid,
        more_than=n,
        by_group=terms.by_group,
    )


def _notes(
    terms: _Terms,
    tune: Outcomes,
    calibration: Outcomes,
    note: str,
    effect: float | None,
    needed: int | None,
    *,
    feasible: bool,
) -> list[str]:
    said = [note] if note else []
    said.append(f"tune {tune.n}, calibration {calibration.n} samples")
    missing = int(np.isnan(calibration.scores).sum())
    if missing:
        said.append(f"{missing} calibration samples have no score and are never answered locally")
    what = "groups" if terms.by_group else "samples"
    if calibration.groups is not None and not terms.by_group:
        said.append(f"rows are counted although they come in {_group_count(calibration)} groups")
        if effect is not None and effect > MARKED_EFFECT:
            said.append(
                f"but rows of one group are alike (design effect {effect:.1f}): "
                "for new groups the promise is not kept, count groups"
            )
    if feasible:
        return said
    n = _units(calibration, by_group=terms.by_group)
    least = least_n(
        terms.promise,
        terms.guarantee,
        eps=terms.eps,
        delta=terms.delta,
        by_group=terms.by_group,
    )
    said.append(f"{n} {what} certify nothing, without a single loss it takes {least}")
    if needed is None:
        said.append(
            "no number would do: by the tuning samples even the surest of them break the promise"
        )
    else:
        said.append(f"by the tuning samples about {needed} {what} would do")
    return said


def _mean(losses: Losses, calibration: Outcomes, *, by_group: bool) -> float:
    if by_group and calibration.groups is not None:
        return float(group_means(losses, calibration.groups).mean())
    return float(losses.mean())


def _local_share(scores: Scores, threshold: float) -> float:
    return float((scores >= threshold).mean())


def _units(calibration: Outcomes, *, by_group: bool) -> int:
    return (_group_count(calibration) or 0) if by_group else calibration.n


def _group_count(calibration: Outcomes) -> int | None:
    return None if calibration.groups is None else len(np.unique(calibration.groups))
