"""How soon the live monitor finds a broken promise, and how often it cries wolf.

    ./just bench monitor [--full] [--json] [--seed N]

The shipped monitor is fed made-up audits: losses with a known chance. docs/reference/benchmarks.md
explains every key. Exit codes: 0 measured, 1 more false alarms than delta allows (and two standard
errors), a delay more than 15 % above the expected one, or a control that looks good.
"""

import math
import random
import statistics
import sys
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from edge_agent.risk.monitor import Monitor, count
from tests.bench.setting import Setting, begin, end, note

SAYS = "False alarms and delays of the live risk monitor, on audits whose risk is known."
THETA, HEALTHY = 0.02, 0.012
DELTA, HORIZON = 0.05, 1000
BEFORE = 300
"""Healthy audits before the risk jumps."""
PATIENCE = 5000
EXPECTED = {0.10: 77.0, 0.04: 521.0}
"""Median audits from the jump to the alarm in the design study of this monitor."""
LATER = 1.15
WINDOW = 200


class Plan(Struct, frozen=True):
    nulls: int
    delays: int


QUICK, FULL = Plan(800, 600), Plan(2000, 1000)


class MonitorRow(Struct, frozen=True):
    """One risk before and after, over so many runs."""

    before: float
    after: float
    runs: int
    alarms: float
    """Share of the runs with an alarm: within the horizon where nothing changes, at all else."""
    early: float
    """Share with an alarm before the change."""
    delay_audits: float | None
    delay_p90_audits: float | None


class MonitorFigures(Setting, frozen=True, kw_only=True):
    delta: float
    false_alarm_worst_null: float
    delay_1p2_to_10_audits: float
    delay_1p2_to_4_audits: float
    rolling_mean_false_alarm: float
    floor_delay_1p2_to_10_audits: float
    control_delay_1p2_to_10_audits: float
    rows: tuple[MonitorRow, ...]
    why: dict[str, str]


Alarm = Callable[[bool], bool]
"""Told each audit's loss; says whether it has raised the alarm."""


def shipped() -> Alarm:
    """The monitor as the supervisor uses it."""
    monitor = Monitor(theta=THETA, horizon=HORIZON, delta=DELTA)

    def told(loss: bool) -> bool:
        nonlocal monitor
        monitor = count(monitor, loss=loss)
        return monitor.alarm_at is not None

    return told


def rolling_mean() -> Alarm:
    """The control: the mean of the last 200 audits is above what was promised."""
    last: deque[bool] = deque(maxlen=WINDOW)

    def told(loss: bool) -> bool:
        last.append(loss)
        return len(last) == WINDOW and sum(last) / WINDOW > THETA

    return told


def knowing_when(after: float) -> Alarm:
    """The floor: a sequential test told when the risk may change, and to what."""
    level = math.log(1 / DELTA)
    win, lose = math.log(after / THETA), math.log((1 - after) / (1 - THETA))
    evidence, told_of = 0.0, 0

    def told(loss: bool) -> bool:
        nonlocal evidence, told_of
        told_of += 1
        if told_of > BEFORE:
            evidence += win if loss else lose
        return evidence >= level

    return told


def restarted() -> Alarm:
    """Control of the delay: batches of a hundred audits, each tested by itself, all together 5 %.

    Binomial tails at the worst null, delta shared over the batches of a horizon.
    """
    size, level = 100, DELTA * 100 / HORIZON
    most = next(k for k in range(size) if _tail(k, size, THETA) <= level)
    seen: list[bool] = []

    def told(loss: bool) -> bool:
        seen.append(loss)
        if len(seen) < size:
            return False
        losses = sum(seen)
        seen.clear()
        return losses >= most

    return told


def run(alarm: Alarm, chance: random.Random, risks: tuple[float, float], change: int) -> int | None:
    """The number of the audit that raised the alarm, None for none in time."""
    before, after = risks
    for number in range(change + PATIENCE):
        if alarm(chance.random() < (before if number < change else after)):
            return number + 1
    return None


def null_share(make: Callable[[], Alarm], risk: float, runs: int, chance: random.Random) -> float:
    """Share of runs with an alarm within the horizon, at an unchanging risk."""
    return sum(_within(make(), risk, chance) for _ in range(runs)) / runs


def delays(make: Callable[[], Alarm], after: float, runs: int, chance: random.Random) -> MonitorRow:
    """Audits from the jump to the alarm."""
    found = [run(make(), chance, (HEALTHY, after), BEFORE) for _ in range(runs)]
    late = sorted(at - BEFORE for at in found if at is not None and at > BEFORE)
    return MonitorRow(
        before=HEALTHY,
        after=after,
        runs=runs,
        alarms=round(sum(at is not None for at in found) / runs, 4),
        early=round(sum(at is not None and at <= BEFORE for at in found) / runs, 4),
        delay_audits=float(statistics.median(late)) if late else None,
        delay_p90_audits=float(late[len(late) * 9 // 10]) if late else None,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("monitor", SAYS, arguments)
    plan = QUICK if options.quick else FULL
    chance = random.Random(options.seed)
    note(f"the worst null, {plan.nulls} times {HORIZON} audits")
    nulls = [
        MonitorRow(risk, risk, plan.nulls, round(share, 5), 0.0, None, None)
        for risk in (THETA, HEALTHY)
        if (share := null_share(shipped, risk, plan.nulls, chance)) >= 0
    ]
    note(f"jumps, {plan.delays} times")
    jumps = [delays(shipped, after, plan.delays, chance) for after in (0.20, 0.10, 0.06, 0.04)]
    floor = delays(lambda: knowing_when(0.10), 0.10, plan.delays, chance)
    control = delays(restarted, 0.10, plan.delays, chance)
    figures = MonitorFigures(
        **msgspec.structs.asdict(setting),
        delta=DELTA,
        false_alarm_worst_null=nulls[0].alarms,
        delay_1p2_to_10_audits=jumps[1].delay_audits or math.inf,
        delay_1p2_to_4_audits=jumps[3].delay_audits or math.inf,
        rolling_mean_false_alarm=round(null_share(rolling_mean, THETA, plan.nulls, chance), 4),
        floor_delay_1p2_to_10_audits=floor.delay_audits or math.inf,
        control_delay_1p2_to_10_audits=control.delay_audits or math.inf,
        rows=(*nulls, *jumps),
        why={},
    )
    return end(figures, figures.why, doubtful(figures), json=options.json)


def doubtful(figures: MonitorFigures) -> list[str]:
    """What is missed; nothing where all is well."""
    said = []
    runs = figures.rows[0].runs
    most = DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / runs)
    if figures.false_alarm_worst_null > most:
        said.append(
            f"missed: false_alarm_worst_null is {figures.false_alarm_worst_null}, at most {DELTA}"
            f" (and two standard errors, {most:.3f})"
        )
    for key, expected in (
        ("delay_1p2_to_10_audits", EXPECTED[0.10]),
        ("delay_1p2_to_4_audits", EXPECTED[0.04]),
    ):
        figure = getattr(figures, key)
        if figure > LATER * expected:
            said.append(f"missed: {key} is {figure}, at most {LATER * expected:.0f}")
    if figures.rolling_mean_false_alarm < 0.5:
        said.append(
            f"the control rolling_mean_false_alarm looks good: {figures.rolling_mean_false_alarm}"
        )
    return said


def _within(alarm: Alarm, risk: float, chance: random.Random) -> bool:
    return any(alarm(chance.random() < risk) for _ in range(HORIZON))


def _tail(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) >= k)."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


if __name__ == "__main__":
    sys.exit(main())
