"""The hard ledger as conversations, and a machine that cuts its power and turns its clocks."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.cloud.ledger import (
    HOUR_S,
    RETRY_S,
    Asked,
    Effect,
    Event,
    Grant,
    Ledger,
    NotWritten,
    Page,
    Refuse,
    Returned,
    Woke,
    Write,
    Written,
    damaged,
    opened,
    step,
)

LIMIT = 6400


class Conversation:
    def __init__(self, *, page: Page | None = None, boot: str = "a", at: float = 0.0) -> None:
        self.ledger = opened(LIMIT, "bytes", boot, page, at)
        self.page = page

    def hears(self, event: Event, at: float = 0.0) -> tuple[Effect, ...]:
        done = step(self.ledger, event, at)
        self.ledger = done.state
        for effect in done.effects:
            if isinstance(effect, Write):
                self.page = effect.page
        return done.effects


def test_nothing_is_granted_before_it_is_written_and_then_a_share_ahead() -> None:
    told = Conversation()
    (write,) = told.hears(Asked("q1", 60))
    assert isinstance(write, Write)
    assert write.page.spent == 160, "the question's 60, and a share of 100"
    assert told.hears(Written()) == (Grant("q1"),)
    assert told.hears(Asked("q2", 40)) == (Grant("q2"),)
    granted, ahead = told.hears(Asked("q3", 20))
    assert granted == Grant("q3")
    assert isinstance(ahead, Write)
    assert told.ledger.spent == 120


def test_what_is_more_than_is_left_is_refused_at_once() -> None:
    told = Conversation()
    told.hears(Asked("q1", LIMIT - 10))
    assert told.hears(Asked("q2", 11)) == (Refuse("q2"),)
    assert told.hears(Asked("q3", 10)) == ()
    assert told.hears(Written()) == (Grant("q1"), Grant("q3"))
    assert told.ledger.left == 0


def test_a_disk_that_does_not_take_it_refuses_and_is_tried_again_a_little_later() -> None:
    told = Conversation()
    told.hears(Asked("q1", 10))
    assert told.hears(NotWritten()) == (Refuse("q1"),)
    assert told.hears(Asked("q2", 10), at=RETRY_S / 2) == (Refuse("q2"),)
    (write,) = told.hears(Asked("q3", 10), at=RETRY_S)
    assert isinstance(write, Write)


def test_the_next_hour_has_a_whole_budget_and_the_same_minute() -> None:
    told = Conversation()
    told.hears(Asked("q1", LIMIT))
    told.hears(Written())
    assert told.hears(Asked("q2", 1), at=HOUR_S - 1) == (Refuse("q2"),)
    (write,) = told.hears(Asked("q3", 1), at=2.5 * HOUR_S)
    assert isinstance(write, Write)
    assert write.page.began == 2 * HOUR_S


def test_a_page_that_was_under_way_when_the_hour_turned_buys_nothing_in_the_new_one() -> None:
    told = Conversation()
    told.hears(Asked("q1", LIMIT), at=HOUR_S - 1)
    (write,) = told.hears(Written(), at=HOUR_S + 1)
    assert isinstance(write, Write)
    assert (write.page.began, write.page.spent) == (HOUR_S, LIMIT)
    assert told.hears(Written(), at=HOUR_S + 2) == (Grant("q1"),)


def test_a_restart_goes_on_where_the_disk_says_and_gives_nothing_back() -> None:
    told = Conversation()
    told.hears(Asked("q1", 60))
    told.hears(Written())
    again = Conversation(page=told.page, at=100.0)
    assert again.ledger.left == LIMIT - 160
    assert again.ledger.ends == HOUR_S


def test_after_another_boot_the_hour_goes_on_from_where_it_was_written_down() -> None:
    told = Conversation()
    told.hears(Asked("q1", 60), at=1000.0)
    again = Conversation(page=told.page, boot="b", at=5.0)
    assert again.ledger.ends == 5.0 + HOUR_S - 1000.0
    assert again.ledger.left == LIMIT - 160


def test_a_clock_behind_what_is_written_is_no_new_hour() -> None:
    page = Page("a", "bytes", began=90_000.0, at=91_000.0, spent=LIMIT)
    again = Conversation(page=page, at=10.0)
    assert again.ledger.left == 0
    assert again.ledger.ends == 10.0 + HOUR_S - 1000.0


def test_a_device_that_boots_often_gets_its_next_hour_by_what_it_writes_down() -> None:
    page: Page | None = Page("a", "bytes", began=0.0, at=0.0, spent=LIMIT)
    for boot in range(7):
        told = Conversation(page=page, boot=f"b{boot}", at=0.0)
        told.hears(Woke(), at=600.0)
        page = told.page
    assert Conversation(page=page, boot="c").ledger.left == LIMIT


def test_a_damaged_page_is_a_spent_hour() -> None:
    ledger = damaged(LIMIT, "bytes", "a", 50.0)
    assert ledger.left == 0
    assert step(ledger, Asked("q", 1), 51.0).effects == (Refuse("q"),)
    (write,) = step(ledger, Asked("q", 1), 50.0 + HOUR_S).effects
    assert isinstance(write, Write)
    (progress,) = step(ledger, Woke(), 350.0).effects
    assert isinstance(progress, Write)
    assert progress.page.spent == LIMIT


def test_another_unit_is_another_budget() -> None:
    page = Page("a", "money", began=0.0, at=0.0, spent=LIMIT)
    assert Conversation(page=page).ledger.left == LIMIT


def test_what_was_not_used_after_all_is_given_back_within_its_hour_only() -> None:
    told = Conversation()
    told.hears(Asked("q1", LIMIT))
    told.hears(Written())
    assert told.hears(Returned(LIMIT // 2, began=0.0)) == ()
    assert told.ledger.left == LIMIT // 2
    told.hears(Asked("q2", 100), at=HOUR_S)
    told.hears(Written(), at=HOUR_S)
    told.hears(Returned(100, began=0.0), at=HOUR_S)
    assert told.ledger.spent == 100


class AnyDevice(RuleBasedStateMachine):
    """Spends, fails to write, is killed, boots, and its clock begins anew as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.true_s = 0.0
        self.clock_s = 1000.0
        self.boot = 0
        self.page: Page | None = None
        self.granted = 0
        self.used: list[tuple[int, float]] = []
        self.asked: dict[str, int] = {}
        self.ledger: Ledger
        self.writing: Page | None = None
        self.start()

    def start(self) -> None:
        self.ledger = opened(LIMIT, "bytes", f"boot-{self.boot}", self.page, self.clock_s)
        self.writing = None
        self.asked = {}
        self.used = []

    def tell(self, event: Event) -> None:
        done = step(self.ledger, event, self.clock_s)
        self.ledger = done.state
        for effect in done.effects:
            match effect:
                case Grant(id):
                    cost = self.asked.pop(id)
                    self.granted += cost
                    self.used.append((cost // 2, self.ledger.began))
                case Refuse(id):
                    del self.asked[id]
                case Write(page):
                    assert self.writing is None, "one page at a time"
                    self.writing = page

    @rule(cost=st.one_of(st.integers(0, 300), st.integers(0, 2 * LIMIT)))
    def ask(self, cost: int) -> None:
        name = f"q{len(self.asked)}-{self.granted}-{self.true_s}"
        if name not in self.asked:
            self.asked[name] = cost
            self.tell(Asked(name, cost))

    @precondition(lambda self: self.writing is not None)
    @rule()
    def disk_writes(self) -> None:
        self.page, self.writing = self.writing, None
        self.tell(Written())

    @precondition(lambda self: self.writing is not None)
    @rule(whole=st.booleans())
    def disk_fails(self, whole: bool) -> None:
        if whole:  # it was written, and the disk said it was not
            self.page = self.writing
        self.writing = None
        self.tell(NotWritten())

    @rule(seconds=st.one_of(st.floats(0, 600), st.floats(0, 3 * HOUR_S)))
    def time_passes(self, seconds: float) -> None:
        self.true_s += seconds
        self.clock_s += seconds

    @rule()
    def minutes_pass_and_progress_is_written(self) -> None:
        if self.writing is None:
            self.tell(Woke())

    @precondition(lambda self: self.used)
    @rule(place=st.integers(0, 100))
    def some_is_not_used_after_all(self, place: int) -> None:
        units, began = self.used.pop(place % len(self.used))
        self.granted -= units
        self.tell(Returned(units, began))

    @rule(whole=st.booleans())
    def process_dies(self, whole: bool) -> None:
        if whole and self.writing is not None:
            self.page = self.writing
        self.start()

    @rule(off_s=st.floats(0, 10 * HOUR_S), whole=st.booleans(), clock_s=st.floats(0, 1e6))
    def power_is_cut(self, off_s: float, whole: bool, clock_s: float) -> None:
        if whole and self.writing is not None:
            self.page = self.writing
        self.true_s += off_s
        self.clock_s = clock_s
        self.boot += 1
        self.start()

    @invariant()
    def never_more_than_a_budget_for_each_hour_begun(self) -> None:
        assert self.granted <= LIMIT * (self.true_s // HOUR_S + 1)

    @invariant()
    def what_is_granted_in_this_hour_is_written(self) -> None:
        if self.ledger.spent:
            assert self.page is not None
            assert self.page.spent >= self.ledger.spent


AnyDevice.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyDevice = AnyDevice.TestCase
