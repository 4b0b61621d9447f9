"""Which package of a task serves, and what is tried next. (core)

Rules:
1. The active package serves until another one has proved itself in a worker of its own beside it:
   fetched, verified, warmed up, golden outputs right. Only then comes the switch, all at once.
2. The state is saved before anything is done. A restart in the middle begins that step again; every
   effect may be performed twice.
3. A trial's start is counted before it begins: a package that takes the whole device down is tried
   `TRIAL_STARTS` times and then refused.
4. A version that failed its trial, or failed when it had to serve, is never tried again here. One
   that could not be verified is: after `REFUSED_PAUSE_S`, after a restart, or when the gateway asks
   for it anew, since it may have been mended. It is never fetched in a loop.
5. Trouble on the way (no link, gateway busy) is no refusal: try again after full jitter.
6. An active package that fails gives way to the one before it, and that to the factory package,
   where there is one and it has not failed here. With none left it stays: trying it is better than
   serving nothing. Each is given up for good, so two bad ones never take turns.
7. The factory package serves while no other does, without a trial.
8. Reporting never decides anything. What is refused stands in the state until its version serves.
"""

from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from sync.backoff import Backoff, delay_s

TRIAL_STARTS = 2
REFUSED_PAUSE_S = 3600.0
FETCH_AGAIN = Backoff(base_s=1.0, cap_s=60.0)
REFUSALS_KEPT = 8


class Phase(Enum):
    IDLE = "idle"
    FETCHING = "fetching"
    ON_TRIAL = "on_trial"


class Installed(Struct, frozen=True):
    """A verified package on this device's disk."""

    version: str
    digest: str


class Refused(Struct, frozen=True):
    """A version this device will not run."""

    version: str
    code: str
    reason: str
    at: float
    """Wall clock, for people."""
    for_good: bool


class Activation(Struct, frozen=True):
    """One task. All of it is on disk; `retry_at` means nothing after a restart."""

    active: Installed | None = None
    previous: Installed | None = None
    wanted: str = ""
    """The version the gateway asked for last; empty until it has."""
    phase: Phase = Phase.IDLE
    version: str = ""
    """What is being fetched or tried."""
    candidate: Installed | None = None
    starts: int = 0
    failures: int = 0
    retry_at: float = 0.0
    refused: tuple[Refused, ...] = ()
    factory: Installed | None = None
    """What the device was delivered with."""


class AgentStarted(Struct, frozen=True):
    at: float


class VersionDesired(Struct, frozen=True):
    """The gateway wants this version. It says so with every heartbeat."""

    version: str


class Fetched(Struct, frozen=True):
    """Verified and unpacked."""

    version: str
    digest: str


class FetchFailed(Struct, frozen=True):
    """It may work another time."""

    version: str
    chance: float


class FetchRefused(Struct, frozen=True):
    """What came is not what was signed, or cannot be read here."""

    version: str
    code: str
    reason: str
    at: float


class TrialReady(Struct, frozen=True):
    """The worker on trial serves."""

    digest: str


class TrialFailed(Struct, frozen=True):
    """It does not, and has ended."""

    digest: str
    code: str
    reason: str
    at: float


class ActiveFailed(Struct, frozen=True):
    """The active package does not run: its worker said so, or ended again and again."""

    digest: str
    code: str
    reason: str
    at: float


class FactoryFound(Struct, frozen=True):
    """The package the device was delivered with is on the disk; said at every start."""

    package: Installed


class Woke(Struct, frozen=True):
    """The time asked for by `WakeAt` has come."""


Event = (
    AgentStarted
    | VersionDesired
    | Fetched
    | FetchFailed
    | FetchRefused
    | TrialReady
    | TrialFailed
    | ActiveFailed
    | FactoryFound
    | Woke
)


class Serve(Struct, frozen=True):
    """Keep a worker of this package up."""

    package: Installed


class Fetch(Struct, frozen=True):
    """Download, verify, unpack."""

    version: str


class StartTrial(Struct, frozen=True):
    """Start a worker of this package beside the serving one."""

    package: Installed


class StopTrial(Struct, frozen=True):
    """End it; there may be none."""


class Switch(Struct, frozen=True):
    """The worker on trial serves from now on, the old one finishes and leaves."""

    package: Installed


class Keep(Struct, frozen=True):
    """Remove every other package from the disk."""

    digests: tuple[str, ...]


class Report(Struct, frozen=True):
    """The gateway ought to hear of this soon."""


class WakeAt(Struct, frozen=True):
    at: float


Effect = Serve | Fetch | StartTrial | StopTrial | Switch | Keep | Report | WakeAt


class Step(Struct, frozen=True):
    state: Activation
    effects: tuple[Effect, ...] = ()


