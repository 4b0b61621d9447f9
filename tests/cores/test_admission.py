"""Which inputs of a source are answered, and that every other one is accounted for."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.sources.admission import (
    AGAIN_S,
    REPORT_S,
    Admission,
    Admit,
    Answered,
    Begin,
    CutOff,
    Effect,
    Event,
    Leave,
    LeftOut,
    Offered,
    Overloaded,
    Policy,
    Refused,
    Report,
    Stopped,
    WakeAt,
    Woke,
    room,
    step,
)

LIVE = Policy(live=True, counted=True, at_once=1, backlog=2)
PATIENT = Policy(at_once=1, backlog=2)


class Play:
    """Events in, effects out; waking is left out where it is not asked for."""

    def __init__(self, policy: Policy) -> None:
        self.state = Admission(policy)

    def __call__(self, event: Event, now: float) -> list[Effect]:
        done = step(self.state, event, now)
        self.state = done.state
        return [effect for effect in done.effects if not isinstance(effect, WakeAt)]

    def wakes_at(self, now: float) -> float | None:
        effects = step(self.state, Woke(), now).effects
        return next((one.at for one in effects if isinstance(one, WakeAt)), None)


def test_an_input_is_answered_at_once_where_nothing_stands_against_it() -> None:
    play = Play(LIVE)
    assert play(Offered("a"), 0) == [Admit(0), Begin(0)]
    assert play(Answered(0), 1) == []
    assert play.wakes_at(1) is None


def test_a_full_backlog_gives_up_its_oldest() -> None:
    play = Play(LIVE)
    for name in "abc":
        play(Offered(name), 0)
    assert play(Offered("d"), 1) == [Leave(1, "backlog_full"), Admit(3)]
    assert play(Offered("e"), 1) == [Leave(2, "backlog_full"), Admit(4)]
    assert play(Answered(0), 2) == [Begin(3)]
    assert play(Woke(), 1 + REPORT_S) == [Report("backlog_full", 2, "b", "c")]


def test_a_live_source_over_its_rate_is_left_out_at_the_door() -> None:
    play = Play(replace(LIVE, per_second=2.0))
    assert play(Offered("a"), 0) == [Admit(0), Begin(0)]
    assert play(Offered("b"), 0.1) == [Leave(1, "rate_limited")]
    assert play(Answered(0), 0.2) == []
    assert play(Offered("c"), 0.5) == [Admit(2), Begin(2)]


def test_a_patient_source_over_its_rate_waits() -> None:
    play = Play(replace(PATIENT, per_second=2.0))
    play(Offered("a"), 0)
    assert play(Answered(0), 0) == []
    assert play(Offered("b"), 0.1) == [Admit(1)]
    assert play.wakes_at(0.1) == pytest.approx(0.5)
    assert play(Woke(), 0.5) == [Begin(1)]


def test_a_patient_source_offers_only_while_there_is_room() -> None:
    play = Play(PATIENT)
    assert room(play.state) == 2
    for name in "abc":
        play(Offered(name), 0)
    assert room(play.state) == 0
    play(Answered(0), 1)
    assert room(play.state) == 1


def test_what_is_like_the_last_one_admitted_is_left_out_until_it_is_time_again() -> None:
    play = Play(replace(LIVE, same_below=0.1, answer_every_s=10, at_once=9))
    assert play(Offered("a", None), 0) == [Admit(0), Begin(0)]
    assert play(Offered("b", 0.05), 1) == [Leave(1, "near_duplicate")]
    assert play(Offered("c", 0.1), 2) == [Admit(2), Begin(2)]
    assert play(Offered("d", 0.0), 11.9) == [
        Leave(3, "near_duplicate"),
        Report("near_duplicate", 1, "b", "b"),
    ]
    assert play(Offered("e", 0.0), 12) == [Admit(4), Begin(4)]


def test_a_run_is_inputs_in_a_row_and_nothing_between_them() -> None:
    play = Play(replace(LIVE, same_below=0.1, at_once=9))
    play(Offered("a"), 0)
    for name in "bc":
        play(Offered(name, 0.0), 0)
    play(LeftOut("d", "unreadable"), 0)
    assert play(Offered("e", 0.0), 0) == [
        Leave(4, "near_duplicate"),
        Report("near_duplicate", 2, "b", "c"),
    ]
    assert play(Stopped(), 1) == [
        Report("unreadable", 1, "d", "d"),
        Report("near_duplicate", 1, "e", "e"),
    ]


def test_a_run_names_each_input_where_ids_do_not_count_up() -> None:
    play = Play(replace(PATIENT, same_below=0.1))
    play(Offered("a"), 0)
    told = [effect for name in "bcdef" for effect in play(Offered(name, 0.0), 0)]
    assert [one for one in told if isinstance(one, Report)] == [
        Report("near_duplicate", 2, "b", "c"),
        Report("near_duplicate", 2, "d", "e"),
    ]


def test_a_busy_device_says_nothing_about_a_patient_input() -> None:
    play = Play(PATIENT)
    play(Offered("a"), 0)
    assert play(Overloaded(0), 1) == []
    assert play.wakes_at(1) == 1 + AGAIN_S
    assert play(Woke(), 1 + AGAIN_S) == [Begin(0)]


def test_a_busy_device_has_no_time_for_an_old_live_input() -> None:
    play = Play(LIVE)
    play(Offered("a"), 0)
    assert play(Overloaded(0), 1) == [Leave(0, "overloaded")]


def test_what_waits_when_a_live_source_ends_is_accounted_for() -> None:
    play = Play(LIVE)
    for name in "abc":
        play(Offered(name), 0)
    assert play(Stopped(), 1) == [
        Leave(1, "stopped"),
        Leave(2, "stopped"),
        Report("stopped", 2, "b", "c"),
    ]
    assert play(Refused(0, "stopped"), 1) == [Leave(0, "stopped"), Report("stopped", 1, "a", "a")]


def test_what_was_cut_off_is_skipped_where_it_is_live_and_stays_where_it_lies_else() -> None:
    for policy, effects in (
        (LIVE, [Leave(0, "stopped"), Report("stopped", 1, "a", "a")]),
        (PATIENT, []),
    ):
        play = Play(policy)
        play(Offered("a"), 0)
        play(Stopped(), 1)
        assert play(CutOff(0), 1) == effects


def test_what_waits_when_a_patient_source_ends_stays_where_it_lies() -> None:
    play = Play(PATIENT)
    for name in "ab":
        play(Offered(name), 0)
    assert play(Stopped(), 1) == []
    assert play(Answered(0), 1) == [], "and nothing begins any more"
    assert room(play.state) == 0


policies = st.builds(
    Policy,
    per_second=st.sampled_from([0.0, 0.5, 3.0, 100.0]),
    burst=st.integers(1, 4),
    backlog=st.integers(1, 4),
    at_once=st.integers(1, 3),
    same_below=st.sampled_from([0.0, 0.5]),
    answer_every_s=st.sampled_from([0.0, 1.0]),
    live=st.booleans(),
    counted=st.booleans(),
)
moves = st.lists(
    st.tuples(
        st.sampled_from("offer offer offer bad answer refuse busy cut wake".split()),
        st.sampled_from([0.0, 0.01, 0.4, 2.0, 7.0]),
        st.sampled_from([None, 0.0, 1.0]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(policies, moves)
def test_every_input_has_one_fate_and_the_rate_is_never_exceeded(
    policy: Policy, play: list[tuple[str, float, float | None, int]]
) -> None:
    state, now, answered = Admission(policy), 0.0, 0
    fate: Counter[int] = Counter()
    begins: list[float] = []
    reported: Counter[str] = Counter()
    left: Counter[str] = Counter()
    named: list[int] = []
    live_doors: list[float] = []
    for move, pause, difference, which in [*play, ("stop", 0.0, None, 0)]:
        now += pause
        begun = state.begun[which % len(state.begun)].number if state.begun else None
        event: Event
        match move:
            case "offer":
                if not policy.live and not room(state):
                    continue
                event = Offered(str(state.offered), difference)
            case "bad":
                event = LeftOut(str(state.offered), "unreadable")
            case "stop":
                event = Stopped()
            case "wake":
                event = Woke()
            case _ if begun is None:
                continue
            case "answer":
                event, answered = Answered(begun), answered + 1
            case "refuse":
                event = Refused(begun, "refused")
            case "cut":
                event = CutOff(begun)
            case _:
                event = Overloaded(begun)
        done = step(state, event, now)
        state = done.state
        for effect in done.effects:
            match effect:
                case Begin(_):
                    begins.append(now)
                case Admit(_):
                    live_doors.append(now)
                case Leave(number, reason):
                    fate[number] += 1
                    left[reason] += 1
                case Report(reason, count, first, last):
                    assert int(last) - int(first) + 1 == count
                    assert policy.counted or count <= 2
                    named += range(int(first), int(last) + 1)
                    reported[reason] += count
                case WakeAt(at):
                    assert at >= now or state.runs
        assert len(state.begun) <= policy.at_once
        assert not policy.live or len(state.waiting) <= policy.backlog
        assert answered + left.total() + len(state.waiting) + len(state.begun) == state.offered, (
            "offered = answered + skipped + waiting + begun"
        )
    assert max(fate.values(), default=1) == 1
    assert reported == left, "every skipped input is reported, with its reason"
    assert sorted(named) == sorted(fate), "and named by a run"
    if policy.per_second:
        for times in (live_doors,) if policy.live else (begins,):
            for (i, one), (j, other) in itertools.combinations(enumerate(times), 2):
                assert j - i + 1 <= policy.burst + policy.per_second * (other - one) + 1e-6
