"""What a device costs: around one run of its model, at rest, when it starts and when it is hurt.

    ./just bench agent [--full] [--json] [--seed N]

docs/reference/benchmarks.md explains every key. Exit codes: 0 measured, 1 a key is null, or floor
and control do not lie on their sides of a figure, so that the method is not to be believed, or a
decision takes longer than it may.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import assert_never

import msgspec
from msgspec import Struct

from edge_agent.sdk.errors import LongstopError
from models.tensors import Sample
from tests.bench.decide import LIMIT_US, decide_row
from tests.bench.device import device, rest, start_and_kill
from tests.bench.inputs import (
    IMAGE,
    TENSOR,
    WINDOW,
    build_shipped,
    build_tiny,
    golden_sample,
    sample,
    shipped_task,
)
from tests.bench.local_socket import measure
from tests.bench.measure import median
from tests.bench.rows import DecideRow, InputRow, KillRow, ProcessRow, Row, StartRow, SwapRow
from tests.bench.setting import NotMeasured, Options, Setting, begin, end, misplaced, note
from tests.bench.swap import swap

SAYS = "What a device costs: around its model, at rest, when it starts and when it is hurt."


class AgentFigures(Setting, frozen=True, kw_only=True):
    """The JSON object of `./just bench agent`."""

    raw_run_us: float | None
    in_process_overhead_us: float | None
    sdk_overhead_us_4k: float | None
    sdk_overhead_us_150k: float | None
    sdk_overhead_us_600k: float | None
    pss_mb_supervisor: float | None
    pss_mb_worker: float | None
    idle_cpu_percent: float | None
    start_to_first_answer_ms: float | None
    recover_ms: float | None
    swap_dropped: float | None
    swap_p99_ratio: float | None
    update_child_pss_mb: float | None
    decide_us: float | None
    floor_sdk_overhead_us_4k: float | None
    floor_sdk_overhead_us_150k: float | None
    floor_sdk_overhead_us_600k: float | None
    floor_start_ms: float | None
    floor_decide_us: float | None
    control_sdk_overhead_us_4k: float | None
    control_sdk_overhead_us_150k: float | None
    control_sdk_overhead_us_600k: float | None
    control_decide_us: float | None
    rows: tuple[Row, ...]
    why: dict[str, str]


class Plan(Struct, frozen=True):
    """How much of everything."""

    rounds: int
    idle_s: float
    starts: int
    swaps: int


QUICK = Plan(rounds=15, idle_s=15, starts=3, swaps=1)
FULL = Plan(rounds=60, idle_s=60, starts=9, swaps=5)
_SUFFIXES = {WINDOW.task: "4k", IMAGE.task: "150k", TENSOR.task: "600k"}
LIMITS = {
    "in_process_overhead_us": 15.0,
    "sdk_overhead_us_4k": 40.0,
    "sdk_overhead_us_150k": 60.0,
    "sdk_overhead_us_600k": 120.0,
    "pss_mb_supervisor": 40.0,
    "pss_mb_worker": 75.0,
    "idle_cpu_percent": 0.1,
    "start_to_first_answer_ms": 1200.0,
    "recover_ms": 1000.0,
    "swap_dropped": 0.0,
    "swap_p99_ratio": 3.0,
}
"""What is allowed; judged by `--full` alone."""
_REST = "pss_mb_supervisor pss_mb_worker idle_cpu_percent"
_DECIDE = "decide_us floor_decide_us control_decide_us"
_SWAPS = "swap_dropped swap_p99_ratio update_child_pss_mb"
_STARTS = "start_to_first_answer_ms recover_ms floor_start_ms"


class Findings:
    """Rows taken so far, and the keys that stay null with the reason."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.why: dict[str, str] = {}

    def take(self, keys: str, measured: Callable[[], Iterable[Row]]) -> None:
        """Measure what these keys are made of."""
        note(f"measuring {keys}")
        try:
            self.rows.extend(measured())
        except (NotMeasured, LongstopError, OSError) as error:
            self.lack(keys, error)

    def lack(self, keys: str, error: Exception) -> None:
        """These keys stay null."""
        words = str(error) if isinstance(error, NotMeasured) else f"{type(error).__name__}: {error}"
        self.why.update(dict.fromkeys(keys.split(), words))


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("agent", SAYS, arguments, also=("openvino", "pillow"))
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        found = take_all(options, Path(home), QUICK if options.quick else FULL)
    figures = summed_up(setting, found)
    return end(figures, figures.why, doubtful(figures), json=options.json)


def take_all(options: Options, home: Path, plan: Plan) -> Findings:
    """Around the model first, while nothing of ours runs beside it; then the whole device."""
    found = Findings()
    task = shipped_task()
    folder = build_shipped(task, home / "shipped")
    raw = golden_sample(folder)

    def around(task: str, folder: Path, raw: Sample) -> Callable[[], list[Row]]:
        return lambda: [measure(task, folder, raw, home, rounds=plan.rounds)]

    found.take("raw_run_us in_process_overhead_us", around(task, folder, raw))
    for shape in (WINDOW, IMAGE, TENSOR):
        key = f"sdk_overhead_us_{_SUFFIXES[shape.task]}"
        keys = f"{key} floor_{key} control_{key}"
        tiny = build_tiny(shape, home / "tiny" / shape.task)
        found.take(keys, around(shape.task, tiny, sample(shape, options.seed)))
    try:
        with device(home, folder, task, raw) as (one, cloud):
            found.take(_REST, lambda: rest(one, plan.idle_s))
            found.take(
                _STARTS, lambda: [row for _ in range(plan.starts) for row in start_and_kill(one)]
            )
            versions = [
                (version, build_shipped(task, home / f"shipped-{version}", version))
                for version in map(str, range(2, 2 + plan.swaps))
            ]
            found.take(_SWAPS, lambda: swap(one, cloud, versions))
    except NotMeasured as error:
        found.lack(f"{_REST} {_STARTS} {_SWAPS}", error)
    # Last, because scipy and a certificate are loaded for it into this process.
    found.take(_DECIDE, lambda: [decide_row(plan.rounds, options.seed)])
    return found