def step(state: Activation, event: Event, now: float) -> Step:
    """The table."""
    match state.phase, event:
        case _, AgentStarted(at):
            return _started(state, at, now)

        case _, VersionDesired(version) if version == state.wanted:
            return Step(state)
        case phase, VersionDesired(version):
            asked = replace(_pardoned(state, version), wanted=version, failures=0, retry_at=now)
            # A fetch or a trial under way ends first, and then finds itself unwanted.
            return _next(asked, now) if phase is Phase.IDLE else Step(asked)

        case Phase.FETCHING, Fetched(version, digest) if version == state.version:
            if state.wanted != version:
                return _next(_idle(state), now)
            package = Installed(version, digest)
            return Step(
                replace(state, phase=Phase.ON_TRIAL, candidate=package, starts=1, failures=0),
                (StartTrial(package),),
            )
        case Phase.FETCHING, FetchFailed(version, chance) if version == state.version:
            pause = delay_s(FETCH_AGAIN, state.failures, chance)
            return _next(_paused(state, version, pause, now), now)
        case Phase.FETCHING, FetchRefused(version, code, reason, at) if version == state.version:
            refusal = Refused(version, code, reason, at, for_good=False)
            refused = _with(_paused(state, version, REFUSED_PAUSE_S, now), refusal)
            return _next(refused, now, Report())

        case Phase.ON_TRIAL, TrialReady(digest) if _is(state.candidate, digest):
            if state.wanted != state.version or state.candidate is None:
                return _next(_idle(state), now, StopTrial())
            serving = replace(
                _idle(_served(state, state.version)),
                active=state.candidate,
                previous=state.active if state.active != state.candidate else state.previous,
            )
            return _next(serving, now, Switch(state.candidate), _keep(serving), Report())
        case Phase.ON_TRIAL, TrialFailed(digest, code, reason, at) if _is(state.candidate, digest):
            refusal = Refused(state.version, code, reason, at, for_good=True)
            refused = _with(_idle(state), refusal)
            return _next(refused, now, StopTrial(), _keep(refused), Report())

        case _, ActiveFailed(digest, code, reason, at) if state.active is not None and _is(
            state.active, digest
        ):
            failing = state.active
            if any(each.for_good and each.version == failing.version for each in state.refused):
                return Step(state)  # it was the last one, and says so at every start
            state = _with(state, Refused(failing.version, code, reason, at, for_good=True))
            instead = _instead(state, failing)
            if instead is None:
                return Step(state, (Report(),))
            return Step(replace(state, active=instead, previous=None), (Serve(instead), Report()))

        case _, FactoryFound(package):
            state = replace(state, factory=package)
            if state.active is not None:
                return Step(state)
            return Step(replace(state, active=package), (Serve(package), Report()))

        case Phase.IDLE, Woke():
            return _next(state, now)
        case _:
            return Step(state)  # news of a fetch, trial or worker that has been given up


def _started(state: Activation, at: float, now: float) -> Step:
    serve: tuple[Effect, ...] = () if state.active is None else (Serve(state.active),)
    state = replace(state, retry_at=now)
    if state.phase is not Phase.ON_TRIAL or state.candidate is None:
        return _next(_idle(state), now, *serve)
    if state.starts < TRIAL_STARTS:
        again = replace(state, starts=state.starts + 1)
        return Step(again, (*serve, StartTrial(state.candidate)))
    refusal = Refused(
        state.version,
        "trial_cut_off",
        f"the agent ended {state.starts} times while it tried this package",
        at,
        for_good=True,
    )
    return _next(_with(_idle(state), refusal), now, *serve, Report())


def _next(state: Activation, now: float, *effects: Effect) -> Step:
    """Idle: see whether there is something to fetch."""
    if not state.wanted or (state.active and state.active.version == state.wanted):
        return Step(state, effects)
    if any(refusal.for_good and refusal.version == state.wanted for refusal in state.refused):
        return Step(state, effects)
    if now < state.retry_at:
        return Step(state, (*effects, WakeAt(state.retry_at)))
    fetching = replace(state, phase=Phase.FETCHING, version=state.wanted)
    return Step(fetching, (*effects, Fetch(state.wanted)))


def _paused(state: Activation, version: str, pause_s: float, now: float) -> Activation:
    """Not this version for a while; another one that is wanted by now need not wait."""
    if state.wanted != version:
        return _idle(state)
    return replace(_idle(state), failures=state.failures + 1, retry_at=now + pause_s)


def _idle(state: Activation) -> Activation:
    return replace(state, phase=Phase.IDLE, version="", candidate=None, starts=0)


def _is(package: Installed | None, digest: str) -> bool:
    return package is not None and package.digest == digest


def _with(state: Activation, refusal: Refused) -> Activation:
    others = _served(state, refusal.version).refused
    return replace(state, refused=(*others, refusal)[-REFUSALS_KEPT:])


def _served(state: Activation, version: str) -> Activation:
    """This version is refused no longer."""
    left = tuple(refusal for refusal in state.refused if refusal.version != version)
    return replace(state, refused=left)


def _pardoned(state: Activation, version: str) -> Activation:
    """Asked for anew: only what was refused for good stays refused."""
    left = tuple(each for each in state.refused if each.for_good or each.version != version)
    return replace(state, refused=left)


def _instead(state: Activation, failing: Installed) -> Installed | None:
    """What may serve in its place: the one before, else the factory's."""
    given_up = {each.version for each in state.refused if each.for_good}
    for package in (state.previous, state.factory):
        if package is not None and package != failing and package.version not in given_up:
            return package
    return None


def _keep(state: Activation) -> Keep:
    packages = (state.active, state.previous, state.candidate, state.factory)
    return Keep(tuple(dict.fromkeys(one.digest for one in packages if one is not None)))
