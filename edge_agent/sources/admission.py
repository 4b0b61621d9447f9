"""Which inputs of a source are answered, when, and what becomes of the others. (core)

Rules, each to be found again below:
1. Every input a source offers has a number, in the order they come, and one fate: it waits, it is
   being answered, it was answered, or it was skipped for one reason.
2. An input too much like the last one admitted is skipped (`near_duplicate`), unless nothing was
   admitted for `answer_every_s`: something is answered at least that often.
3. Never more than `burst + per_second * t` inputs are admitted in any `t` seconds where the source
   is live, or begin to be answered where it is not.
4. A live source cannot wait. Above its rate it is skipped at the door (`rate_limited`); where the
   backlog is full the oldest makes room (`backlog_full`), since the newest says most; what waits
   when the source ends is skipped (`stopped`).
5. Any other source is made to wait: it offers only while there is `room`, its inputs begin when the
   rate allows, and what waits when it ends stays where it lies, to be offered again.
6. A device that was too busy for an input has said nothing about it: a live one is skipped
   (`overloaded`), any other begins again after `AGAIN_S`.
7. Skipped inputs are reported as runs: inputs in a row with the same reason. A run ends when its
   row ends, after `REPORT_S`, and with the source. Between the first and the last id of a run lies
   no input of another fate; where ids do not count up a run has at most two, so each is named.
"""

from msgspec import Struct
from msgspec.structs import replace

REPORT_S = 5.0
AGAIN_S = 0.5
LONGEST_RUN = 10_000


class Policy(Struct, frozen=True):
    """What a source is held to. Zero stands for no limit."""

    per_second: float = 0.0
    burst: int = 1
    backlog: int = 8
    at_once: int = 1
    """Answered at the same time."""
    same_below: float = 0.0
    """A difference below this is none; 0 looks at none."""
    answer_every_s: float = 60.0
    live: bool = False
    counted: bool = False
    """Its ids count up, so that two of them name all between."""


class Input(Struct, frozen=True):
    """One input that has been offered."""

    number: int
    id: str


class Run(Struct, frozen=True):
    """Skipped inputs in a row that have not been reported yet."""

    reason: str
    first: Input
    last: Input
    since: float

    @property
    def count(self) -> int:
        return self.last.number - self.first.number + 1


class Admission(Struct, frozen=True):
    """One source."""

    policy: Policy
    offered: int = 0
    """Inputs so far, and so the number of the next."""
    tokens: float | None = None
    """Inputs that may begin now; None before the first event."""
    tokens_at: float = 0.0
    admitted_at: float | None = None
    waiting: tuple[Input, ...] = ()
    begun: tuple[Input, ...] = ()
    runs: tuple[Run, ...] = ()
    again_at: float = 0.0
    stopped: bool = False


class Offered(Struct, frozen=True):
    """An input came. `difference` from the last one admitted; None where there is none to tell."""

    id: str
    difference: float | None = None


class LeftOut(Struct, frozen=True):
    """The source itself cannot use what came, for this reason."""

    id: str
    reason: str


class Answered(Struct, frozen=True):
    """An input that had begun was answered."""

    number: int


class Refused(Struct, frozen=True):
    """An input that had begun will have no answer, for this reason."""

    number: int
    reason: str


class Overloaded(Struct, frozen=True):
    """The device had no time for an input that had begun."""

    number: int


class CutOff(Struct, frozen=True):
    """The source ended before an input that had begun was answered."""

    number: int


class Woke(Struct, frozen=True):
    """The time asked for by `WakeAt` has come, or nearly."""


class Stopped(Struct, frozen=True):
    """The source ends; what has begun will still be told of."""


Event = Offered | LeftOut | Answered | Refused | Overloaded | CutOff | Woke | Stopped


class Admit(Struct, frozen=True):
    """This input waits now, and is what the next is compared with."""

    number: int


class Begin(Struct, frozen=True):
    """Have this input answered."""

    number: int


class Leave(Struct, frozen=True):
    """This input is skipped."""

    number: int
    reason: str


class Report(Struct, frozen=True):
    """Write down a run of skipped inputs."""

    reason: str
    count: int
    first_id: str
    last_id: str


class WakeAt(Struct, frozen=True):
    """Say `Woke` at this moment; it takes the place of an earlier one."""

    at: float


Effect = Admit | Begin | Leave | Report | WakeAt


class Step(Struct, frozen=True):
    state: Admission
    effects: tuple[Effect, ...] = ()


def room(state: Admission) -> int:
    """How many inputs a source that can wait may offer now."""
    return 0 if state.stopped else max(0, state.policy.backlog - len(state.waiting))


def step(state: Admission, event: Event, now: float) -> Step:
    done = Step(_refilled(state, now))
    match event:
        case Offered(name, difference):
            done = _offered(done, Input(state.offered, name), difference, now)
        case LeftOut(name, reason):
            came = Input(state.offered, name)
            done = _skipped(_counted(done), came, reason, now)
        case Answered(number):
            done, _ = _ended(done, number)
        case Refused(number, reason):
            done, ended = _ended(done, number)
            done = done if ended is None else _skipped(done, ended, reason, now)
        case Overloaded(number):
            done = _not_done(done, number, "overloaded", now)
        case CutOff(number):
            done = _not_done(done, number, "stopped", now)
        case Stopped():
            done = _stopped(done, now)
        case Woke():
            pass  # what was due is done below, whatever happened
    return _woken(_reported(_begun(done, now), now), now)


