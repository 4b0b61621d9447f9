"""What a task may take: processor by weight, memory by limit, room for a second worker."""

import pytest

from edge_agent.upkeep.shares import Shares, TaskSettings, over, why_not_beside

MB = 1 << 20


def test_the_heaviest_task_runs_as_any_program_and_the_others_are_politer() -> None:
    shares = Shares({"eyes": TaskSettings(cpu_share=2.0), "ears": TaskSettings(cpu_share=0.5)})
    assert [shares.nice(task) for task in ("eyes", "nobody said", "ears")] == [0, 3, 6]
    assert Shares({"ears": TaskSettings(cpu_share=0.5)}).nice("ears") == 3
    assert Shares({"ears": TaskSettings(cpu_share=0.01)}).nice("ears") == 19
    assert Shares({}).nice("any") == 0


def test_a_step_of_nice_is_worth_a_quarter_of_the_processor_so_half_is_three() -> None:
    half = Shares({"a": TaskSettings(), "b": TaskSettings(cpu_share=0.5)})
    assert 1.25 ** half.nice("b") == pytest.approx(2.0, rel=0.03)


def test_without_a_limit_of_its_own_a_task_has_half_the_device() -> None:
    shares = Shares({"eyes": TaskSettings(memory_mb=100)})
    assert shares.memory_bytes("eyes", 1000 * MB) == 100 * MB
    assert shares.memory_bytes("ears", 1000 * MB) == 500 * MB
    assert shares.memory_bytes("ears", 0) == 0, "nobody knows how much there is"


def test_over_its_memory_a_worker_is_renewed_and_far_over_it_killed() -> None:
    told = [over(taken * MB, 100 * MB) for taken in (50, 100, 101, 150, 151)]
    assert told == ["no", "no", "renew", "renew", "kill"]
    assert over(10_000 * MB, 0) == "no"


def test_a_second_worker_needs_what_the_first_takes_and_a_fifth_more() -> None:
    assert why_not_beside("auto", 120 * MB, 100 * MB) is None
    assert why_not_beside("auto", 119 * MB, 100 * MB) == (
        "119 MB of memory are free, a second worker needs 120"
    )
    assert why_not_beside("auto", 10 * MB, 0) is not None, "one that has not said what it takes"
    assert why_not_beside("side_by_side", 0, 100 * MB) is None
    assert why_not_beside("one_at_a_time", 1 << 40, 1) == "the settings say one_at_a_time"
