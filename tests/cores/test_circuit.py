"""The pace of a device on its link: heartbeats, probes, backlog."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent.cloud.circuit import (
    BacklogEnded,
    BacklogTaken,
    Beat,
    BeatFailed,
    BeatReplied,
    Circuit,
    Effect,
    Event,
    ExchangeFailed,
    LiveBegan,
    LiveEnded,
    NewsCame,
    Pace,
    QuestionStored,
    Replied,
    SendBacklog,
    WakeAt,
    Woke,
    step,
)
from sync.backoff import Backoff

PACE = Pace(beat_s=10, probe=Backoff(base_s=1, cap_s=4), window=4)


def play(*lines: tuple[float, Event, tuple[Effect, ...]]) -> Circuit:
    """Each moment, its event, and the effects it must have."""
    state = Circuit(pace=PACE)
    for now, event, expected in lines:
        taken = step(state, event, now)
        assert taken.effects == expected, (now, event)
        state = taken.state
    return state


def test_the_first_heartbeat_brings_the_link_up_and_the_backlog_out() -> None:
    play(
        (100, Woke(), (Beat(),)),
        (101, BeatReplied(), (SendBacklog(4), WakeAt(111))),
        (101, BacklogTaken(4, 1, more=False), (WakeAt(111),)),
        (102, BacklogEnded(), (SendBacklog(4), WakeAt(111))),
        (102, BacklogTaken(4, 0, more=False), (WakeAt(111),)),
        (111, Woke(), (Beat(),)),
    )


def test_a_failure_brings_it_down_and_probes_more_rarely_the_longer_it_lasts() -> None:
    up = (
        (100, Woke(), (Beat(),)),
        (100, BeatReplied(), (SendBacklog(4), WakeAt(110))),
        (100, BacklogTaken(4, 0, more=False), (WakeAt(110),)),
    )
    down = play(
        *up,
        (103, ExchangeFailed(), (Beat(),)),
        (103, ExchangeFailed(), ()),
        (106, BeatFailed(1.0), (WakeAt(107),)),
        (107, Woke(), (Beat(),)),
        (128, BeatFailed(1.0), (WakeAt(130),)),
        (129, QuestionStored(), (WakeAt(130),)),
        (130, Woke(), (Beat(),)),
        (130, BeatReplied(), (SendBacklog(4), WakeAt(140))),
    )
    assert down.up
    assert down.down_since is None


def test_live_questions_go_before_the_backlog_which_never_starves() -> None:
    play(
        (100, Woke(), (Beat(),)),
        (100, LiveBegan(), ()),
        (100, LiveBegan(), ()),
        (100, BeatReplied(), (SendBacklog(2), WakeAt(110))),
        (100, BacklogTaken(2, 2, more=True), (WakeAt(110),)),
        (101, LiveBegan(), (WakeAt(110),)),
        (101, BacklogEnded(), (WakeAt(110),)),
        (101, LiveBegan(), (WakeAt(110),)),
        (101, BacklogEnded(), (SendBacklog(1), WakeAt(110))),
        (101, BacklogTaken(1, 1, more=True), (WakeAt(110),)),
        (102, LiveEnded(), (WakeAt(110),)),
        (102, LiveEnded(), (SendBacklog(1), WakeAt(110))),
    )


def test_a_busy_gateway_is_left_alone_as_long_as_it_asks() -> None:
    play(
        (100, Woke(), (Beat(),)),
        (100, BeatReplied(), (SendBacklog(4), WakeAt(110))),
        (100, BacklogTaken(4, 1, more=False), (WakeAt(110),)),
        (100, BacklogEnded(busy_s=5), (WakeAt(105),)),
        (105, Woke(), (SendBacklog(4), WakeAt(110))),
    )


def test_news_is_worth_a_heartbeat_and_another_when_one_is_under_way() -> None:
    play(
        (100, Woke(), (Beat(),)),
        (100, NewsCame(), ()),
        (101, BeatReplied(), (Beat(), SendBacklog(4))),
        (101, BacklogTaken(4, 0, more=False), ()),
        (102, BeatReplied(), (WakeAt(112),)),
        (103, NewsCame(), (Beat(),)),
    )


class Circuits(RuleBasedStateMachine):
    """A gateway that answers or not, a backlog of some size, live questions now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = Circuit(pace=PACE)
        self.wake = float("inf")
        self.beats = 0
        self.live = 0
        self.standing = 3
        self.sent = 0
        self.tell(Woke())

    def tell(self, event: Event) -> None:
        taken = step(self.state, event, self.now)
        self.state = taken.state
        for effect in taken.effects:
            match effect:
                case Beat():
                    self.beats += 1
                case SendBacklog(places):
                    assert self.state.up, "nothing is sent while down"
                    assert self.sent + places <= max(1, PACE.window - self.live)
                    used = min(places, self.standing)
                    self.standing -= used
                    self.sent += used
                    self.tell(BacklogTaken(places, used, more=self.standing > 0))
                case WakeAt(at):
                    self.wake = at

    @rule(replied=st.booleans(), chance=st.floats(0, 1, exclude_max=True))
    def heartbeat_ends(self, replied: bool, chance: float) -> None:
        if self.beats:
            self.beats -= 1
            self.tell(BeatReplied() if replied else BeatFailed(chance))

    @rule()
    def a_live_question_begins(self) -> None:
        self.live += 1
        self.tell(LiveBegan())

    @rule(replied=st.booleans())
    def a_live_question_ends(self, replied: bool) -> None:
        if self.live:
            self.live -= 1
            self.tell(LiveEnded())
            self.tell(Replied() if replied else ExchangeFailed())
            if not replied:
                self.standing += 1
                self.tell(QuestionStored())

    @rule(replied=st.booleans())
    def a_backlog_question_ends(self, replied: bool) -> None:
        if self.sent:
            self.sent -= 1
            if not replied:
                self.standing += 1
            self.tell(Replied() if replied else ExchangeFailed())
            self.tell(BacklogEnded(busy_s=0.0 if replied else 1.0))

    @rule()
    def news(self) -> None:
        self.tell(NewsCame())

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.wake:
            self.wake = float("inf")
            self.tell(Woke())

    @invariant()
    def one_heartbeat_at_a_time(self) -> None:
        assert self.beats <= 1

    @invariant()
    def somebody_will_speak_again(self) -> None:
        assert self.beats or self.wake < float("inf")

    def teardown(self) -> None:
        """Left in peace, the backlog drains."""
        for _ in range(50):
            self.time_passes(10.0)
            self.heartbeat_ends(replied=True, chance=0.5)
            while self.sent:
                self.a_backlog_question_ends(replied=True)
        assert self.standing == 0


TestCircuits = Circuits.TestCase
