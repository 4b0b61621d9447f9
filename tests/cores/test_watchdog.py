"""When a silent worker is killed, and when its silence is nobody's fault."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cloud.handover import BEAT_S
from edge_agent.upkeep.watchdog import (
    Beaten,
    Effect,
    Event,
    Kill,
    WakeAt,
    Watch,
    WatchdogPolicy,
    Woke,
    begun,
    step,
)

POLICY = WatchdogPolicy(least_s=2.0, times=10.0)
QUICK = Beaten(running_s=0.0, p99_s=0.001)


def play(*lines: tuple[float, Event, tuple[Effect, ...]]) -> Watch:
    """At this moment this event, with these effects. The worker began to serve at 0."""
    state = begun(POLICY, 0.0).state
    for now, event, expected in lines:
        taken = step(state, event, now)
        assert taken.effects == expected, (now, event)
        state = taken.state
    return state


def killed(effects: tuple[Effect, ...]) -> str:
    (kill,) = effects
    assert isinstance(kill, Kill)
    return kill.why


def test_a_worker_that_beats_is_left_alone_and_looked_at_rarely() -> None:
    assert begun(POLICY, 0.0).effects == (WakeAt(2.0),)
    play(
        (0.5, QUICK, ()),
        (1.0, QUICK, ()),
        (1.5, QUICK, ()),
        (2.0, Woke(2.0), (WakeAt(3.5),)),
        (3.4, QUICK, ()),
        (3.5, Woke(3.5), (WakeAt(5.4),)),
    )


def test_a_silent_worker_is_killed_once() -> None:
    state = play((0.5, QUICK, ()), (2.0, Woke(2.0), (WakeAt(2.5),)))
    taken = step(state, Woke(2.5), 2.5)
    assert killed(taken.effects) == "it has been silent for 2.0 s, and 2.0 s are allowed"
    assert step(taken.state, Woke(2.5), 9.0).effects == ()
    assert step(taken.state, Beaten(60.0, 0.1), 9.0).effects == ()


def test_a_run_that_does_not_end_is_killed_though_the_loop_turns() -> None:
    state = play(
        (0.5, Beaten(0.4, 0.001), ()), (1.0, Beaten(0.9, 0.001), ()), (1.5, Beaten(1.4, 0.001), ())
    )
    why = killed(step(state, Beaten(2.1, 0.001), 2.2).effects)
    assert why == "the model has been on one run for 2.1 s, and 2.0 s are allowed"


def test_a_slow_model_is_given_ten_times_what_it_takes() -> None:
    slow = Beaten(running_s=9.0, p99_s=1.0)
    state = play((0.5, Beaten(0.3, 1.0), ()), (2.0, Woke(2.0), (WakeAt(10.5),)))
    assert step(state, slow, 9.4).effects == ()
    assert killed(step(state, Beaten(10.2, 1.0), 10.4).effects)


def test_a_machine_that_slept_kills_nobody() -> None:
    """Our own wake-up is as late as the worker's beat."""
    play(
        (0.5, QUICK, ()),
        (3600.0, Woke(2.0), (WakeAt(3602.0),)),
        (3600.4, QUICK, ()),
        (3602.0, Woke(3602.0), (WakeAt(3602.4),)),
    )


def test_a_run_that_slept_with_its_machine_goes_on_where_it_was() -> None:
    """The worker's beat may come before our own late wake-up."""
    state = play(
        (0.5, Beaten(0.3, 0.001), ()),
        (3600.0, Beaten(3599.8, 0.001), ()),
        (3600.5, Beaten(3600.3, 0.001), ()),
        (3601.4, Beaten(3601.2, 0.001), ()),
    )
    assert killed(step(state, Beaten(3602.2, 0.001), 3602.4).effects)
    other = step(state, Beaten(0.1, 0.001), 3602.4)
    assert other.effects == ()
    assert other.state.excused_s == 0.0


def test_a_worker_that_others_keep_from_the_processor_is_given_its_time() -> None:
    state = play(
        (0.5, QUICK, ()),
        (2.0, Woke(2.0, starved_s=0.0), (WakeAt(2.5),)),
        (2.5, Woke(2.5, starved_s=0.25), (WakeAt(2.75),)),
        (2.75, Woke(2.75, starved_s=9.0), (WakeAt(4.75),)),
    )
    assert killed(step(state, Woke(4.75, starved_s=0.0), 4.75).effects)


@given(st.lists(st.floats(0.0, 1.9), min_size=1, max_size=50), st.floats(0.0, 0.2))
def test_whoever_beats_in_time_is_never_killed(gaps: list[float], running_s: float) -> None:
    now, wake_at = 0.0, 2.0
    state = begun(POLICY, now).state
    for gap in gaps:
        now += gap
        while wake_at <= now:
            (effect,) = (taken := step(state, Woke(wake_at), wake_at)).effects
            assert isinstance(effect, WakeAt)
            assert effect.at > wake_at
            state, wake_at = taken.state, effect.at
        taken = step(state, Beaten(running_s, 0.001), now)
        assert taken.effects == ()
        state = taken.state


def test_there_are_beats_enough_within_the_least_limit() -> None:
    assert WatchdogPolicy().least_s >= 2 * BEAT_S
