"""Would another stage pay? A middle model, two models on the device, a learned score: in numbers.

Rules:
1. Every way is calibrated and judged on the same random splits: a quarter of the rows tunes, half
   calibrates (Pareto testing), a quarter judges. Groups stay whole where there are any.
2. Cost is counted in escalations: what a call to the cloud costs is 1, a run of the middle or of
   the second model costs what the caller says. A way that certifies nothing escalates everything.
3. A way *pays* where it costs less than device -> cloud by more than a point, and by more than two
   standard errors. Splits overlap, so the error is that of Nadeau and Bengio 2003, not that of
   independent trials. Otherwise two stages stay: every stage more has to be shipped and calibrated.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from models.calibrate.certificate import Promise
from models.errors import TooFewSamples, UnfitData
from models.evaluate.pareto import Places, choose
from models.evaluate.ways import BASE, ExploreInputs, MakeWays, ways_of

LEAST_ROWS = 200
LEAST_SAVING_POINTS = 1.0


class Option(Struct, frozen=True):
    """One way to route, as a mean over the splits."""

    name: str
    cost_per_1000_calls: float
    """What a thousand requests cost, in calls to the cloud."""
    escalated_percent: float
    risk_percent: float
    broken_percent: float
    """Of the splits: judged above eps. The judged rows have their own chance."""
    nothing_certified_percent: float
    saving_points: float
    """Cost less than device -> cloud, in percent of a call for each request."""
    error_points: float
    """Standard error of the saving."""
    pays: bool


class Exploration(Struct, frozen=True):
    """All ways, the cheapest first, and what to do."""

    rows_count: int
    splits_count: int
    promise: Promise
    eps_percent: float
    delta_percent: float
    options: tuple[Option, ...]
    recommendation: str
    sentence: str


def explore(given: ExploreInputs) -> Exploration:
    """Tries every way that the inputs allow.

    Raises `UnfitData` where arrays do not fit or the promise is not explored, `LabelOutside`,
    `OutcomesMissing`, and `TooFewSamples` below 200 rows.
    """
    if given.promise == "selective":
        raise UnfitData("explore compares with the cloud; choose excess, harm or teacher")
    if len(given.edge_logits) < LEAST_ROWS:
        raise TooFewSamples(
            f"{len(given.edge_logits)} rows are too few to split in three; give {LEAST_ROWS}"
        )
    named = ways_of(given)
    chance = np.random.default_rng(given.seed)
    splits = [_split(given, chance) for _ in range(given.splits)]
    results = {name: _judge(make, splits, given) for name, make in named.items()}
    options = sorted(
        (_option(name, found, results[BASE], given) for name, found in results.items()),
        key=lambda option: (option.cost_per_1000_calls, option.name != BASE),
    )
    recommendation, sentence = _recommend(tuple(options))
    return Exploration(
        rows_count=len(given.edge_logits),
        splits_count=given.splits,
        promise=given.promise,
        eps_percent=100 * given.eps,
        delta_percent=100 * given.delta,
        options=tuple(options),
        recommendation=recommendation,
        sentence=sentence,
    )


def to_text(exploration: Exploration) -> str:
    """A table for a terminal, and the sentence under it."""
    asked = (
        f"Promise {exploration.promise}, eps {exploration.eps_percent:g} %, delta"
        f" {exploration.delta_percent:g} %; {exploration.rows_count:,} rows,"
        f" {exploration.splits_count} splits. Cost in calls to the cloud per 1,000 requests."
    )
    lines = [
        asked,
        "",
        f"{'way':<28}{'cost':>8}{'escalated':>12}{'risk':>9}{'saves':>9}{'+-':>7}  pays",
    ]
    lines += [
        f"{option.name:<28}{option.cost_per_1000_calls:>8.0f}{option.escalated_percent:>10.1f} %"
        f"{option.risk_percent:>7.2f} %{option.saving_points:>9.1f}{option.error_points:>7.1f}"
        f"  {'-' if option.name == BASE else 'yes' if option.pays else 'no'}"
        for option in exploration.options
    ]
    return "\n".join([*lines, "", exploration.sentence]) + "\n"


class _Judgement(Struct, frozen=True):
    """One number for each split."""

    costs: tuple[float, ...]
    escalated: tuple[float, ...]
    risks: tuple[float, ...]
    certified: tuple[bool, ...]


def _split(given: ExploreInputs, chance: np.random.Generator) -> tuple[Places, Places, Places]:
    """Tune, calibration and judging rows."""
    rows = len(given.edge_logits)
    unit = np.arange(rows)
    if given.groups is not None:
        _, unit = np.unique(given.groups, return_inverse=True)
    count = int(unit.max()) + 1
    if count < 4:
        raise TooFewSamples(f"{count} groups cannot be split in three; give at least 4")
    order = chance.permutation(count)[unit]
    tune = order < count // 4
    judge = order >= count - count // 4
    return np.flatnonzero(tune), np.flatnonzero(~tune & ~judge), np.flatnonzero(judge)


def _judge(
    make: MakeWays, splits: list[tuple[Places, Places, Places]], given: ExploreInputs
) -> _Judgement:
    costs, escalated, risks, certified = [], [], [], []
    for tune, calibration, judge in splits:
        ways = make(tune)
        place = choose(
            ways, tune, calibration, promise=given.promise, eps=given.eps, delta=given.delta
        )
        certified.append(place is not None)
        if place is None:
            costs.append(1.0)
            escalated.append(1.0)
            risks.append(0.0)
            continue
        costs.append(float(ways.costs[place, judge].mean(dtype=np.float64)))
        escalated.append(float(ways.escalated[place, judge].mean()))
        risks.append(float(ways.losses[place, judge].mean()))
    return _Judgement(tuple(costs), tuple(escalated), tuple(risks), tuple(certified))


def _option(name: str, found: _Judgement, base: _Judgement, given: ExploreInputs) -> Option:
    savings = 100 * (np.array(base.costs) - np.array(found.costs))
    # A judging quarter against three quarters that chose.
    spread = float(savings.var(ddof=1)) if len(savings) > 1 else 0.0
    error = float(np.sqrt((1 / len(savings) + 1 / 3) * spread))
    saving = float(savings.mean())
    above = np.array(found.risks) > given.eps + 1e-12
    return Option(
        name=name,
        cost_per_1000_calls=1000 * float(np.mean(found.costs)),
        escalated_percent=100 * float(np.mean(found.escalated)),
        risk_percent=100 * float(np.mean(found.risks)),
        broken_percent=100 * float(above.mean()),
        nothing_certified_percent=100 * (1 - float(np.mean(found.certified))),
        saving_points=saving,
        error_points=error,
        pays=name != BASE and saving > max(2 * error, LEAST_SAVING_POINTS),
    )


def _recommend(options: tuple[Option, ...]) -> tuple[str, str]:
    if all(option.nothing_certified_percent > 50 for option in options):
        return BASE, (
            "These rows are too few: most splits certify nothing, so no way can be told from"
            " another. Give more rows, or promise less."
        )
    paying = [option for option in options if option.pays]
    if not paying:
        return BASE, (
            "Stay with two stages: nothing else that was tried saves more than a point beyond"
            " chance. A better model on the device is the next thing to try."
        )
    best = paying[0]
    told = (
        f"{best.name} saves {best.saving_points:.1f} points (standard error"
        f" {best.error_points:.1f}) of a call to the cloud for each request."
    )
    if best.name == "middle -> cloud":
        told += " These are two stages as well: run the better model on the device."
    rivals = [option for option in paying if option.name == "middle -> cloud"]
    if rivals and best.name != rivals[0].name:
        extra = best.saving_points - rivals[0].saving_points
        if extra < LEAST_SAVING_POINTS:
            return rivals[0].name, (
                f"{told} But simply running the middle model on the device is within"
                f" {extra:.1f} points of that with two stages: prefer it."
            )
    return best.name, told
