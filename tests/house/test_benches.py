"""The benches start, their objects hold the keys they promised, and each key is explained."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from tests.bench import agent, serving
from tests.bench.rows import InputRow, KillRow, ProcessRow, Row, StartRow
from tests.bench.served import ServingRow
from tests.bench.setting import Setting
from tests.house.tree import ROOT

COMMON = ("bench", "quick", "seed", "load1", "cpu", "python", "versions")
AGENT = (
    "raw_run_us",
    "in_process_overhead_us",
    "sdk_overhead_us_4k",
    "sdk_overhead_us_150k",
    "pss_mb_supervisor",
    "pss_mb_worker",
    "idle_cpu_percent",
    "start_to_first_answer_ms",
    "recover_ms",
)
SERVING = ("window_us", "image_us_8")
BENCHES = {"agent": (agent.AgentFigures, AGENT), "serving": (serving.ServingFigures, SERVING)}
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
    rows = (InputRow, ProcessRow, StartRow, KillRow) if name == "agent" else (ServingRow,)
    named = [*figures.__struct_fields__, *(key for row in rows for key in row.__struct_fields__)]
    assert [key for key in named if f"`{key}`" not in page] == []


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
