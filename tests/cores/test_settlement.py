"""Playbooks of one hard request, and a machine that cuts the power between any two effects."""

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.cloud.settlement import (
    PARTED_S,
    PATIENCE_S,
    Abandon,
    AnswerCame,
    AnswerWorker,
    Asked,
    Case,
    Effect,
    Event,
    ExchangeFailed,
    Forget,
    FoundStanding,
    IssueRevision,
    NumberAndOwe,
    NumberRecord,
    Owe,
    Phase,
    Recorded,
    RefusedForGood,
    SendFromBacklog,
    SendLive,
    TellWorkerNo,
    WakeAt,
    Woke,
    event_of,
    step,
)
from sync.wire import v1

ANSWER = v1.Escalated("r1", "apparel", "coat", 0.98, "1.0.0", 700)


def play(*lines: tuple[Event, tuple[Effect, ...]], now: float = 100.0) -> Case:
    """Each event, and the effects it must have."""
    state = Case()
    for event, expected in lines:
        taken = step(state, event, now)
        assert taken.effects == expected, event
        state = taken.state
    return state


@pytest.mark.parametrize("code", ["unauthorised", "token_revoked", "forbidden", "wrong_device"])
@pytest.mark.parametrize("permanent", [False, True])
def test_a_device_turned_away_keeps_its_question(code: str, permanent: bool) -> None:
    """Whatever the refusal says of permanence."""
    assert event_of(v1.Refused(code, "enrol again", permanent)) == ExchangeFailed("refused")


def test_an_answer_in_time_ends_the_matter() -> None:
    end = play(
        (Asked(), (SendLive(),)),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), WakeAt(100 + PATIENCE_S))),
        (Recorded(provisional=False), (NumberRecord(),)),
    )
    assert end.phase is Phase.CLOSED


def test_an_answer_after_the_deadline_becomes_a_revision() -> None:
    play(
        (Asked(), (SendLive(),)),
        (Recorded(provisional=True), (NumberAndOwe(),)),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), IssueRevision(ANSWER))),
        (Recorded(provisional=True), ()),
    )


def test_an_answer_the_worker_just_missed_waits_for_its_record() -> None:
    play(
        (Asked(), (SendLive(),)),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), WakeAt(100 + PATIENCE_S))),
        (Recorded(provisional=True), (NumberAndOwe(), IssueRevision(ANSWER))),
    )


def test_a_link_known_to_be_down_is_told_at_once_and_the_case_stands_in_the_outbox() -> None:
    play(
        (Asked("link_down"), (TellWorkerNo("link_down"), WakeAt(100 + PATIENCE_S))),
        (Recorded(provisional=True), (NumberAndOwe(),)),
        (FoundStanding(), (SendFromBacklog(),)),
        (ExchangeFailed("link_timeout"), (TellWorkerNo("link_timeout"),)),
        (FoundStanding(), (SendFromBacklog(),)),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), IssueRevision(ANSWER))),
    )


def test_a_silent_exchange_leaves_the_case_to_the_backlog() -> None:
    end = play(
        (Asked(), (SendLive(),)),
        (Recorded(provisional=True), (NumberAndOwe(),)),
        (FoundStanding(), ()),
        (ExchangeFailed("link_timeout"), (TellWorkerNo("link_timeout"),)),
    )
    assert end.phase is Phase.STANDING


def test_a_refusal_for_good_abandons_what_was_answered_provisionally() -> None:
    play(
        (Asked(), (SendLive(),)),
        (RefusedForGood("unknown_task"), (TellWorkerNo("refused"), WakeAt(100 + PATIENCE_S))),
        (Recorded(provisional=True), (NumberAndOwe(), Abandon("unknown_task"))),
        (Asked(), (TellWorkerNo("refused"),)),
    )


def test_a_backlog_refused_for_good_is_abandoned_with_the_gateways_reason() -> None:
    play(
        (FoundStanding(), (SendFromBacklog(),)),
        (RefusedForGood("bad_request"), (TellWorkerNo("refused"), Abandon("bad_request"))),
    )


def test_what_stands_from_before_a_restart_joins_the_question_asked_again() -> None:
    play(
        (Asked(), (SendLive(),)),
        (FoundStanding(), ()),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), IssueRevision(ANSWER))),
        (Recorded(provisional=False), ()),
    )
    play(
        (Asked(), (SendLive(),)),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), WakeAt(100 + PATIENCE_S))),
        (FoundStanding(), (IssueRevision(ANSWER),)),
    )


