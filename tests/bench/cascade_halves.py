"""One cascade over many random halves: calibrated on one half, judged on the other.

Rules:
1. A half is a random one of the samples, or whole groups (persons, machines, authors) that come as
   near to half of the rows as they can. Of the calibrating half, `TUNE_SHARE` tunes, as in
   `longstop-models calibrate`: temperature, score and grid. The judged half chooses nothing.
2. The promise is `excess`. Groups are counted where the calibrating half has enough of them to
   certify eps at all, else rows: then new groups may break the promise, and the rate shows it.
3. A promise is broken in a half when the excess seen on the judged half is above eps. The judged
   half is a sample, too, so this counts more than the true risk would.
4. Shares are fractions. A row holds means over the halves.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.calibrate.certificate import Certificate
from models.calibrate.certify import Counting, certify
from models.calibrate.choose import tune_score
from models.calibrate.exchange import split_by_group
from models.calibrate.feasibility import least_n
from models.calibrate.groups import group_means
from models.calibrate.outcomes import Outcomes, of_logits
from models.calibrate.rules import plug_in
from models.calibrate.scores import Scores, confidence
from models.evaluate.curves import deferral, deferral_gain, least_escalation, peak
from tests.bench.cascade_tasks import Answers

DELTA = 0.1
TUNE_SHARE = 0.3
NAIVE = 0.8
"""The threshold everybody begins with, on the plain softmax."""

Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


class CascadeRow(Struct, frozen=True):
    """One task at one eps; means over the halves."""

    task: str
    eps: float
    delta: float
    edge_accuracy: float
    cloud_accuracy: float
    system_accuracy: float
    escalated: float
    oracle_escalated: float
    """Least of any threshold on the judged half that keeps eps there."""
    certified_risk: float | None
    """Upper limit the certificate gives at its threshold; null where no half certified one."""
    realised_excess: float
    violation_rate: float
    best_accuracy: float
    """Of any threshold, on the judged half."""
    best_at_escalation: float
    deferral_gain: float | None
    naive_08_excess: float
    naive_08_escalated: float
    bytes_share: float
    """Of the bytes that escalating everything would send."""


class Judged(NamedTuple):
    """What one half said."""

    row: CascadeRow
    control_broken: bool
    """The plug-in threshold of the same calibration samples broke eps."""
    base_excess: float
    """Of the edge alone."""


class Found(NamedTuple):
    """A row, and what it needs to be believed."""

    row: CascadeRow
    control_violation_rate: float
    base_excess: float


class Cut(NamedTuple):
    """Places of samples: two parts of one half, and the other half."""

    tune: Places
    calibrate: Places
    judge: Places


def judged_rows(answers: Answers, promised: Sequence[float], halves: int, seed: int) -> list[Found]:
    """One row per eps. Raises `ModelsError` where the samples are too few or all alike."""
    halved = [
        list(_judged(answers, promised, cut_in_halves(answers, [seed, at]))) for at in range(halves)
    ]
    return [_summed_up([of_half[place] for of_half in halved]) for place in range(len(promised))]


def cut_in_halves(answers: Answers, seed: list[int]) -> Cut:
    """One way to cut the samples. Raises `TooFewSamples` without groups enough for three parts."""
    chance = np.random.default_rng(seed)
    every = np.arange(len(answers.labels))
    calibrating = _some(answers, every, 0.5, chance)
    tune = _some(answers, calibrating, TUNE_SHARE, chance)
    return Cut(tune, np.setdiff1d(calibrating, tune), np.setdiff1d(every, calibrating))


def _some(answers: Answers, of: Places, share: float, chance: np.random.Generator) -> Places:
    """About this share of the places, whole groups only."""
    if answers.groups is None:
        return np.sort(chance.permutation(of)[: round(share * len(of))])
    mask = split_by_group(answers.groups[of], share, int(chance.integers(2**32)))
    return of[mask]


def _judged(answers: Answers, promised: Sequence[float], cut: Cut) -> Iterator[Judged]:
    edge, cloud, labels = answers.edge, answers.cloud, answers.labels
    tuned = tune_score(edge[cut.tune], cloud[cut.tune], labels[cut.tune], promise="excess")
    every = of_logits(
        edge,
        cloud,
        labels,
        name=tuned.name,
        temperature=tuned.temperature,
        groups=answers.groups,
    )
    naive = confidence(edge[cut.judge], 1.0)
    tune, sample, judge = (every.where(places) for places in cut)
    for eps in promised:
        counting = _counting(sample, eps)
        certificate = certify(
            tune,
            sample,
            promise="excess",
            eps=eps,
            delta=DELTA,
            score=tuned.name,
            temperature=tuned.temperature,
            counting=counting,
        )
        control = plug_in(sample.scores, sample.excess, eps=eps).threshold
        broken, base = (
            _excess(judge, _local(judge.scores, threshold), counting) for threshold in (control, 0)
        )
        row = _row(answers, cut.judge, judge, certificate, counting, _local(naive, NAIVE))
        yield Judged(row, broken > eps + 1e-12, base)


def _counting(sample: Outcomes, eps: float) -> Counting:
    if sample.groups is None:
        return "rows"
    needed = least_n("excess", "high-probability", eps=eps, delta=DELTA, by_group=True)
    return "groups" if len(np.unique(sample.groups)) >= needed else "rows"


def _row(
    answers: Answers,
    places: Places,
    judge: Outcomes,
    certificate: Certificate,
    counting: Counting,
    naive: Flags,
) -> CascadeRow:
    edge_wrong, cloud_wrong = _wrong(judge.edge_wrong), _wrong(judge.cloud_wrong)
    local = _local(judge.scores, certificate.threshold)
    excess = judge.excess.astype(np.float64)
    best = peak(deferral(judge.scores, edge_wrong, cloud_wrong))
    sizes = answers.bytes[places]
    return CascadeRow(
        task=answers.task,
        eps=certificate.eps,
        delta=certificate.delta,
        edge_accuracy=_share(~edge_wrong),
        cloud_accuracy=_share(~cloud_wrong),
        system_accuracy=_share(~np.where(local, edge_wrong, cloud_wrong)),
        escalated=_share(~local),
        oracle_escalated=least_escalation(judge.scores, excess, certificate.eps),
        certified_risk=certificate.upper_bound,
        realised_excess=float(excess[local].sum() / judge.n),
        violation_rate=float(_excess(judge, local, counting) > certificate.eps + 1e-12),
        best_accuracy=best.right,
        best_at_escalation=best.escalated,
        deferral_gain=deferral_gain(judge.scores, edge_wrong, cloud_wrong),
        naive_08_excess=float(excess[naive].sum() / judge.n),
        naive_08_escalated=_share(~naive),
        bytes_share=float(sizes[~local].sum() / sizes.sum()),
    )


def _excess(judge: Outcomes, local: Flags, counting: Counting) -> float:
    """What the promise bounds: the mean over rows, or over groups where those were counted."""
    lost = judge.excess * local
    if counting == "groups" and judge.groups is not None:
        return float(group_means(lost, judge.groups).mean())
    return float(lost.mean())


def _summed_up(halves: Sequence[Judged]) -> Found:
    """Means over the halves; of certified risk and gain, over those that have one."""
    rows = [one.row for one in halves]
    row = CascadeRow(
        task=rows[0].task,
        eps=rows[0].eps,
        delta=rows[0].delta,
        edge_accuracy=_mean([row.edge_accuracy for row in rows]),
        cloud_accuracy=_mean([row.cloud_accuracy for row in rows]),
        system_accuracy=_mean([row.system_accuracy for row in rows]),
        escalated=_mean([row.escalated for row in rows]),
        oracle_escalated=_mean([row.oracle_escalated for row in rows]),
        certified_risk=_mean_of_known([row.certified_risk for row in rows]),
        realised_excess=_mean([row.realised_excess for row in rows]),
        violation_rate=_mean([row.violation_rate for row in rows]),
        best_accuracy=_mean([row.best_accuracy for row in rows]),
        best_at_escalation=_mean([row.best_at_escalation for row in rows]),
        deferral_gain=_mean_of_known([row.deferral_gain for row in rows]),
        naive_08_excess=_mean([row.naive_08_excess for row in rows]),
        naive_08_escalated=_mean([row.naive_08_escalated for row in rows]),
        bytes_share=_mean([row.bytes_share for row in rows]),
    )
    return Found(
        row,
        _mean([float(one.control_broken) for one in halves]),
        _mean([one.base_excess for one in halves]),
    )


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 5)


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _local(scores: Scores, threshold: float | None) -> Flags:
    """A comparison with NaN is false: no score, not local."""
    if threshold is None:
        return np.zeros(len(scores), dtype=np.bool_)
    return scores >= threshold


def _wrong(column: Flags | None) -> Flags:
    assert column is not None
    return column


def _share(flags: Flags) -> float:
    return float(flags.mean())
