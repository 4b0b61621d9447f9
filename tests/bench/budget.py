"""How much of what a budget could bring a device brings: `./just bench budget [--full] [--json]`.

An hour of 12,000 hard inputs in a simulation (cascade note, section 5): three times as many in the
middle twenty minutes and harder ones among them; a link that is good, bad or away; deadlines of
150, 500 and 2000 ms; sizes of a log-normal law. What edge and cloud say to each input is what the
zoo's shipped models say to data that trained neither, and what made-up models say; a part makes the
gain curve, another the hour. Choice, price, round trips and ledger are the code a device runs.

The oracle knows the whole hour beforehand, and the law of the link; it has the same gain curve.
Exit codes: 0 measured and every limit holds, 1 otherwise.
"""

import sys
from collections.abc import Callable, Sequence
from math import erf, exp, log, sqrt
from time import perf_counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

from edge_agent.cascade.value import choose, weather
from edge_agent.cloud import ledger, price
from edge_agent.cloud.budget import ENVELOPE, MOST_SENDS
from edge_agent.cloud.price import Market, Weighed
from edge_agent.cloud.round_trips import RoundTrips
from models.calibrate.curve import Gain
from models.calibrate.gain import fit_gain
from models.calibrate.outcomes import Outcomes
from tests.bench.populations import Population, populations
from tests.bench.setting import Options, Setting, begin, end, note

SAYS = "How much of an oracle's gain the budget brings, in a simulated hour on shipped models."
BUDGETS = (0.10, 0.25, 0.50)
LEAST_CAPTURED = 0.90
HOUR_S = 3600.0
REQUESTS = 12_000
RHO, WAIT_COST = 0.5, 0.02
QUICK_SEEDS, SEEDS = 2, 5
MEASURED = ("made-up", "apparel")
"""`activity` is left out: its cloud gains three answers of a thousand, and chance decides."""
MEDIANS_S = (0.06, 0.45)
SPREAD = 0.5
MEAN_BYTES = 30_000 * exp(SPREAD**2 / 2)
AWAY = 2
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class BudgetRow(Struct, frozen=True):
    """One task at one budget, over all seeds."""

    task: str
    budget: float
    gain_captured: float
    spend: float
    """Of the budget; the highest of any seed."""
    naive_05_captured: float
    naive_08_captured: float
    asks_all_captured: float
    """Asking about everything until the budget is gone."""
    edge: float
    """Right answers for each input without the cloud."""
    oracle: float
    waits_wasted: float
    """Of all inputs."""
    decide_us: float


class BudgetFigures(Setting, frozen=True, kw_only=True):
    """The JSON object of `./just bench budget`."""

    gain_captured: dict[str, float] | None
    """The lowest of any task, by budget."""
    spend: float | None
    """The highest of any task and seed."""
    floor_gain_captured: dict[str, float] | None
    """Of a device that asks about everything until the budget is gone."""
    control_gain_captured: dict[str, float] | None
    """Of the better of the two fixed thresholds, for the task where that is worse."""
    rows: tuple[BudgetRow, ...]
    why: dict[str, str]


class Hour(NamedTuple):
    """What happens, whoever decides."""

    at: Floats
    score: Floats
    edge_right: Floats
    cloud_right: Floats
    size: Ints
    within_s: Floats
    link: Ints
    round_trip_s: Floats
    gain: Gain

    @property
    def cost(self) -> Ints:
        return self.size + ENVELOPE


def hour_of(outcomes: Outcomes, gain: Gain, seed: int) -> Hour:
    """One hour, drawn from these inputs."""
    assert outcomes.edge_wrong is not None
    assert outcomes.cloud_wrong is not None
    scores = np.nan_to_num(outcomes.scores)
    edge = 1.0 - outcomes.edge_wrong.astype(np.float64)
    cloud = 1.0 - outcomes.cloud_wrong.astype(np.float64)
    chance = np.random.default_rng(seed)
    count, third = REQUESTS, HOUR_S / 3
    calm = count // 5
    at = np.sort(
        np.concatenate(
            [
                chance.uniform(0, third, calm),
                chance.uniform(third, 2 * third, count - 2 * calm),
                chance.uniform(2 * third, HOUR_S, calm),
            ]
        )
    )
    rush = (at > third) & (at < 2 * third)
    hardest_first = np.argsort(scores)
    harder = hardest_first[(chance.random(count) * len(scores) / 2).astype(np.int64)]
    drawn = np.where(
        rush & (chance.random(count) < 0.3), harder, chance.integers(0, len(scores), count)
    )
    link, state, last = np.zeros(count, np.int64), 0, 0.0
    for place in range(count):
        if chance.random() < 1 - exp(-(at[place] - last) / 60):
            state = int(chance.choice(3, p=[0.6, 0.3, 0.1]))
        last, link[place] = float(at[place]), state
    medians = np.array([*MEDIANS_S, 1e9])[link]
    return Hour(
        at=at,
        score=scores[drawn],
        edge_right=edge[drawn],
        cloud_right=cloud[drawn],
        size=np.exp(chance.normal(log(30_000), SPREAD, count)).astype(np.int64),
        within_s=chance.choice([0.15, 0.5, 2.0], count, p=[0.4, 0.4, 0.2]),
        link=link,
        round_trip_s=medians * np.exp(chance.normal(0, SPREAD, count)),
        gain=gain,
    )