def test_a_worker_killed_before_its_record_asks_again_and_joins_the_exchange() -> None:
    play(
        (Asked(), (SendLive(),)),
        (Asked(), ()),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), WakeAt(100 + PATIENCE_S))),
        (Asked("link_down"), (AnswerWorker(ANSWER),)),
        (Recorded(provisional=False), (NumberRecord(),)),
    )


def test_a_worker_killed_after_its_record_is_answered_again_and_counted_once() -> None:
    play(
        (Asked(), (SendLive(),)),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), WakeAt(100 + PATIENCE_S))),
        (Recorded(provisional=False), (NumberRecord(),)),
        (Asked(), (AnswerWorker(ANSWER),)),
        (Recorded(provisional=False), ()),
    )


def test_a_second_answer_that_is_provisional_earns_a_revision_without_a_second_record() -> None:
    play(
        (Asked(), (SendLive(),)),
        (AnswerCame(ANSWER), (AnswerWorker(ANSWER), WakeAt(100 + PATIENCE_S))),
        (Recorded(provisional=False), (NumberRecord(),)),
        (Asked(), (AnswerWorker(ANSWER),)),
        (Recorded(provisional=True), (IssueRevision(ANSWER, settles=False),)),
        (Recorded(provisional=True), ()),
    )


def test_an_easy_answer_that_was_hard_the_second_time_is_owed_too() -> None:
    play(
        (Recorded(provisional=False), (NumberRecord(),)),
        (Asked("link_down"), (TellWorkerNo("link_down"), WakeAt(100 + PATIENCE_S))),
        (Recorded(provisional=True), (Owe(),)),
    )


def test_a_record_that_overtook_its_question_waits_for_it() -> None:
    play(
        (Recorded(provisional=True), (WakeAt(100 + PARTED_S),)),
        (Asked(), (NumberAndOwe(), TellWorkerNo("deadline"))),
    )


def test_a_record_whose_question_never_comes_is_counted_and_named() -> None:
    parted = play((Recorded(provisional=True), (WakeAt(100 + PARTED_S),)))
    assert step(parted, Woke(), 100).effects == ()
    ended = step(parted, Woke(), 100 + PARTED_S)
    assert ended.effects == (NumberRecord(), Abandon("question_cut_off", settles=False))


def test_what_nobody_recorded_is_forgotten() -> None:
    asked = play(
        (Asked("link_down"), (TellWorkerNo("link_down"), WakeAt(100 + PATIENCE_S))),
    )
    forgotten = step(asked, Woke(), 100 + PATIENCE_S)
    assert (forgotten.state, forgotten.effects) == (Case(), (Forget(),))


IDS = ("a", "b", "c")
REFUSED_FOR_EVER = "c"


