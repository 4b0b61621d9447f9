"""What the zoo's cascades reach under a certificate: how much leaves the device, at what risk.

    ./just bench cascade [--full] [--json] [--seed N]

Every shipped task whose answer is a class, over random halves of the data that trained neither net:
one half calibrates, the other judges. docs/reference/benchmarks.md explains every key. Exit codes:
0 measured, 1 a task could not be measured, or with --full a limit is missed or a control looks
good.
"""

import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from models.errors import ModelsError
from tests.bench.cascade_halves import CascadeRow, Found, judged_rows
from tests.bench.cascade_tasks import Answers, Asked, shipped_tasks
from tests.bench.setting import Options, Setting, begin, end, misplaced, note

SAYS = "What the zoo's cascades reach under a certificate, judged on halves they have not seen."
PROMISED = (0.02, 0.01)
PROMISED_APPAREL = (0.01, 0.005)
LIMITED = "apparel"
MOST_ESCALATED = {0.01: 0.10, 0.005: 0.15}
MOST_EDGE_BYTES = 40_000
_OF_LIMITED = ("apparel_escalated", "floor_apparel_escalated", "control_violation_rate")
LEAST_CONTROL = 0.3
"""A threshold without a guarantee breaks its promise in more than this share of the halves."""


class Plan(Struct, frozen=True):
    """How much of everything."""

    halves: int
    most: int | None
    """Samples of a task; None is all."""


QUICK = Plan(halves=10, most=2000)
FULL = Plan(halves=40, most=None)


class Limit(Struct, frozen=True):
    """One limit, and whether it holds."""

    what: str
    figure: float
    at_most: float
    holds: bool


class CascadeFigures(Setting, frozen=True, kw_only=True):
    """The JSON object of `./just bench cascade`. Shares are fractions."""

    apparel_escalated: dict[str, float] | None
    """By eps."""
    limits: tuple[Limit, ...]
    """Empty with `--quick`, whose samples are too few."""
    floor_apparel_escalated: dict[str, float] | None
    control_violation_rate: float | None
    rows: tuple[CascadeRow, ...]
    why: dict[str, str]


class Findings:
    """Rows taken so far, limits looked at, and tasks left out with the reason."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.limits: list[Limit] = []
        self.why: dict[str, str] = {}

    def take(self, answers: Answers, plan: Plan, seed: int) -> None:
        """Judge one task."""
        promised = PROMISED_APPAREL if answers.task.startswith(LIMITED) else PROMISED
        found = judged_rows(answers, promised, plan.halves, seed)
        self.found += found
        if answers.task == LIMITED and plan.most is None:
            self.limits += limits_of([one.row for one in found], answers, plan.halves)


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("cascade", SAYS, arguments, also=("pillow", "scipy", "tokenizers"))
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        found = take_all(options, Path(home), QUICK if options.quick else FULL)
    figures = summed_up(setting, found)
    for limit in figures.limits:
        words = "holds" if limit.holds else "missed"
        note(f"{words}: {limit.what} {limit.figure:g}, at most {limit.at_most:g}")
    return end(figures, figures.why, doubtful(figures), json=options.json)


def take_all(options: Options, home: Path, plan: Plan) -> Findings:
    found, asked = Findings(), Asked(home, plan.most, options.seed)
    for task in shipped_tasks():
        note(f"measuring {task}")
        try:
            answers = asked.answers(task)
            if answers is None:
                note(f"{task} does not end in classes and is left out")
                continue
            found.take(answers, plan, options.seed)
        except ModelsError as error:
            found.why[task] = f"{type(error).__name__}: {error}"
    return found


def limits_of(rows: Sequence[CascadeRow], answers: Answers, halves: int) -> list[Limit]:
    """What was promised of apparel (docs/reference/benchmarks.md)."""
    size = answers.edge_file_bytes
    limits = [_limit("bytes of the edge file of apparel", size, MOST_EDGE_BYTES)]
    for row in rows:
        where = f"of {row.task} at eps {row.eps:g}"
        limits.append(_limit(f"escalated {where}", row.escalated, MOST_ESCALATED[row.eps]))
        most = row.delta + 2 * math.sqrt(row.delta * (1 - row.delta) / halves)
        limits.append(_limit(f"violation_rate {where}", row.violation_rate, round(most, 4)))
    return limits


def summed_up(setting: Setting, found: Findings) -> CascadeFigures:
    # Where the edge alone all but keeps eps, nothing has to break.
    could = [
        one.control_violation_rate
        for one in found.found
        if one.row.task == LIMITED and one.base_excess > 1.25 * one.row.eps
    ]
    limited = [one.row for one in found.found if one.row.task == LIMITED]
    why = dict(found.why)
    if not limited:
        why.update(dict.fromkeys(_OF_LIMITED, f"{LIMITED} was not measured"))
    return CascadeFigures(
        **msgspec.structs.asdict(setting),
        apparel_escalated={f"{row.eps:g}": row.escalated for row in limited} or None,
        limits=tuple(found.limits),
        floor_apparel_escalated={f"{row.eps:g}": row.oracle_escalated for row in limited} or None,
        control_violation_rate=min(could, default=None),
        rows=tuple(one.row for one in found.found),
        why=why,
    )


def doubtful(figures: CascadeFigures) -> list[str]:
    """Limits that are missed, a control that looks good, less escalation than an oracle's."""
    if figures.quick:  # ten halves of a part of the data judge nothing
        return []
    doubts = [
        f"missed: {limit.what} is {limit.figure:g}, at most {limit.at_most:g}"
        for limit in figures.limits
        if not limit.holds
    ]
    control = figures.control_violation_rate
    if control is not None and control < LEAST_CONTROL:
        doubts.append(f"the control is broken in {control} of the halves only")
    for row in figures.rows:
        if row.task == LIMITED:
            doubts += misplaced(f"escalated at {row.eps:g}", row.oracle_escalated, row.escalated, 1)
    return doubts


def _limit(what: str, figure: float, at_most: float) -> Limit:
    return Limit(what, figure, at_most, figure <= at_most)


if __name__ == "__main__":
    sys.exit(main())
