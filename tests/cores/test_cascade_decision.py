"""The cascade's table as conversations: what is heard, what is done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cascade.decision import (
    Answer,
    Case,
    CloudAnswered,
    CloudDeclined,
    Consider,
    Effect,
    Escalate,
    Event,
    Leave,
    Phase,
    Predicted,
    WakeAt,
    Withheld,
    Woke,
    answer_by,
    step,
)
from edge_agent.cascade.value import Weather, weather

ANY_WEATHER = Weather()
THRESHOLD = 0.8
ANSWER_BY = 100.27
SURE, UNSURE = Predicted(0.95), Predicted(0.5)

ASK = (Escalate(), WakeAt(ANSWER_BY))
CONFIDENT = Answer("edge", final=True, reason="confident", hard=False)
ESCALATED = Answer("cloud", final=True, reason="escalated", hard=True)


def provisional(reason: str, threshold: float | None = 0.5) -> Answer:
    return Answer("edge", final=False, reason=reason, hard=True, threshold=threshold)


class Conversation:
    """One input: say what happened and when, see what is done."""

    def __init__(
        self,
        *,
        threshold: float | None = THRESHOLD,
        weather: Weather = ANY_WEATHER,
        size: int = 0,
    ) -> None:
        self.case = Case(threshold, ANSWER_BY, size=size, weather=weather)

    def hears(self, event: Event, at: float = 100.0) -> tuple[Effect, ...]:
        done = step(self.case, event, at)
        self.case = done.state
        return done.effects


def test_a_confident_input_is_answered_here_and_finally() -> None:
    assert Conversation().hears(SURE) == (CONFIDENT,)


@pytest.mark.parametrize("at", [100.0, ANSWER_BY + 1])
def test_an_input_that_may_not_leave_is_answered_here_finally_however_late_it_is(at: float) -> None:
    case = Conversation()
    assert isinstance(case.hears(UNSURE, at=at)[0], Escalate | Leave)
    private = Answer("edge", final=True, reason="private", hard=True, threshold=0.5)
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


def test_a_hard_input_without_time_left_is_answered_and_its_question_left_for_later() -> None:
    effects = Conversation().hears(UNSURE, at=ANSWER_BY)
    assert effects == (Leave(0.125), provisional("deadline"))


def test_an_answer_that_says_nothing_has_no_threshold_that_would_have_let_it_through() -> None:
    case = Conversation()
    assert case.hears(Predicted(float("nan"))) == ASK
    assert case.hears(CloudDeclined("refused")) == (provisional("refused", None),)


SLOW = weather(up=True, round_trips=(1.0,) * 8)


def test_a_link_on_which_no_answer_was_in_time_lately_is_not_waited_for() -> None:
    case = Conversation(weather=SLOW)
    leave, answer = case.hears(UNSURE)
    assert isinstance(leave, Leave)
    assert answer == provisional("deadline")


def test_with_a_budget_the_best_of_three_is_done_and_the_price_is_told_what_it_was_worth() -> None:
    cheap = weather(up=True, round_trips=(0.05,) * 60, left=10_000, price=1e-6)
    consider, *asks = Conversation(weather=cheap, size=1000).hears(UNSURE)
    assert tuple(asks) == ASK
    assert isinstance(consider, Consider)
    assert consider.cost == 1000
    assert consider.worth == pytest.approx(0.25e-3, rel=0.02)


def test_an_input_that_is_not_worth_its_bytes_is_answered_here_and_finally() -> None:
    dear = weather(up=True, round_trips=(0.05,) * 60, left=10_000, price=0.4e-3)
    consider, answer = Conversation(weather=dear, size=1000).hears(UNSURE)
    assert isinstance(consider, Consider)
    assert isinstance(answer, Answer)
    assert (answer.source, answer.final, answer.reason) == ("edge", True, "budget")
    assert answer.degraded
    # 0.4 right answers are asked for 1000 bytes, and nothing of a lower gain pays that.
    assert answer.threshold == pytest.approx(0.2, abs=0.02)


def test_a_spent_budget_answers_everything_here() -> None:
    spent = weather(up=True, round_trips=(), left=999, price=0.0)
    _, answer = Conversation(weather=spent, size=1000).hears(UNSURE)
    assert answer == Answer("edge", final=True, reason="budget", hard=True, threshold=0.0)


def test_without_a_link_a_question_that_pays_is_left_for_a_revision() -> None:
    down = weather(up=False, round_trips=(), left=10_000, price=1e-6)
    consider, leave, answer = Conversation(weather=down, size=1000).hears(UNSURE)
    assert isinstance(consider, Consider)
    assert leave == Leave(0.125)
    assert answer == provisional("link_down")


def test_an_easy_input_costs_nothing_and_asks_no_price() -> None:
    dear = weather(up=True, round_trips=(), left=0, price=1.0)
    assert Conversation(weather=dear).hears(SURE) == (CONFIDENT,)


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
        handed_over = [one for one in done if isinstance(one, Escalate | Leave)]
        assert answer.hard == (len(handed_over) == 1)
        assert answer.final or answer.source == "edge"
