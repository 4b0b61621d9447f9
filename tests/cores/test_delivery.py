"""Delivery as conversations, and as a machine that loses power, answers and questions."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sync.backoff import Backoff
from sync.outbox.delivery import (
    Acknowledged,
    Declined,
    Delivery,
    Effect,
    Event,
    Failed,
    Looked,
    LossList,
    Policy,
    ReportDeadLetter,
    ReportParked,
    Row,
    Send,
    Settle,
    Settled,
    Vanished,
    WakeAt,
    Woke,
    step,
)
from sync.wire import v1

INC = "0123456789ab"
POLICY = Policy(window=2, backoff=Backoff(base_s=1.0, cap_s=8.0), parked_s=100.0)
A, B, C = Row(1, 5), Row(6, 6), Row(7, 9)
LOST = (v1.Lost(20, 29, "budget"),)
FULL = 1.0
"""The whole of a delay: what chance almost never gives, and what is easy to compute with."""


def ack(row: Row, incarnation: str = INC) -> v1.BatchAck:
    return v1.BatchAck(incarnation, row.lo, row.hi, "committed")


class Talk:
    """Event in, effects out, next event."""

    def __init__(self) -> None:
        self.state = Delivery(INC, POLICY)

    def say(self, event: Event, now: float = 0.0) -> list[Effect]:
        done = step(self.state, event, now)
        self.state = done.state
        return list(done.effects)


def test_rows_go_out_oldest_first_up_to_the_window() -> None:
    talk = Talk()
    assert talk.say(Looked((A, B, C), ())) == [Send(A), Send(B)]
    assert talk.say(Looked((A, B, C), ())) == []
    assert talk.say(Acknowledged(A, ack(A))) == [Settle(A), Send(C)]
    assert talk.say(Settled(A)) == []


def test_losses_go_first_and_once() -> None:
    talk = Talk()
    assert talk.say(Looked((A, B), LOST)) == [Send(LossList(LOST)), Send(A)]
    more = (v1.Lost(20, 31, "budget"),)
    assert talk.say(Looked((A, B), more)) == []
    settled = talk.say(Acknowledged(LossList(LOST), v1.LossAck(INC, LOST)))
    assert settled == [Settle(LossList(LOST)), Send(B)]
    assert talk.say(Settled(LossList(LOST))) == []
    rest = (v1.Lost(30, 31, "budget"),)
    assert talk.say(Acknowledged(A, ack(A))) == [Settle(A)]
    assert talk.say(Looked((B,), rest)) == [Send(LossList(rest))]


def test_a_settled_row_is_not_sent_again_however_often_it_is_seen() -> None:
    talk = Talk()
    talk.say(Looked((A,), ()))
    assert talk.say(Acknowledged(A, ack(A))) == [Settle(A)]
    assert talk.say(Looked((A,), ())) == []
    assert talk.say(Settled(A)) == []
    assert talk.say(Acknowledged(A, ack(A))) == []


def test_a_stale_acknowledgement_settles_nothing() -> None:
    for stale in (ack(A, "ba9876543210"), ack(B), ack(Row(A.lo, A.hi - 1)), v1.LossAck(INC, LOST)):
        talk = Talk()
        talk.say(Looked((A,), ()))
        assert talk.say(Acknowledged(A, stale)) == [WakeAt(1.0)]
        assert talk.say(Woke(), 1.0) == [Send(A)]


def test_failures_wait_longer_each_time_and_then_try_with_one_question() -> None:
    talk = Talk()
    assert talk.say(Looked((A, B, C), ())) == [Send(A), Send(B)]
    assert talk.say(Failed(A, FULL)) == [WakeAt(1.0)]
    assert talk.say(Failed(B, FULL)) == [WakeAt(1.0)], "sent together, failed together: one failure"
    assert talk.say(Looked((A, B, C), ()), 0.5) == [WakeAt(1.0)]
    assert talk.say(Woke(), 1.0) == [Send(A)]
    assert talk.say(Failed(A, FULL), 1.0) == [WakeAt(3.0)]
    assert talk.say(Woke(), 3.0) == [Send(A)]
    assert talk.say(Acknowledged(A, ack(A)), 3.0) == [Settle(A), Send(B), Send(C)]


def test_the_delay_has_full_jitter() -> None:
    for chance, waited in ((0.0, 0.05), (0.5, 0.525), (1.0, 1.0)):
        talk = Talk()
        talk.say(Looked((A,), ()))
        assert talk.say(Failed(A, chance), 10.0) == [WakeAt(10.0 + waited)]


def test_a_refusal_that_time_may_heal_waits_at_least_as_long_as_it_was_told() -> None:
    talk = Talk()
    talk.say(Looked((A,), ()))
    refused = Declined(A, permanent=False, retry_after_s=30.0, chance=FULL)
    assert talk.say(refused) == [WakeAt(30.0)]
    assert talk.say(Woke(), 29.0) == [WakeAt(30.0)]
    assert talk.say(Woke(), 30.0) == [Send(A)]


def test_a_row_refused_for_good_is_parked_and_blocks_nothing() -> None:
    talk = Talk()
    talk.say(Looked((A, B, C), ()))
    refused = Declined(A, permanent=True, retry_after_s=0.0, chance=FULL)
    assert talk.say(refused) == [ReportParked(A), Send(C), WakeAt(100.0)]
    assert talk.say(Acknowledged(B, ack(B))) == [Settle(B), WakeAt(100.0)]
    assert talk.say(Settled(B)) == [WakeAt(100.0)]
    assert talk.say(Acknowledged(C, ack(C))) == [Settle(C), WakeAt(100.0)]
    assert talk.say(Looked((A,), ()), 50.0) == [WakeAt(100.0)]
    assert talk.say(Woke(), 100.0) == [Send(A)]


def test_a_dead_letter_lets_go_and_says_so() -> None:
    talk = Talk()
    talk.say(Looked((A,), ()))
    dead = v1.BatchAck(INC, A.lo, A.hi, "dead_letter", "unknown_tag")
    assert talk.say(Acknowledged(A, dead)) == [Settle(A), ReportDeadLetter(A, "unknown_tag")]


def test_what_vanished_from_the_store_makes_room_and_is_no_failure() -> None:
    talk = Talk()
    talk.say(Looked((A, B, C), ()))
    assert talk.say(Vanished(A)) == [Send(C)]


def test_an_answer_to_nothing_changes_nothing() -> None:
    talk = Talk()
    events: list[Event] = [
        Acknowledged(A, ack(A)),
        Failed(A, FULL),
        Declined(A, permanent=True, retry_after_s=9.0, chance=FULL),
        Settled(A),
        Vanished(A),
        Woke(),
    ]
    for event in events:
        assert talk.say(event) == []
        assert talk.state == Delivery(INC, POLICY)


class Link(RuleBasedStateMachine):
    """A store that survives, a process that does not, a link that loses and repeats, a gateway."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.next = 1
        self.rows: list[Row] = []
        self.delivered: set[Row] = set()
        self.counted = 0
        self.copies: list[Row] = []
        """Copies of batches that wander about the network, sent in this life or an earlier one."""
        self.issued: set[Row] = set()
        self.boot()

    def boot(self) -> None:
        self.state = Delivery(INC, POLICY)
        self.out: list[Row] = []
        self.acknowledged: set[Row] = set()
        self.wake_at: float | None = None
        self.tell(Looked(tuple(self.rows), ()))

    def tell(self, event: Event) -> None:
        done = step(self.state, event, self.now)
        self.state = done.state
        self.wake_at = None
        for effect in done.effects:
            match effect:
                case Send(Row() as row):
                    assert row not in self.acknowledged, "an acknowledged row is never sent again"
                    assert row in self.rows, "only what the store holds is sent"
                    assert row not in self.out, "no row is out twice"
                    self.out.append(row)
                    self.copies.append(row)
                case Settle(Row() as row):
                    assert row in self.delivered, "only what the gateway has is let go"
                    self.rows.remove(row)
                    self.tell(Settled(row))
                    self.tell(Looked(tuple(self.rows), ()))
                case WakeAt(at):
                    self.wake_at = at
                case _:
                    pass

    def take_in(self, row: Row) -> None:
        """The gateway's own idempotence."""
        if row not in self.delivered:
            self.delivered.add(row)
            self.counted += row.hi - row.lo + 1

    @rule(records=st.integers(1, 5))
    def a_batch_is_stored(self, records: int) -> None:
        row = Row(self.next, self.next + records - 1)
        self.next += records
        self.rows.append(row)
        self.issued.add(row)
        self.tell(Looked(tuple(self.rows), ()))

    @rule(data=st.data())
    def a_question_is_answered(self, data: st.DataObject) -> None:
        if self.out:
            row = data.draw(st.sampled_from(self.out))
            self.out.remove(row)
            self.take_in(row)
            self.acknowledged.add(row)
            self.tell(Acknowledged(row, ack(row)))

    @rule(data=st.data(), arrived=st.booleans(), chance=st.floats(0, 1, exclude_max=True))
    def an_answer_is_lost(self, data: st.DataObject, arrived: bool, chance: float) -> None:
        if self.out:
            row = data.draw(st.sampled_from(self.out))
            self.out.remove(row)
            if arrived:
                self.take_in(row)
            self.tell(Failed(row, chance))

    @rule(data=st.data())
    def an_old_copy_arrives(self, data: st.DataObject) -> None:
        if self.copies:
            self.take_in(data.draw(st.sampled_from(self.copies)))

    @rule(data=st.data())
    def a_stale_answer_arrives(self, data: st.DataObject) -> None:
        if self.out:
            row = data.draw(st.sampled_from(self.out))
            self.out.remove(row)
            self.tell(Acknowledged(row, ack(row, "another life")))

    @rule(data=st.data(), permanent=st.booleans(), wait=st.floats(0, 50))
    def the_gateway_refuses(self, data: st.DataObject, permanent: bool, wait: float) -> None:
        if self.out:
            row = data.draw(st.sampled_from(self.out))
            self.out.remove(row)
            self.tell(Declined(row, permanent, wait, 0.5))

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Woke())

    @rule()
    def power_is_cut(self) -> None:
        self.boot()

    @rule()
    def power_is_cut_between_the_answer_and_its_effect(self) -> None:
        if self.out:
            row = self.out[0]
            self.take_in(row)
            step(self.state, Acknowledged(row, ack(row)), self.now)  # decided, never performed
            self.boot()

    @invariant()
    def the_window_holds(self) -> None:
        if hasattr(self, "state"):
            assert len(self.out) <= POLICY.window
            assert len(self.state.out) == len(self.out)

    @invariant()
    def nothing_issued_is_nowhere(self) -> None:
        if hasattr(self, "state"):
            assert self.issued == self.delivered | set(self.rows)
            assert self.counted == sum(row.hi - row.lo + 1 for row in self.delivered)

    @invariant()
    def what_can_go_goes_or_is_waited_for(self) -> None:
        if hasattr(self, "state") and self.rows and not self.out:
            assert self.wake_at is not None, "rows, nobody asked, and no waking: stuck for ever"

    def teardown(self) -> None:
        """The link is good again: everything arrives."""
        if not hasattr(self, "state"):
            return
        for _ in range(10_000):
            if not self.rows:
                break
            if self.out:
                row = self.out.pop(0)
                self.take_in(row)
                self.acknowledged.add(row)
                self.tell(Acknowledged(row, ack(row)))
            else:
                assert self.wake_at is not None
                self.now = max(self.wake_at, self.now)
                self.tell(Woke())
        assert self.issued == self.delivered
        assert self.counted == self.next - 1


TestLink = Link.TestCase
