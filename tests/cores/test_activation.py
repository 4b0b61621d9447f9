"""Playbooks of one task's packages, and a machine that cuts the power after every save."""

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.update.activation import (
    FETCH_AGAIN,
    REFUSED_PAUSE_S,
    Activation,
    ActiveFailed,
    AgentStarted,
    Effect,
    Event,
    FactoryFound,
    Fetch,
    Fetched,
    FetchFailed,
    FetchRefused,
    Installed,
    Keep,
    Phase,
    Report,
    Serve,
    StartTrial,
    StopTrial,
    Switch,
    TrialFailed,
    TrialReady,
    VersionDesired,
    WakeAt,
    Woke,
    step,
)

ONE = Installed("1.0.0", "d1")
TWO = Installed("2.0.0", "d2")
SERVING_ONE = Activation(active=ONE, wanted="1.0.0")


def play(
    state: Activation, *lines: tuple[Event, tuple[Effect, ...]], now: float = 100.0
) -> Activation:
    """Each event, and the effects it must have."""
    for event, expected in lines:
        taken = step(state, event, now)
        assert taken.effects == expected, event
        state = taken.state
    return state


def test_a_fresh_device_waits_for_its_first_package_and_then_serves_it() -> None:
    end = play(
        Activation(),
        (AgentStarted(0), ()),
        (VersionDesired("1.0.0"), (Fetch("1.0.0"),)),
        (VersionDesired("1.0.0"), ()),
        (Fetched("1.0.0", "d1"), (StartTrial(ONE),)),
        (TrialReady("d1"), (Switch(ONE), Keep(("d1",)), Report())),
        (VersionDesired("1.0.0"), ()),
    )
    assert end.active == ONE


def test_the_old_version_serves_until_the_new_one_has_proved_itself() -> None:
    end = play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (Fetched("2.0.0", "d2"), (StartTrial(TWO),)),
        (TrialReady("d2"), (Switch(TWO), Keep(("d2", "d1")), Report())),
    )
    assert (end.active, end.previous) == (TWO, ONE)


def test_a_wrong_signature_is_reported_once_and_not_fetched_in_a_loop() -> None:
    why = FetchRefused("2.0.0", "signature_invalid", "signed by nobody we know", at=7)
    refused = play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (why, (Report(), WakeAt(100 + REFUSED_PAUSE_S))),
        (VersionDesired("2.0.0"), ()),
        (VersionDesired("2.0.0"), ()),
        (Woke(), (WakeAt(100 + REFUSED_PAUSE_S),)),
    )
    assert refused.active == ONE
    assert [each.code for each in refused.refused] == ["signature_invalid"]
    assert step(refused, Woke(), 100 + REFUSED_PAUSE_S).effects == (Fetch("2.0.0"),)


def test_a_refused_version_is_tried_again_when_the_gateway_asks_for_it_anew() -> None:
    end = play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (
            FetchRefused("2.0.0", "hash_mismatch", "", at=7),
            (Report(), WakeAt(100 + REFUSED_PAUSE_S)),
        ),
        (VersionDesired("1.0.0"), ()),
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (Fetched("2.0.0", "d2"), (StartTrial(TWO),)),
        (TrialReady("d2"), (Switch(TWO), Keep(("d2", "d1")), Report())),
    )
    assert end.refused == ()


def test_a_version_that_failed_its_trial_is_never_tried_again() -> None:
    play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (Fetched("2.0.0", "d2"), (StartTrial(TWO),)),
        (TrialFailed("d2", "golden_mismatch", "", at=7), (StopTrial(), Keep(("d1",)), Report())),
        (VersionDesired("1.0.0"), ()),
        (VersionDesired("2.0.0"), ()),
        (AgentStarted(8), (Serve(ONE),)),
    )


def test_a_broken_link_delays_the_fetch_with_growing_pauses() -> None:
    first = 100 + FETCH_AGAIN.base_s
    waiting = play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (FetchFailed("2.0.0", chance=1.0), (WakeAt(first),)),
    )
    again = step(waiting, Woke(), first)
    assert again.effects == (Fetch("2.0.0"),)
    failed = step(again.state, FetchFailed("2.0.0", chance=1.0), first)
    assert failed.effects == (WakeAt(first + 2 * FETCH_AGAIN.base_s),)


