"""Which of two ways is used: the playbook of a broker's port that is blocked, and worse."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sync.backoff import Backoff
from sync.transport.failover import (
    Answered,
    AnsweredAllTheSame,
    Effect,
    Event,
    Failover,
    NotAnswered,
    NotConnected,
    Opened,
    Policy,
    Probe,
    ProbeAnswered,
    ProbeFailed,
    Use,
    WakeAt,
    Way,
    Woke,
    may_ask_twice,
    step,
)

FIRST, SECOND = Way.PREFERRED, Way.OTHER
POLICY = Policy(probe=Backoff(base_s=1, cap_s=4), hold_s=8, longest_hold_s=32, steady_s=60)


def play(
    *lines: tuple[float, Event, tuple[Effect, ...]], state: Failover | None = None
) -> Failover:
    """Each moment, its event, and the effects it must have."""
    now_is = state or Failover(policy=POLICY)
    for now, event, expected in lines:
        taken = step(now_is, event, now)
        assert taken.effects == expected, (now, event)
        now_is = taken.state
    return now_is


def test_a_way_without_connection_is_left_at_once_and_taken_again_when_it_has_held() -> None:
    play(
        (100, Opened(), ()),
        (110, Answered(FIRST), ()),
        (120, NotConnected(FIRST, 1.0), (Use(SECOND), WakeAt(121))),
        (120, Answered(SECOND), (WakeAt(121),)),
        (121, Woke(), (Probe(),)),
        (121, ProbeFailed(1.0), (WakeAt(123),)),
        (123, Woke(), (Probe(),)),
        (123, ProbeFailed(1.0), (WakeAt(127),)),
        (127, Woke(), (Probe(),)),
        (127, ProbeAnswered(), (WakeAt(129),)),
        (129, Woke(), (Probe(),)),
        (129, ProbeFailed(1.0), (WakeAt(130),)),  # it has not held
        (130, Woke(), (Probe(),)),
        (130, ProbeAnswered(), (WakeAt(132),)),
        (132, Woke(), (Probe(),)),
        (134, ProbeAnswered(), (WakeAt(136),)),
        (136, Woke(), (Probe(),)),
        (138, ProbeAnswered(), (Use(FIRST),)),
    )


def test_a_broker_that_takes_in_and_never_answers_is_left_after_the_second() -> None:
    play(
        (100, Opened(), ()),
        (110, NotAnswered(FIRST, 1.0), ()),
        (111, Answered(FIRST), ()),
        (112, NotAnswered(FIRST, 1.0), ()),
        (113, NotAnswered(FIRST, 1.0), (Use(SECOND), WakeAt(114))),
    )


def test_just_after_the_start_a_missing_connection_is_no_failure() -> None:
    play(
        (100, Opened(), ()),
        (100, NotConnected(FIRST, 0.5), ()),
        (102, NotConnected(FIRST, 0.5), ()),
        (103, NotConnected(FIRST, 1.0), (Use(SECOND), WakeAt(104))),
    )


def test_where_both_fail_the_preferred_one_is_used() -> None:
    away = play(
        (100, Opened(), ()),
        (110, NotConnected(FIRST, 1.0), (Use(SECOND), WakeAt(111))),
        (110.5, NotConnected(SECOND, 1.0), (Use(FIRST),)),
        (111, NotConnected(FIRST, 1.0), ()),
        (111, NotConnected(SECOND, 1.0), ()),
        (112, NotConnected(FIRST, 1.0), ()),
    )
    play(
        (113, Answered(SECOND), ()),
        (113, NotConnected(FIRST, 1.0), (Use(SECOND), WakeAt(114))),
        state=away,
    )


def test_a_way_that_fails_again_soon_has_to_hold_twice_as_long() -> None:
    state = Failover(policy=POLICY)
    now = 100.0
    for hold_s in (8, 16, 32):
        state = step(state, NotConnected(FIRST, 1.0), now).state
        assert (state.using, state.hold_s) == (SECOND, hold_s)
        began = now
        while state.using is SECOND:
            state = step(state, ProbeAnswered(), now).state
            now += 1
        assert now - began >= hold_s
    later = now + POLICY.steady_s
    assert step(state, NotConnected(FIRST, 1.0), later).state.hold_s == 8


def test_a_question_is_asked_twice_unless_the_other_way_failed_or_it_was_for_nothing() -> None:
    state = Failover(policy=POLICY)
    assert may_ask_twice(state, FIRST, 100)
    failed = step(state, NotConnected(SECOND, 0.5), 100).state
    assert not may_ask_twice(failed, FIRST, 101)
    assert may_ask_twice(failed, FIRST, 100 + POLICY.forget_s)
    slow = step(state, AnsweredAllTheSame(FIRST), 100).state
    assert not may_ask_twice(slow, FIRST, 101)
    assert may_ask_twice(slow, FIRST, 100 + POLICY.single_s)


class Ways(RuleBasedStateMachine):
    """Two ways that come and go; questions and probes meet them as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.up = {FIRST: True, SECOND: True}
        self.state = Failover(policy=POLICY)
        self.wake = float("inf")
        self.probing = False
        self.tell(Opened())

    def tell(self, event: Event) -> None:
        taken = step(self.state, event, self.now)
        self.state = taken.state
        for effect in taken.effects:
            match effect:
                case Probe():
                    assert not self.probing, "one probe at a time"
                    assert self.state.using is SECOND, "the way in use needs no probe"
                    self.probing = True
                case WakeAt(at):
                    assert at > self.now, "no spinning"
                    self.wake = at
                case Use():
                    pass

    @rule(way=st.sampled_from(Way), up=st.booleans())
    def weather(self, way: Way, up: bool) -> None:
        self.up[way] = up

    @rule(silent=st.booleans(), chance=st.floats(0, 1, exclude_max=True))
    def a_question(self, silent: bool, chance: float) -> None:
        using = self.state.using
        other = SECOND if using is FIRST else FIRST
        for way in (using, other):
            if self.up[way]:
                self.tell(Answered(way))
                return
            self.tell(NotAnswered(way, chance) if silent else NotConnected(way, chance))

    @rule(chance=st.floats(0, 1, exclude_max=True))
    def a_probe_ends(self, chance: float) -> None:
        if self.probing:
            self.probing = False
            self.tell(ProbeAnswered() if self.up[FIRST] else ProbeFailed(chance))

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.wake:
            self.wake = float("inf")
            self.tell(Woke())

    @invariant()
    def away_from_the_preferred_way_somebody_will_look_after_it(self) -> None:
        if self.state.using is SECOND:
            assert self.probing or self.wake < float("inf")

    def teardown(self) -> None:
        """Left in peace, the preferred way is used; while it is down, the other."""
        self.up = {FIRST: True, SECOND: True}
        for _ in range(60):
            self.time_passes(1.0)
            self.a_probe_ends(0.5)
            self.a_question(False, 0.5)
        assert self.state.using is FIRST
        self.up[FIRST] = False
        self.now += 100
        for _ in range(3):
            self.a_question(False, 0.5)
        assert self.state.using is SECOND


TestWays = Ways.TestCase