def summed_up(setting: Setting, found: Findings) -> AgentFigures:
    """Medians over the rows; a key with a reason in `why` is null."""
    values: dict[str, list[float]] = {}
    for row in found.rows:
        for key, value in spoken_of(row):
            values.setdefault(key, []).append(value)

    def figure(key: str) -> float | None:
        if key not in found.why and key not in values:
            found.why[key] = "it was too quick to be seen"
        return None if key in found.why else median(values[key], 3)

    return AgentFigures(
        **msgspec.structs.asdict(setting),
        raw_run_us=figure("raw_run_us"),
        in_process_overhead_us=figure("in_process_overhead_us"),
        sdk_overhead_us_4k=figure("sdk_overhead_us_4k"),
        sdk_overhead_us_150k=figure("sdk_overhead_us_150k"),
        sdk_overhead_us_600k=figure("sdk_overhead_us_600k"),
        pss_mb_supervisor=figure("pss_mb_supervisor"),
        pss_mb_worker=figure("pss_mb_worker"),
        idle_cpu_percent=figure("idle_cpu_percent"),
        start_to_first_answer_ms=figure("start_to_first_answer_ms"),
        recover_ms=figure("recover_ms"),
        swap_dropped=figure("swap_dropped"),
        swap_p99_ratio=figure("swap_p99_ratio"),
        update_child_pss_mb=figure("update_child_pss_mb"),
        decide_us=figure("decide_us"),
        floor_sdk_overhead_us_4k=figure("floor_sdk_overhead_us_4k"),
        floor_sdk_overhead_us_150k=figure("floor_sdk_overhead_us_150k"),
        floor_sdk_overhead_us_600k=figure("floor_sdk_overhead_us_600k"),
        floor_start_ms=figure("floor_start_ms"),
        floor_decide_us=figure("floor_decide_us"),
        control_sdk_overhead_us_4k=figure("control_sdk_overhead_us_4k"),
        control_sdk_overhead_us_150k=figure("control_sdk_overhead_us_150k"),
        control_sdk_overhead_us_600k=figure("control_sdk_overhead_us_600k"),
        control_decide_us=figure("control_decide_us"),
        rows=tuple(found.rows),
        why=found.why,
    )


def spoken_of(row: Row) -> Iterator[tuple[str, float]]:
    """The keys a row is one measurement of."""
    match row:
        case InputRow(task=task) if task in _SUFFIXES:
            size = _SUFFIXES[task]
            yield f"sdk_overhead_us_{size}", row.sdk_overhead_us
            yield f"floor_sdk_overhead_us_{size}", row.floor_sdk_overhead_us
            yield f"control_sdk_overhead_us_{size}", row.control_sdk_overhead_us
        case InputRow():
            yield "raw_run_us", row.raw_run_us
            yield "in_process_overhead_us", row.in_process_overhead_us
        case ProcessRow(process="both"):
            yield "idle_cpu_percent", row.idle_cpu_percent
        case ProcessRow():
            yield f"pss_mb_{row.process}", row.pss_mb
        case StartRow():
            yield "start_to_first_answer_ms", row.start_to_first_answer_ms
            yield "floor_start_ms", row.floor_start_ms
        case KillRow():
            yield "recover_ms", row.recover_ms
        case SwapRow():
            yield "swap_dropped", row.swap_dropped
            yield "swap_p99_ratio", row.swap_p99_ratio
            if row.update_child_pss_mb is not None:
                yield "update_child_pss_mb", row.update_child_pss_mb
        case DecideRow():
            yield "decide_us", row.decide_us
            yield "floor_decide_us", row.floor_decide_us
            yield "control_decide_us", row.control_decide_us
        case _:
            assert_never(row)


def doubtful(figures: AgentFigures) -> list[str]:
    """What says that the method did not work this time."""
    doubts = [
        *misplaced(
            "sdk_overhead_us_4k",
            figures.floor_sdk_overhead_us_4k,
            figures.sdk_overhead_us_4k,
            figures.control_sdk_overhead_us_4k,
        ),
        *over_limit(figures),
        *misplaced(
            "sdk_overhead_us_150k",
            figures.floor_sdk_overhead_us_150k,
            figures.sdk_overhead_us_150k,
            figures.control_sdk_overhead_us_150k,
        ),
        *misplaced(
            "decide_us", figures.floor_decide_us, figures.decide_us, figures.control_decide_us
        ),
    ]
    if figures.decide_us is not None and figures.decide_us > LIMIT_US:
        doubts.append(f"a decision takes {figures.decide_us} us, {LIMIT_US} are allowed")
    failed = sum(row.failed for row in figures.rows if isinstance(row, KillRow))
    if failed:
        doubts.append(f"{failed} requests had no answer while a worker was killed")
    return doubts


def over_limit(figures: AgentFigures) -> Iterator[str]:
    """Figures of a full run above what is allowed."""
    for key, limit in LIMITS.items():
        value = getattr(figures, key)
        if not figures.quick and value is not None and value > limit:
            yield f"{key} is {value}, {limit:g} are allowed"


if __name__ == "__main__":
    sys.exit(main())