def _offered(done: Step, came: Input, difference: float | None, now: float) -> Step:
    policy, done = done.state.policy, _counted(done)
    if done.state.stopped:
        return _skipped(done, came, "stopped", now)  # Rule 4; no other source offers any more.
    if _is_same(done.state, difference, now):
        return _skipped(done, came, "near_duplicate", now)  # Rule 2.
    if policy.live:
        if not _may_begin(done.state):
            return _skipped(done, came, "rate_limited", now)
        done = Step(_paid(done.state), done.effects)
        if len(done.state.waiting) >= policy.backlog and not _is_free(done.state):
            oldest, *others = done.state.waiting
            done = Step(replace(done.state, waiting=tuple(others)), done.effects)
            done = _skipped(done, oldest, "backlog_full", now)
    state = replace(done.state, waiting=(*done.state.waiting, came), admitted_at=now)
    return Step(state, (*done.effects, Admit(came.number)))


def _not_done(done: Step, number: int, reason: str, now: float) -> Step:
    """Rules 4 to 6."""
    done, ended = _ended(done, number)
    if ended is None:
        return done
    if done.state.policy.live:
        return _skipped(done, ended, reason, now)
    waiting = tuple(sorted((ended, *done.state.waiting), key=lambda one: one.number))
    return Step(replace(done.state, waiting=waiting, again_at=now + AGAIN_S), done.effects)


def _stopped(done: Step, now: float) -> Step:
    state = replace(done.state, stopped=True)
    if not state.policy.live:
        return Step(state, done.effects)
    done = Step(replace(state, waiting=()), done.effects)
    for one in state.waiting:
        done = _skipped(done, one, "stopped", now)
    return done


def _begun(done: Step, now: float) -> Step:
    """Rules 3 and 5: as many as may begin, in their order."""
    state, effects = done.state, list(done.effects)
    while state.waiting and not state.stopped and now >= state.again_at and _is_free(state):
        if not state.policy.live:
            if not _may_begin(state):
                break
            state = _paid(state)
        first, *others = state.waiting
        state = replace(state, waiting=tuple(others), begun=(*state.begun, first))
        effects.append(Begin(first.number))
    return Step(state, tuple(effects))


def _skipped(done: Step, one: Input, reason: str, now: float) -> Step:
    """Rule 7."""
    state = done.state
    before = next((run for run in state.runs if run.reason == reason), None)
    others = tuple(run for run in state.runs if run.reason != reason)
    effects: tuple[Effect, ...] = (*done.effects, Leave(one.number, reason))
    longest = LONGEST_RUN if state.policy.counted else 2
    if before is not None and before.last.number + 1 == one.number and before.count < longest:
        run = replace(before, last=one)
    else:
        run = Run(reason, one, one, now)
        if before is not None:
            effects = (*effects, _report(before))
    return Step(replace(state, runs=(*others, run)), effects)


def _reported(done: Step, now: float) -> Step:
    state = done.state
    due = [run for run in state.runs if state.stopped or now >= run.since + REPORT_S]
    left = tuple(run for run in state.runs if run not in due)
    return Step(replace(state, runs=left), (*done.effects, *map(_report, due)))


def _woken(done: Step, now: float) -> Step:
    state = done.state
    times = [run.since + REPORT_S for run in state.runs]
    if state.waiting and not state.stopped and _is_free(state):
        lacking = 0.0 if state.policy.live else max(0.0, 1.0 - (state.tokens or 0.0))
        wait_s = lacking / state.policy.per_second if state.policy.per_second else 0.0
        times.append(max(now + wait_s, state.again_at))
    return done if not times else Step(state, (*done.effects, WakeAt(min(times))))


def _ended(done: Step, number: int) -> tuple[Step, Input | None]:
    state = done.state
    ended = next((one for one in state.begun if one.number == number), None)
    left = tuple(one for one in state.begun if one.number != number)
    return Step(replace(state, begun=left), done.effects), ended


def _is_same(state: Admission, difference: float | None, now: float) -> bool:
    policy = state.policy
    if difference is None or state.admitted_at is None or difference >= policy.same_below:
        return False
    return not policy.answer_every_s or now - state.admitted_at < policy.answer_every_s


def _is_free(state: Admission) -> bool:
    return len(state.begun) < state.policy.at_once


def _may_begin(state: Admission) -> bool:
    return not state.policy.per_second or (state.tokens or 0.0) >= 1.0


def _paid(state: Admission) -> Admission:
    return replace(state, tokens=(state.tokens or 0.0) - 1.0) if state.policy.per_second else state


def _refilled(state: Admission, now: float) -> Admission:
    if state.tokens is None:
        return replace(state, tokens=float(state.policy.burst), tokens_at=now)
    gained = max(0.0, now - state.tokens_at) * state.policy.per_second
    return replace(
        state, tokens=min(float(state.policy.burst), state.tokens + gained), tokens_at=now
    )


def _counted(done: Step) -> Step:
    return Step(replace(done.state, offered=done.state.offered + 1), done.effects)


def _report(run: Run) -> Report:
    return Report(run.reason, run.count, run.first.id, run.last.id)