def worth(hour: Hour, actions: Ints) -> float:
    """Right answers for each input: in time, late ones at rho, less the waits."""
    away = hour.link == AWAY
    waited = (actions == 1) & ~away
    in_time = waited & (hour.round_trip_s <= hour.within_s)
    late = (actions > 0) & ~in_time
    right = np.where(in_time, hour.cloud_right, hour.edge_right)
    right = right + np.where(late, RHO * (hour.cloud_right - hour.edge_right), 0.0)
    waits = np.where(waited, np.minimum(hour.round_trip_s, hour.within_s), 0.0)
    return float((right - WAIT_COST * waits).mean())


def naive(hour: Hour, limit: int, threshold: float) -> Ints:
    """Asks and waits below a fixed score, while the link is up and the budget lasts."""
    actions, left = np.zeros(REQUESTS, np.int64), limit
    for place in range(REQUESTS):
        cost = int(hour.cost[place])
        if hour.link[place] != AWAY and hour.score[place] < threshold and cost <= left:
            actions[place], left = 1, left - cost
    return actions


def oracle(hour: Hour, limit: int) -> Ints:
    """The knapsack of the whole hour, filled in hindsight with what is worth most for its bytes."""
    gains = np.array([hour.gain.at(score) for score in hour.score.tolist()])
    chance, wait = np.zeros(REQUESTS), np.zeros(REQUESTS)
    for state, median in enumerate(MEDIANS_S):
        for within in (0.15, 0.5, 2.0):
            here = (hour.link == state) & (hour.within_s == within)
            chance[here], wait[here] = _law(median, within)
    soon = (chance + (1 - chance) * RHO) * gains - WAIT_COST * wait
    later = RHO * gains
    waits = (hour.link != AWAY) & (soon >= later)
    value = np.where(waits, soon, later)
    order = np.argsort(-value / hour.cost)
    taken = order[(np.cumsum(hour.cost[order]) <= limit) & (value[order] > 0)]
    actions = np.zeros(REQUESTS, np.int64)
    actions[taken] = np.where(waits[taken], 1, 2)
    return actions


def _law(median: float, within: float) -> tuple[float, float]:
    """Chance of a log-normal round trip within this time, and the mean of it cut there."""
    reach = log(within / median) / SPREAD

    def below(point: float) -> float:
        return 0.5 * (1 + erf(point / sqrt(2)))

    chance = below(reach)
    mean = median * exp(SPREAD**2 / 2) * below(reach - SPREAD)
    return chance, mean + within * (1 - chance)


class Device:
    """The shipped choice, price, round trips and ledger, without what surrounds them."""

    def __init__(self, limit: int) -> None:
        self.ledger = ledger.opened(limit, "bytes", "boot", None, 0.0)
        self.market = Market()
        self.trips = RoundTrips()
        self.pending: list[Weighed] = []
        self.told_at = 0.0
        self.asked = 0
        self.spent = 0
        self.conditions(up=True)

    def conditions(self, *, up: bool) -> None:
        """As the supervisor tells its workers."""
        self.now = weather(
            up=up,
            round_trips=self.trips.recent(),
            left=self.ledger.left // MOST_SENDS,
            price=self.market.price,
            call_cost=ENVELOPE,
            byte_cost=1.0,
            revision_worth=RHO,
            wait_cost=WAIT_COST,
        )

    def tell(self, event: ledger.Event, at: float) -> bool:
        """Whether a grant came of it; the disk takes everything at once."""
        granted, events = False, [event]
        while events:
            step = ledger.step(self.ledger, events.pop(0), at)
            self.ledger = step.state
            for effect in step.effects:
                match effect:
                    case ledger.Grant():
                        granted = True
                    case ledger.Write():
                        events.append(ledger.Written())
                    case ledger.Refuse():
                        pass
        return granted

    def spend(self, cost: int, at: float) -> bool:
        self.asked += 1
        if not self.tell(ledger.Asked(str(self.asked), cost * MOST_SENDS), at):
            return False
        self.tell(ledger.Returned(cost * (MOST_SENDS - 1), self.ledger.began), at)
        self.spent += cost
        return True

    def considered(self, value: float, cost: int, at: float) -> None:
        """Told in batches, every tenth of a second."""
        self.pending.append(Weighed(value / cost, cost))
        if at - self.told_at >= 0.1:
            inputs, self.pending, self.told_at = tuple(self.pending), [], at
            event = price.Considered(inputs, self.ledger.left, self.ledger.ends)
            self.market = price.step(self.market, event, at).state


