"""The cascade's table as conversations: what is heard, what is done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cascade.decision import (
    Answer,
    Case,
    CloudAnswered,
    CloudDeclined,
    Effect,
    Escalate,
    Event,
    Phase,
    Predicted,
    WakeAt,
    Withheld,
    Woke,
    answer_by,
    step,
)

THRESHOLD = 0.8
ANSWER_BY = 100.27
SURE, UNSURE = Predicted(0.95), Predicted(0.5)

ASK = (Escalate(), WakeAt(ANSWER_BY))
CONFIDENT = Answer("edge", final=True, reason="confident", hard=False)
ESCALATED = Answer("cloud", final=True, reason="escalated", hard=True)


def provisional(reason: str) -> Answer:
    return Answer("edge", final=False, reason=reason, hard=True)


class Conversation:
    """One input: say what happened and when, see what is done."""

    def __init__(self, *, threshold: float | None = THRESHOLD) -> None:
        self.case = Case(threshold, ANSWER_BY)

    def hears(self, event: Event, at: float = 100.0) -> tuple[Effect, ...]:
        done = step(self.case, event, at)
        self.case = done.state
        return done.effects


def test_a_confident_input_is_answered_here_and_finally() -> None:
    assert Conversation().hears(SURE) == (CONFIDENT,)


@pytest.mark.parametrize("at", [100.0, ANSWER_BY + 1])
def test_an_input_that_may_not_leave_is_answered_here_finally_however_late_it_is(at: float) -> None:
    case = Conversation()
    assert Escalate() in case.hears(UNSURE, at=at)
    private = Answer("edge", final=True, reason="private", hard=True)
    assert case.hears(Withheld(), at=at) == (private,)
    assert case.hears(Woke(), at=ANSWER_BY + 2) == ()


def test_confidence_at_the_threshold_is_confident() -> None:
    assert Conversation().hears(Predicted(THRESHOLD)) == (CONFIDENT,)


@pytest.mark.parametrize("confidence", [0.5, None, float("nan"), 1.5])
def test_a_hard_input_is_escalated_with_an_alarm_before_the_deadline(
    confidence: float | None,
) -> None:
    assert Conversation().hears(Predicted(confidence)) == ASK


def test_without_a_certified_threshold_every_input_is_hard() -> None:
    assert Conversation(threshold=None).hears(Predicted(1.0)) == ASK


def test_the_cloud_answers_in_time() -> None:
    case = Conversation()
    assert case.hears(UNSURE) == ASK
    assert case.hears(CloudAnswered(), at=100.1) == (ESCALATED,)


@pytest.mark.parametrize("reason", ["link_down", "refused", "overloaded"])
def test_a_cloud_that_declines_is_not_waited_for(reason: str) -> None:
    case = Conversation()
    assert case.hears(UNSURE) == ASK
    assert case.hears(CloudDeclined(reason), at=100.01) == (provisional(reason),)


def test_at_the_deadline_the_edge_answers_whatever_the_cloud_does() -> None:
    case = Conversation()
    assert case.hears(UNSURE) == ASK
    assert case.hears(Woke(), at=ANSWER_BY) == (provisional("deadline"),)


def test_an_alarm_that_rings_early_is_set_again() -> None:
    case = Conversation()
    assert case.hears(UNSURE) == ASK
    assert case.hears(Woke(), at=100.2) == (WakeAt(ANSWER_BY),)
    assert case.hears(Woke(), at=ANSWER_BY + 0.001) == (provisional("deadline"),)


def test_a_hard_input_without_time_left_is_answered_and_still_escalated() -> None:
    effects = Conversation().hears(UNSURE, at=ANSWER_BY)
    assert effects == (Escalate(), provisional("deadline"))


def test_an_answer_that_overtakes_the_alarm_is_given() -> None:
    case = Conversation()
    assert case.hears(UNSURE) == ASK
    assert case.hears(CloudAnswered(), at=ANSWER_BY + 0.005) == (ESCALATED,)


@pytest.mark.parametrize("late", [CloudAnswered(), CloudDeclined("refused"), Woke()])
def test_what_comes_after_the_answer_changes_nothing(late: Event) -> None:
    case = Conversation()
    assert case.hears(UNSURE) == ASK
    assert case.hears(Woke(), at=ANSWER_BY) == (provisional("deadline"),)
    assert case.hears(late, at=ANSWER_BY + 1) == ()
    assert case.case.phase is Phase.ANSWERED


@pytest.mark.parametrize(
    ("deadline_ms", "reserve_ms"), [(20, 15), (100, 20), (200, 40), (300, 60), (5000, 80)]
)
def test_the_reserve_is_a_fifth_of_the_deadline_within_bounds(
    deadline_ms: int, reserve_ms: int
) -> None:
    assert answer_by(10.0, deadline_ms) == pytest.approx(10.0 - reserve_ms / 1000)


EVENTS = st.one_of(
    st.builds(Predicted, st.one_of(st.none(), st.floats(0, 1))),
    st.just(CloudAnswered()),
    st.builds(CloudDeclined, st.sampled_from(["link_down", "refused"])),
    st.just(Woke()),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 0.5)), max_size=8))
def test_whatever_is_heard_an_input_is_answered_once_at_most_and_asked_once(
    heard: list[tuple[Event, float]],
) -> None:
    case, now = Conversation(), 100.0
    done: list[Effect] = []
    for event, passed in heard:
        now += passed
        done += case.hears(event, at=now)
    answers = [effect for effect in done if isinstance(effect, Answer)]
    assert len(answers) <= 1
    assert done.count(Escalate()) <= 1
    for answer in answers:
        assert answer.hard == (Escalate() in done)
        assert answer.final or answer.source == "edge"