def test_a_change_of_mind_during_a_trial_ends_it() -> None:
    end = play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (Fetched("2.0.0", "d2"), (StartTrial(TWO),)),
        (VersionDesired("1.0.0"), ()),
        (TrialReady("d2"), (StopTrial(),)),
    )
    assert end.active == ONE


def test_a_change_of_mind_during_a_fetch_fetches_the_other_version_next() -> None:
    play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (VersionDesired("3.0.0"), ()),
        (Fetched("2.0.0", "d2"), (Fetch("3.0.0"),)),
        (Fetched("2.0.0", "d2"), ()),
    )


def test_a_package_that_takes_the_device_down_is_tried_twice_and_refused() -> None:
    end = play(
        SERVING_ONE,
        (VersionDesired("2.0.0"), (Fetch("2.0.0"),)),
        (Fetched("2.0.0", "d2"), (StartTrial(TWO),)),
        (AgentStarted(1), (Serve(ONE), StartTrial(TWO))),
        (AgentStarted(2), (Serve(ONE), Report())),
        (AgentStarted(3), (Serve(ONE),)),
    )
    assert [(each.code, each.at) for each in end.refused] == [("trial_cut_off", 2)]


def test_an_active_package_that_does_not_run_gives_way_to_the_one_before() -> None:
    why = ActiveFailed("d2", "hash_mismatch", "a bit has turned", at=7)
    fallen = play(
        Activation(active=TWO, previous=ONE, wanted="2.0.0"),
        (why, (Serve(ONE), Report())),
        (why, ()),
        (VersionDesired("2.0.0"), ()),
    )
    assert fallen.active == ONE
    last = play(fallen, (ActiveFailed("d1", "hash_mismatch", "", at=8), (Report(),)))
    assert last.active == ONE
    assert step(last, ActiveFailed("d1", "hash_mismatch", "", at=9), 100).effects == ()


FACTORY = Installed("0.1.0", "d0")


def test_the_factory_package_serves_until_another_has_proved_itself() -> None:
    end = play(
        Activation(),
        (AgentStarted(0), ()),
        (FactoryFound(FACTORY), (Serve(FACTORY), Report())),
        (FactoryFound(FACTORY), ()),
        (VersionDesired("1.0.0"), (Fetch("1.0.0"),)),
        (Fetched("1.0.0", "d1"), (StartTrial(ONE),)),
        (TrialReady("d1"), (Switch(ONE), Keep(("d1", "d0")), Report())),
    )
    assert (end.active, end.previous, end.factory) == (ONE, FACTORY, FACTORY)


def test_what_loops_gives_way_to_the_one_before_and_that_to_the_factorys() -> None:
    end = play(
        Activation(active=TWO, previous=ONE, factory=FACTORY, wanted="2.0.0"),
        (ActiveFailed("d2", "crash_loop", "", at=7), (Serve(ONE), Report())),
        (ActiveFailed("d1", "crash_loop", "", at=8), (Serve(FACTORY), Report())),
        (ActiveFailed("d0", "crash_loop", "", at=9), (Report(),)),
        (ActiveFailed("d0", "crash_loop", "", at=10), ()),
        (VersionDesired("2.0.0"), ()),
        (AgentStarted(11), (Serve(FACTORY),)),
    )
    assert end.active == FACTORY
    assert {each.version for each in end.refused} == {"2.0.0", "1.0.0", "0.1.0"}


def test_a_factory_package_that_failed_is_no_way_out() -> None:
    fallen = play(
        Activation(active=FACTORY, factory=FACTORY),
        (ActiveFailed("d0", "crash_loop", "", at=7), (Report(),)),
        (VersionDesired("1.0.0"), (Fetch("1.0.0"),)),
        (Fetched("1.0.0", "d1"), (StartTrial(ONE),)),
        (TrialReady("d1"), (Switch(ONE), Keep(("d1", "d0")), Report())),
        (ActiveFailed("d1", "crash_loop", "", at=8), (Report(),)),
    )
    assert fallen.active == ONE


GOOD = {"1.0.0", "2.0.0", "5.0.0"}
UNVERIFIABLE = {"3.0.0"}
FAILS_TRIAL = {"4.0.0"}
VERSIONS = sorted(GOOD | UNVERIFIABLE | FAILS_TRIAL)
_saved = msgspec.json.Decoder(Activation)


