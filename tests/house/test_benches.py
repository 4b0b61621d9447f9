"""The benches start, their objects hold the keys they promised, and each key is explained."""

import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.bench import (
    agent,
    budget,
    cascade,
    certificates,
    deadline,
    monitor,
    preparation,
    serving,
    soak,
)
from tests.bench.budget import BudgetRow
from tests.bench.cascade_halves import CascadeRow, cut_in_halves, judged_rows
from tests.bench.cascade_tasks import Answers
from tests.bench.certificates import RuleRow
from tests.bench.populations import made_up as made_up_logits
from tests.bench.preparation_images import ImageRow
from tests.bench.preparation_signals import SignalRow
from tests.bench.rows import DecideRow, InputRow, KillRow, ProcessRow, Row, StartRow, SwapRow
from tests.bench.served import ServingRow
from tests.bench.setting import Setting
from tests.house.tree import ROOT

COMMON = ("bench", "quick", "seed", "load1", "cpu", "python", "versions")
AGENT = (
    "raw_run_us",
    "in_process_overhead_us",
    "sdk_overhead_us_4k",
    "sdk_overhead_us_150k",
    "sdk_overhead_us_600k",
    "pss_mb_supervisor",
    "pss_mb_worker",
    "idle_cpu_percent",
    "start_to_first_answer_ms",
    "recover_ms",
    "swap_dropped",
    "swap_p99_ratio",
    "update_child_pss_mb",
    "decide_us",
)
SERVING = ("window_us", "image_us_8")
PREPARATION = ("image_ratio", "signal_ratio")
CERTIFICATES = ("worst_violation_rate", "decide_us", "decide_us_margin")
CASCADE = ("apparel_escalated", "limits")
MONITOR = (
    "delta",
    "false_alarm_worst_null",
    "delay_1p2_to_10_audits",
    "delay_1p2_to_4_audits",
    "rolling_mean_false_alarm",
)
BUDGET = ("gain_captured", "spend")
DEADLINE = ("overrun_p99_ms", "unanswered")
SOAK = ("rss_slope_kb_per_min", "dropped")
BENCHES: dict[str, tuple[type[Setting], tuple[str, ...]]] = {
    "agent": (agent.AgentFigures, AGENT),
    "serving": (serving.ServingFigures, SERVING),
    "preparation": (preparation.PreparationFigures, PREPARATION),
    "certificates": (certificates.CertificateFigures, CERTIFICATES),
    "cascade": (cascade.CascadeFigures, CASCADE),
    "monitor": (monitor.MonitorFigures, MONITOR),
    "budget": (budget.BudgetFigures, BUDGET),
    "deadline": (deadline.DeadlineFigures, DEADLINE),
    "soak": (soak.SoakFigures, SOAK),
}
ROWS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "agent": (InputRow, ProcessRow, StartRow, KillRow, SwapRow, DecideRow),
    "serving": (ServingRow,),
    "preparation": (ImageRow, SignalRow),
    "certificates": (RuleRow,),
    "cascade": (CascadeRow, cascade.Limit),
    "monitor": (monitor.MonitorRow,),
    "budget": (BudgetRow,),
    "deadline": (deadline.DeadlineRow,),
    "soak": (soak.SoakRow, soak.EventRow),
}
CASCADE_ROW = (
    "task eps delta edge_accuracy cloud_accuracy system_accuracy escalated oracle_escalated "
    "certified_risk realised_excess violation_rate best_accuracy best_at_escalation deferral_gain "
    "naive_08_excess naive_08_escalated bytes_share"
)
MEASURED = {
    name: tuple(key for key in figures.__struct_fields__ if key not in (*COMMON, "rows", "why"))
    for name, (figures, _) in BENCHES.items()
}
SETTING = Setting(
    bench="made up", quick=True, seed=1, load1=0.5, cpu="none", python="3.11", versions={}
)


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_says_what_it_is_for_without_measuring_anything(name: str) -> None:
    script = str(ROOT / "tests" / "bench" / f"{name}.py")
    done = subprocess.run(
        [sys.executable, "-P", script, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: ./just bench {name} ")


@pytest.mark.parametrize("name", BENCHES)
def test_the_keys_are_the_promised_ones_with_floor_and_control_beside_them(name: str) -> None:
    figures, promised = BENCHES[name]
    keys = figures.__struct_fields__
    assert keys[: len(COMMON) + len(promised)] == COMMON + promised
    others = keys[len(COMMON) + len(promised) :]
    assert others[-2:] == ("rows", "why")
    assert {key.partition("_")[0] for key in others[:-2]} == {"floor", "control"}


@pytest.mark.parametrize("name", BENCHES)
def test_every_key_and_column_is_explained(name: str) -> None:
    page = (ROOT / "docs" / "reference" / "benchmarks.md").read_text()
    figures, _ = BENCHES[name]
    about = next(part for part in page.split("\n## ") if part.startswith(f"{name}\n"))
    keys = [key for key in figures.__struct_fields__ if key not in (*COMMON, "rows", "why")]
    keys += [key for row in ROWS[name] for key in row.__struct_fields__]
    assert [key for key in keys if f"`{key}`" not in about] == []
    assert [key for key in (*COMMON, "rows", "why") if f"`{key}`" not in page] == []


def as_printed(figures: Setting) -> dict[str, Any]:
    printed: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(figures))
    return printed


def test_what_was_not_measured_is_null_and_has_a_reason() -> None:
    found = agent.Findings()
    found.lack(" ".join(MEASURED["agent"]), OSError("no such device"))
    printed = as_printed(agent.summed_up(SETTING, found))
    assert [printed[key] for key in MEASURED["agent"]] == [None] * len(MEASURED["agent"])
    assert set(printed["why"]) == set(MEASURED["agent"])
    lacking = serving.Findings([], dict.fromkeys(MEASURED["serving"], "no gateway"))
    printed = as_printed(serving.summed_up(SETTING, lacking))
    assert [printed[key] for key in MEASURED["serving"]] == [None] * len(MEASURED["serving"])


def test_rows_become_medians_and_say_what_they_are_of() -> None:
    found = agent.Findings()
    starts: list[Row] = [StartRow(ms, 100.0) for ms in (900.0, 700.0, 800.0)]
    found.take("start_to_first_answer_ms floor_start_ms", lambda: starts)
    found.lack(
        " ".join(set(MEASURED["agent"]) - {"start_to_first_answer_ms"}), OSError("not today")
    )
    printed = as_printed(agent.summed_up(SETTING, found))
    assert printed["start_to_first_answer_ms"] == 800.0
    assert printed["rows"][0]["of"] == "start"


def made_up(sdk_us: float) -> InputRow:
    return InputRow(
        task="window",
        bytes=4608,
        rounds=1,
        raw_run_us=5.0,
        in_process_us=50.0,
        in_process_overhead_us=45.0,
        sdk_us=50.0 + sdk_us,
        sdk_overhead_us=sdk_us,
        best_sdk_overhead_us=sdk_us,
        floor_sdk_overhead_us=20.0,
        control_sdk_overhead_us=1000.0,
    )


@pytest.mark.parametrize(("sdk_us", "believed"), [(100.0, True), (10.0, False), (2000.0, False)])
def test_a_figure_outside_its_floor_and_control_is_not_believed(
    sdk_us: float, believed: bool
) -> None:
    found = agent.Findings()
    found.take("", lambda: [made_up(sdk_us)])
    measured = {"sdk_overhead_us_4k", "floor_sdk_overhead_us_4k", "control_sdk_overhead_us_4k"}
    found.lack(" ".join(set(MEASURED["agent"]) - measured), OSError("not today"))
    assert (agent.doubtful(agent.summed_up(SETTING, found)) == []) is believed


def answered(n: int, *, members: int | None = None, seed: int = 3) -> Answers:
    """A made-up cascade, its samples in groups of so many members."""
    edge, cloud, labels = made_up_logits(seed, n)
    groups = None if members is None else np.arange(n) // members
    return Answers("made-up", edge, cloud, labels, groups, np.full(n, 10), 1000)


def test_a_row_of_the_cascade_has_the_promised_keys() -> None:
    assert CascadeRow.__struct_fields__ == tuple(CASCADE_ROW.split())


@pytest.mark.parametrize("members", [None, 25])
def test_the_halves_of_a_cut_share_no_sample_and_no_group(members: int | None) -> None:
    answers = answered(1000, members=members)
    cut = cut_in_halves(answers, [1, 2])
    assert sorted(np.concatenate(cut).tolist()) == list(range(1000))
    assert len(cut.judge) == 500
    assert len(cut.tune) == pytest.approx(150, abs=25)
    if answers.groups is not None:
        parts = [set(answers.groups[places].tolist()) for places in cut]
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_what_the_judged_halves_say_adds_up() -> None:
    (row,) = [one.row for one in judged_rows(answered(2000), (0.03,), 2, 1)]
    assert row.oracle_escalated < row.escalated < 1
    assert row.certified_risk is not None
    assert row.certified_risk <= row.eps
    assert row.bytes_share == row.escalated
    # The system is wrong as often as the cloud and what is answered here at a loss.
    assert row.system_accuracy == pytest.approx(row.cloud_accuracy - row.realised_excess, abs=3e-5)
    assert row.best_accuracy >= max(row.system_accuracy, row.edge_accuracy)
    assert 0 < row.naive_08_escalated < 1


def test_where_nothing_can_be_certified_everything_leaves() -> None:
    (row,) = [one.row for one in judged_rows(answered(120), (0.001,), 2, 1)]
    assert (row.escalated, row.realised_excess, row.certified_risk) == (1.0, 0.0, None)


def test_a_limit_that_is_missed_is_a_doubt_of_a_full_run_only() -> None:
    found = cascade.Findings()
    found.limits = [cascade.Limit("escalated of apparel at eps 0.01", 0.2, 0.1, holds=False)]
    quick = cascade.summed_up(SETTING, found)
    full = msgspec.structs.replace(quick, quick=False)
    assert cascade.doubtful(quick) == []
    assert cascade.doubtful(full) == [
        "missed: escalated of apparel at eps 0.01 is 0.2, at most 0.1"
    ]


@pytest.mark.parametrize(("decide_us", "believed"), [(5.0, True), (0.2, False), (13.0, False)])
def test_a_decision_has_a_floor_a_control_and_a_limit(decide_us: float, believed: bool) -> None:
    found = agent.Findings()
    found.take("", lambda: [DecideRow(10, 80, 1, decide_us, 0.4, 20.0)])
    measured = {"decide_us", "floor_decide_us", "control_decide_us"}
    found.lack(" ".join(set(MEASURED["agent"]) - measured), OSError("not today"))
    assert (agent.doubtful(agent.summed_up(SETTING, found)) == []) is believed


@pytest.mark.parametrize(("quick", "said"), [(True, []), (False, ["signal_ratio"])])
def test_a_ratio_above_its_limit_is_a_doubt_of_a_full_run_only(
    quick: bool, said: list[str]
) -> None:
    pictures = [ImageRow("jpeg", 1, 1, 10.0, 10.0, 1.0, 0.5, 4.0)]
    signals = [SignalRow("frames", "1 s", 1, 12.0, 10.0, 1.2, 0.5, 4.0)]
    setting = msgspec.structs.replace(SETTING, quick=quick)
    doubts = preparation.too_dear(preparation.summed_up(setting, pictures, signals))
    assert [doubt.partition(" ")[0] for doubt in doubts] == said


def asked(overrun_ms: float, source: str = "edge", times: int = 1) -> list[deadline.Asked]:
    return [deadline.Asked(300, overrun_ms, source)] * times


def test_what_comes_late_or_not_at_all_is_a_doubt() -> None:
    well = deadline.row("none", asked(-50.0, times=99) + asked(500.0))
    late = deadline.row("late", asked(-50.0, times=90) + asked(11.0, times=10))
    missing = deadline.row("hang", asked(-50.0, times=99) + asked(0.5, "none"))
    assert (well.overrun_p99_ms, well.overrun_p50_ms, well.overrun_max_ms) == (-50.0, -50.0, 500.0)
    assert (missing.answered, missing.unanswered) == (99, 1)
    figures = deadline.summed_up(SETTING, [well, late, missing], -90.0, 900.0, {})
    assert (figures.overrun_p99_ms, figures.unanswered) == (11.0, 1)
    assert [doubt.partition(",")[0] for doubt in deadline.doubtful(figures)] == [
        "missed: overrun_p99_ms of late is 11.0",
        "missed: of 100 requests under hang 99 were answered",
    ]
    looks_good = msgspec.structs.replace(figures, rows=(well,), control_overrun_p99_ms=5.0)
    assert deadline.doubtful(looks_good) == ["the control looks good: 5.0 ms"]
