"""Whose fault the ends of a worker are: nobody's, the accelerator's, the package's."""

import pytest

from edge_agent.upkeep.blame import (
    PLAIN,
    Avoid,
    Blame,
    Effect,
    Ended,
    Event,
    GiveUp,
    Served,
    cause_of,
    culprit,
    step,
)
from edge_agent.upkeep.restart import RestartPolicy

POLICY = RestartPolicy(loop_ends=3, loop_s=60.0)
CRASHED = Ended("crashed", "signal 11 killed it")
HUNG = Ended("hung", "it hung")


def play(*lines: tuple[float, Event, tuple[Effect, ...]], state: Blame | None = None) -> Blame:
    state = state or Blame(POLICY)
    for now, event, expected in lines:
        taken = step(state, event, now)
        assert taken.effects == expected, (now, event)
        state = taken.state
    return state


def test_an_accelerator_that_crashes_twice_is_left_out_and_the_answer_says_degraded() -> None:
    end = play(
        (0, Served("cuda"), ()),
        (1, CRASHED, ()),
        (2, Served("cuda"), ()),
        (3, CRASHED, (Avoid(("cuda",)),)),
        (4, Served("openvino"), ()),
    )
    assert end.degraded == (
        "runs without cuda: its worker ended 2 times there (signal 11 killed it)"
    )
    play(
        (5, HUNG, ()),
        (6, Served("openvino"), ()),
        (7, HUNG, (Avoid(("cuda", "openvino")),)),
        (8, Served(""), ()),
        state=end,
    )


def test_two_crashes_far_apart_blame_nothing() -> None:
    end = play((0, Served("cuda"), ()), (1, CRASHED, ()), (100, CRASHED, ()))
    assert (end.avoid, end.degraded) == ((), None)


def test_a_worker_that_dies_before_it_speaks_is_tried_on_the_plain_runtime() -> None:
    play((0, CRASHED, ()), (1, CRASHED, (Avoid((PLAIN,)),)), (2, CRASHED, ()), (3, CRASHED, ()))


def test_a_crash_loop_on_the_processor_gives_the_package_up() -> None:
    play(
        (0, Served(""), ()),
        (1, CRASHED, ()),
        (2, Served(""), ()),
        (3, Ended("over_memory", "it took more memory than its share"), ()),
        (
            9,
            CRASHED,
            (
                GiveUp(
                    "its worker ended 3 times within 60 s, the last time because"
                    " signal 11 killed it"
                ),
            ),
        ),
        (10, CRASHED, ()),
    )


def test_ends_spread_over_hours_are_no_loop() -> None:
    play((0, Served(""), ()), *[(at * 61.0, CRASHED, ()) for at in range(10)])


def test_whoever_is_killed_from_outside_has_done_nothing() -> None:
    killed = Ended("killed", "somebody killed it")
    end = play((0, Served("cuda"), ()), *[(float(at), killed, ()) for at in range(50)])
    assert end.ends == ()


@pytest.mark.parametrize(
    ("runtime", "provider", "blamed"),
    [
        ("onnx", "cpu", ""),
        ("twin", "cpu", ""),
        ("openvino", "cpu", "openvino"),
        ("openvino", "gpu", "gpu"),
        ("onnx", "cuda", "cuda"),
        ("onnx, openvino", "cpu", "openvino"),
        ("onnx", "cpu, cuda", "cuda"),
    ],
)
def test_what_is_blamed_is_the_provider_and_then_the_runtime(
    runtime: str, provider: str, blamed: str
) -> None:
    assert culprit(runtime, provider) == blamed


def test_how_a_process_ended_says_why() -> None:
    assert cause_of(-11, None, kernel_killed=False) == ("crashed", "signal 11 killed it")
    assert cause_of(-9, None, kernel_killed=False)[0] == "killed"
    assert cause_of(-9, None, kernel_killed=True)[0] == "out_of_memory"
    assert cause_of(-9, "watchdog", kernel_killed=True)[0] == "hung"
    assert cause_of(-9, "memory", kernel_killed=False)[0] == "over_memory"
    assert cause_of(-9, "start", kernel_killed=False)[0] == "exited"
    assert cause_of(0, None, kernel_killed=False)[0] == "left"
    assert cause_of(1, None, kernel_killed=False) == ("exited", "it ended with 1")