class Settlements(RuleBasedStateMachine):
    """Workers, a gateway and an outbox around the core; power fails before any effect."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        # memory, gone with the power
        self.cases: dict[str, Case] = {}
        self.under_way: Counter[str] = Counter()
        self.attempt: dict[str, str] = {}
        self.held: dict[str, str] = {}
        # the outbox, which stays
        self.numbered: Counter[str] = Counter()
        self.provisional: set[str] = set()
        self.standing: set[str] = set()
        self.revised: Counter[str] = Counter()
        self.abandoned: Counter[str] = Counter()
        # cuts after the first record of an id
        self.cuts: Counter[str] = Counter()
        self.fuse: int | None = None

    def tell(self, id: str, event: Event) -> None:
        taken = step(self.cases.get(id, Case()), event, self.now)
        self.cases[id] = taken.state
        for effect in taken.effects:
            if self.fuse == 0:
                self.cut()
                return
            if self.fuse is not None:
                self.fuse -= 1
            self.perform(id, effect)

    def perform(self, id: str, effect: Effect) -> None:
        match effect:
            case SendLive() | SendFromBacklog():
                self.under_way[id] += 1
                assert self.under_way[id] <= 2, "an exchange joins the one under way"
            case AnswerWorker():
                self.told(id, "answer")
            case TellWorkerNo():
                self.told(id, "no")
            case NumberRecord():
                self.numbered[id] += 1
            case NumberAndOwe():
                self.numbered[id] += 1
                self.owe(id)
            case Owe():
                self.owe(id)
            case IssueRevision(settles=settles):
                assert self.numbered[id], "no revision before the record it revises"
                if not settles:
                    self.provisional.add(id)
                if id in self.standing or not settles:
                    self.standing.discard(id)
                    self.revised[id] += 1
            case Abandon(settles=settles):
                if id in self.standing or not settles:
                    self.standing.discard(id)
                    self.abandoned[id] += 1
            case Forget():
                del self.cases[id]
            case WakeAt():
                pass

    def owe(self, id: str) -> None:
        self.provisional.add(id)
        self.standing.add(id)

    def told(self, id: str, what: str) -> None:
        if self.attempt.get(id) == "asked":
            self.attempt[id] = what

    def cut(self) -> None:
        self.fuse = None
        for id in self.numbered:
            self.cuts[id] += 1
        self.cases.clear()
        self.under_way.clear()
        self.attempt.clear()
        self.held.clear()

    @initialize()
    def begin(self) -> None:
        self.fuse = None

    @rule(fuse=st.integers(0, 3))
    def power_will_fail(self, fuse: int) -> None:
        self.fuse = fuse

    @rule(id=st.sampled_from(IDS), obstacle=st.sampled_from(["", "link_down"]))
    def a_worker_asks(self, id: str, obstacle: str) -> None:
        if id not in self.attempt:
            self.attempt[id] = "asked"
            self.tell(id, Asked(obstacle))

    @rule(id=st.sampled_from(IDS), delivered=st.booleans())
    def a_worker_records_and_answers(self, id: str, delivered: bool) -> None:
        match self.attempt.pop(id, None):
            case None:
                return
            case "answer":
                self.held[id] = "final"
                self.tell(id, Recorded(provisional=False))
            case _:
                self.held[id] = "provisional"
                self.tell(id, Recorded(provisional=True))
        if not delivered:
            self.held.pop(id, None)  # killed between the record and the answer

    @rule(id=st.sampled_from(IDS))
    def a_record_overtakes_its_question(self, id: str) -> None:
        if id not in self.attempt:
            self.held[id] = "provisional"
            self.tell(id, Recorded(provisional=True))
            self.tell(id, Asked("link_down"))

    @rule(id=st.sampled_from(IDS))
    def a_question_is_cut_off(self, id: str) -> None:
        if id not in self.attempt and id not in self.cases:
            self.tell(id, Recorded(provisional=True))

    @rule(id=st.sampled_from(IDS))
    def an_easy_answer_is_recorded(self, id: str) -> None:
        if id not in self.attempt:
            self.held[id] = "final"
            self.tell(id, Recorded(provisional=False))

    @rule(id=st.sampled_from(IDS))
    def a_worker_is_killed(self, id: str) -> None:
        self.attempt.pop(id, None)

    @rule(id=st.sampled_from(IDS))
    def the_gateway_speaks(self, id: str) -> None:
        if self.under_way[id]:
            self.under_way[id] -= 1
            if id == REFUSED_FOR_EVER:
                self.tell(id, RefusedForGood("bad_request"))
            else:
                self.tell(id, AnswerCame(ANSWER))

    @rule(id=st.sampled_from(IDS))
    def an_exchange_fails(self, id: str) -> None:
        if self.under_way[id]:
            self.under_way[id] -= 1
            self.tell(id, ExchangeFailed("link_timeout"))

    @precondition(lambda self: self.standing)
    @rule()
    def the_backlog_has_its_turn(self) -> None:
        for id in sorted(self.standing):
            self.tell(id, FoundStanding())

    @rule(seconds=st.sampled_from([0.1, PARTED_S, PATIENCE_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for id in sorted(self.cases):
            if id in self.cases:
                self.tell(id, Woke())

    @invariant()
    def a_record_counts_once(self) -> None:
        for id, count in self.numbered.items():
            assert count <= 1 + self.cuts[id]

    @invariant()
    def a_numbered_provisional_answer_ends_in_one_way(self) -> None:
        for id in self.provisional:
            ends = (id in self.standing) + (self.revised[id] > 0) + (self.abandoned[id] > 0)
            assert ends >= 1, id
            if not self.cuts[id]:
                assert ends == 1, id
                assert self.revised[id] <= 1

    @invariant()
    def a_final_answer_is_never_revised(self) -> None:
        for id in IDS:
            if id not in self.provisional:
                assert id not in self.standing
                assert not self.revised[id]

    @invariant()
    def a_caller_left_with_a_provisional_answer_is_owed_or_served(self) -> None:
        for id, what in self.held.items():
            if what == "provisional":
                served = id in self.standing or self.revised[id] or self.abandoned[id]
                parted = self.cases.get(id, Case()).phase is Phase.PARTED
                assert served or parted, id

    def teardown(self) -> None:
        """With the link up and time to spare, nothing is left standing."""
        self.fuse = None
        for _ in range(3):
            self.the_backlog_has_its_turn()
            for id in IDS:
                while self.under_way[id]:
                    self.the_gateway_speaks(id)
        assert not self.standing


TestSettlements = Settlements.TestCase
