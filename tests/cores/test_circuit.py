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
    NoReply,
    Pace,
    QuestionStored,
    Replied,
    SendBacklog,
    WakeAt,
    Woke,
    obstacle,
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


def test_silence_is_counted_and_a_reply_between_starts_the_count_anew() -> None:
    state = play(
        (100, Woke(), (Beat(),)),
        (100, BeatReplied(), (SendBacklog(4), WakeAt(110))),
        (100, BacklogTaken(4, 0, more=False), (WakeAt(110),)),
        (103, NoReply(0.5, 100.5), (Beat(),)),
        (103, BeatReplied(), (WakeAt(113),)),
        (104, NoReply(0.5, 103.5), (Beat(),)),
        (104, Replied(question=True), ()),
        (105, NoReply(0.5, 104.5), ()),
    )
    assert state.up
    assert not step(state, NoReply(0.5, 104.5), 106).state.up


def test_what_was_asked_before_the_last_reply_is_not_held_against_the_link() -> None:
    state = play(
        (100, Woke(), (Beat(),)),
        (100, BeatReplied(), (SendBacklog(4), WakeAt(110))),
        (100, BacklogTaken(4, 0, more=False), (WakeAt(110),)),
        (105, Replied(question=True), (WakeAt(110),)),
        (106, NoReply(0.5, 104, question=True), (WakeAt(110),)),
        (106, NoReply(0.5, 104, question=True), (WakeAt(110),)),
        (106, NoReply(0.5, 103), (WakeAt(110),)),
    )
    assert state.up


def test_answered_heartbeats_do_not_hide_that_questions_are_not() -> None:
    play(
        (100, Woke(), (Beat(),)),
        (100, BeatReplied(), (SendBacklog(4), WakeAt(110))),
        (100, BacklogTaken(4, 0, more=False), (WakeAt(110),)),
        (103, NoReply(0.5, 100.5, question=True), (Beat(),)),
        (103, BeatReplied(), (WakeAt(113),)),
        (104, Replied(), (WakeAt(113),)),
        (107, NoReply(0.5, 104.5, question=True), (Beat(),)),
        (107, Replied(), ()),
        (107, BeatReplied(), (WakeAt(117),)),
    )


def test_after_silence_one_question_is_tried_and_a_heartbeat_mends_nothing() -> None:
    tried = play(
        (100, Woke(), (Beat(),)),
        (100, BeatReplied(), (SendBacklog(4), WakeAt(110))),
        (100, BacklogTaken(4, 0, more=False), (WakeAt(110),)),
        (103, NoReply(0.5, 100.5), (Beat(),)),
        (103, NoReply(0.5, 100.5), ()),
        (103, BeatReplied(), (WakeAt(113),)),
        (104, LiveBegan(), (WakeAt(113),)),
        (104, QuestionStored(), (WakeAt(113),)),  # no place in the backlog beside it
    )
    assert tried.up
    assert obstacle(tried, 104, connected=True) == "link_down"
    ended = step(step(tried, NoReply(1.0, 104, question=True), 107).state, LiveEnded(), 107)
    assert not ended.state.up
    assert ended.effects == (WakeAt(108),)
    again = step(step(ended.state, Woke(), 108).state, BeatReplied(), 108)
    assert again.effects == (SendBacklog(1), WakeAt(118))
    worse = step(again.state, NoReply(1.0, 108.5, question=True), 111)
    assert worse.effects == (WakeAt(113),), "down for longer each time"
    mended = step(again.state, Replied(question=True), 109).state
    assert (mended.doubted, mended.trials_failed) == (False, 0)


def test_a_gateway_that_asks_to_be_left_alone_is_not_asked_live_either() -> None:
    state = play(
        (100, Woke(), (Beat(),)),
        (100, BeatReplied(), (SendBacklog(4), WakeAt(110))),
        (100, BacklogTaken(4, 1, more=False), (WakeAt(110),)),
        (100, LiveBegan(), (WakeAt(110),)),
        (101, LiveEnded(asked_s=7), (WakeAt(110),)),
        (101, BacklogEnded(), (WakeAt(108),)),
    )
    assert obstacle(state, 107.9, connected=True) == "overloaded"
    assert obstacle(state, 108, connected=True) == ""
    assert obstacle(state, 108, connected=False) == "link_down"


def test_a_refused_heartbeat_waits_as_long_as_it_is_asked_to() -> None:
    play((100, Woke(), (Beat(),)), (100, BeatReplied(asked_s=60), (SendBacklog(4), WakeAt(160))))


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
            self.tell(Replied(question=True) if replied else ExchangeFailed())
            if not replied:
                self.standing += 1
                self.tell(QuestionStored())

    @rule(replied=st.booleans())
    def a_backlog_question_ends(self, replied: bool) -> None:
        if self.sent:
            self.sent -= 1
            if not replied:
                self.standing += 1
            self.tell(Replied(question=True) if replied else ExchangeFailed())
            self.tell(BacklogEnded(busy_s=0.0 if replied else 1.0))

    @rule(chance=st.floats(0, 1, exclude_max=True))
    def silence(self, chance: float) -> None:
        self.tell(NoReply(chance, self.now))

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
        while self.live:
            self.a_live_question_ends(replied=True)
        for _ in range(50):
            self.time_passes(10.0)
            self.heartbeat_ends(replied=True, chance=0.5)
            while self.sent:
                self.a_backlog_question_ends(replied=True)
        assert self.standing == 0


TestCircuits = Circuits.TestCase