def shipped(hour: Hour, limit: int) -> tuple[Ints, int, float]:
    """What a device does, what it spends, and how long a choice took it (seconds)."""
    device, actions, took = Device(limit), np.zeros(REQUESTS, np.int64), 0.0
    was_up = True
    rows = zip(
        hour.at.tolist(),
        hour.score.tolist(),
        hour.size.tolist(),
        hour.within_s.tolist(),
        hour.link.tolist(),
        hour.round_trip_s.tolist(),
        strict=True,
    )
    for place, (at, score, size, within_s, link, round_trip_s) in enumerate(rows):
        up = link != AWAY
        if was_up and not up:
            device.trips.went_down()
        was_up = up
        device.conditions(up=up)
        begun = perf_counter()
        choice = choose(score=score, size=size, within_s=within_s, gain=hour.gain, now=device.now)
        took += perf_counter() - begun
        device.considered(choice.value, choice.cost, at)
        if choice.action == "local" or not device.spend(choice.cost, at):
            continue
        actions[place] = 1 if choice.action == "sync" else 2
        if up:
            device.trips.took("link", round_trip_s)
    return actions, device.spent, took / REQUESTS


def measured(population: Population, seeds: Sequence[int]) -> list[BudgetRow]:
    """One population at every budget."""
    tune, drawn_from = population.tune, population.drawn_from
    gain = fit_gain(tune.scores, tune.loss("excess"))
    hours = [hour_of(drawn_from, gain, seed) for seed in seeds]
    rows = []
    for budget in BUDGETS:
        found = [_Hour(hour, budget) for hour in hours]
        gained = sum(each.oracle - each.edge for each in found)

        def captured(by: Callable[["_Hour"], float]) -> float:
            return round(sum(by(each) - each.edge for each in found) / gained, 4)  # noqa: B023

        rows.append(
            BudgetRow(
                task=population.task,
                budget=budget,
                gain_captured=captured(lambda each: each.shipped),
                spend=round(max(each.spend for each in found), 4),
                naive_05_captured=captured(lambda each: each.naive_05),
                naive_08_captured=captured(lambda each: each.naive_08),
                asks_all_captured=captured(lambda each: each.asks_all),
                edge=round(sum(each.edge for each in found) / len(found), 4),
                oracle=round(sum(each.oracle for each in found) / len(found), 4),
                waits_wasted=round(sum(each.wasted for each in found) / len(found), 4),
                decide_us=round(1e6 * min(each.decide_s for each in found), 2),
            )
        )
    return rows


class _Hour:
    """One hour at one budget, under every policy."""

    def __init__(self, hour: Hour, budget: float) -> None:
        limit = int(budget * REQUESTS * (MEAN_BYTES + ENVELOPE))
        self.edge = worth(hour, np.zeros(REQUESTS, np.int64))
        self.oracle = worth(hour, oracle(hour, limit))
        self.naive_05 = worth(hour, naive(hour, limit, 0.5))
        self.naive_08 = worth(hour, naive(hour, limit, 0.8))
        self.asks_all = worth(hour, naive(hour, limit, 1.1))
        actions, spent, self.decide_s = shipped(hour, limit)
        self.shipped = worth(hour, actions)
        self.spend = spent / limit
        late = (actions == 1) & (hour.round_trip_s > hour.within_s)
        self.wasted = float(late.mean())


def summed_up(setting: Setting, rows: Sequence[BudgetRow]) -> BudgetFigures:
    def lowest(figure: Callable[[BudgetRow], float]) -> dict[str, float]:
        return {
            f"{budget:g}": min(figure(row) for row in rows if row.budget == budget)
            for budget in BUDGETS
        }

    return BudgetFigures(
        **structs.asdict(setting),
        gain_captured=lowest(lambda row: row.gain_captured),
        spend=max(row.spend for row in rows),
        floor_gain_captured=lowest(lambda row: row.asks_all_captured),
        control_gain_captured=lowest(lambda row: max(row.naive_05_captured, row.naive_08_captured)),
        rows=tuple(rows),
        why={},
    )


def missed(figures: BudgetFigures) -> list[str]:
    """Limits that do not hold, and controls that look too good."""
    found = []
    for row in figures.rows:
        where = f"of {row.task} at a budget of {row.budget:g}"
        if row.gain_captured < LEAST_CAPTURED:
            found.append(f"gain_captured {row.gain_captured} {where} is below {LEAST_CAPTURED}")
        if row.spend > 1:
            found.append(f"spend {row.spend} {where} is more than there was")
    for name in ("naive_05_captured", "naive_08_captured"):
        fixed = sum(getattr(row, name) for row in figures.rows)
        if fixed >= sum(row.gain_captured for row in figures.rows):
            found.append(f"{name} is no worse than the price, so these hours say nothing")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("budget", SAYS, arguments, also=("scipy",))
    figures = summed_up(setting, take_all(options))
    return end(figures, figures.why, missed(figures), json=options.json)


def take_all(options: Options) -> list[BudgetRow]:
    seeds = range(options.seed, options.seed + (QUICK_SEEDS if options.quick else SEEDS))
    rows: list[BudgetRow] = []
    for population in populations(options.seed, whole=not options.quick):
        if population.task not in MEASURED:
            continue
        note(f"measuring {population.task}")
        rows += measured(population, seeds)
    return rows


if __name__ == "__main__":
    sys.exit(main())