class Activations(RuleBasedStateMachine):
    """A disk, a gateway with good and bad versions, workers. Power fails after the save."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.disk = msgspec.json.encode(Activation())
        self.packages: set[str] = set()
        self.proved: set[str] = set()
        self.failed_trial: set[str] = set()
        self.fetches: list[tuple[float, str]] = []
        self.boots = 0
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.state = _saved.decode(self.disk)
        self.serving: str | None = None
        self.trial: str | None = None
        self.fetching: str | None = None
        self.fuse: int | None = None
        self.tell(AgentStarted(self.now))

    def tell(self, event: Event) -> None:
        taken = step(self.state, event, self.now)
        self.state = taken.state
        self.disk = msgspec.json.encode(self.state)
        for effect in taken.effects:
            if self.fuse == 0:
                self.boot()
                return
            if self.fuse is not None:
                self.fuse -= 1
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        match effect:
            case Serve(package):
                assert package.digest in self.packages, "what serves is on the disk"
                self.serving = package.digest
            case Fetch(version):
                assert version not in self.failed_trial
                self.fetching = version
                self.fetches.append((self.now, version))
            case StartTrial(package):
                assert package.digest in self.packages
                self.trial = package.digest
            case StopTrial():
                self.trial = None
            case Switch(package):
                assert self.trial == package.digest, "only what runs beside can take over"
                self.serving, self.trial = package.digest, None
            case Keep(digests):
                self.packages &= set(digests)
            case Report() | WakeAt():
                pass

    @rule(effects=st.integers(0, 2))
    def power_will_fail(self, effects: int) -> None:
        self.fuse = effects

    @rule()
    def power_fails(self) -> None:
        self.boot()

    @rule(version=st.sampled_from(VERSIONS))
    def the_gateway_wants(self, version: str) -> None:
        self.tell(VersionDesired(version))

    @precondition(lambda self: self.fetching)
    @rule(link=st.booleans())
    def a_fetch_ends(self, link: bool) -> None:
        version, self.fetching = self.fetching, None
        assert version is not None
        if not link:
            self.tell(FetchFailed(version, 0.5))
        elif version in UNVERIFIABLE:
            self.tell(FetchRefused(version, "hash_mismatch", "", self.now))
        else:
            self.packages.add(version)  # a digest of its own for each version
            self.tell(Fetched(version, version))

    @precondition(lambda self: self.trial)
    @rule()
    def a_trial_ends(self) -> None:
        digest = self.trial
        assert digest is not None
        if digest in FAILS_TRIAL:
            self.failed_trial.add(digest)
            self.tell(TrialFailed(digest, "golden_mismatch", "", self.now))
        else:
            self.proved.add(digest)
            self.tell(TrialReady(digest))

    @precondition(lambda self: self.serving)
    @rule()
    def the_active_package_breaks(self) -> None:
        assert self.serving is not None
        self.tell(ActiveFailed(self.serving, "hash_mismatch", "", self.now))

    @rule()
    def the_factory_package_is_there(self) -> None:
        self.packages.add("d0")
        self.proved.add("d0")  # with the agent itself
        self.tell(FactoryFound(FACTORY))

    @rule(seconds=st.sampled_from([1.0, 60.0, REFUSED_PAUSE_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Woke())

    @invariant()
    def the_active_package_is_proved_and_on_the_disk(self) -> None:
        saved = _saved.decode(self.disk)
        for package in (saved.active, saved.previous):
            if package is not None:
                assert package.digest in self.proved
                assert package.digest in self.packages

    @invariant()
    def a_device_that_has_served_goes_on_serving(self) -> None:
        active = self.state.active
        assert self.serving == (active.digest if active else None)

    def teardown(self) -> None:
        """Asked for a good version and left in peace, it ends up serving it."""
        self.the_gateway_wants("5.0.0")
        if any(each.version == "5.0.0" and each.for_good for each in self.state.refused):
            return
        for _ in range(20):
            self.time_passes(60.0)
            if self.fetching:
                self.a_fetch_ends(link=True)
            if self.trial:
                self.a_trial_ends()
        assert self.state.active is not None
        assert self.state.active.version == "5.0.0"
        assert self.state.phase is Phase.IDLE


TestActivations = Activations.TestCase
