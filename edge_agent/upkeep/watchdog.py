"""When a worker that is up does nothing any more. (core)

Rules:
1. A worker says every second that its loop turns, and how long the model has been on one run.
2. It hangs when it has been silent, or the model on one run, for longer than the larger of
   `least_s` and `times` times the 99th percentile of that model's runs.
3. A model that runs in the worker's loop is silent while it runs: that is the same thing.
4. Time in which nobody ran counts for nothing: a machine that slept, a container that was paused.
   We know it by our own wake-up, which is late as well, or by the beat that comes after it. Nor
   does time in which the worker wanted a processor and others had them all.
5. A worker is killed once. What it was asked comes again, from callers whose deadline allows it.
"""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

LATE_S = 0.5
"""A wake-up later than this says that we did not run either."""


class WatchdogPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of the rules above; they stand in the settings."""

    least_s: Annotated[float, Meta(ge=2.0)] = 2.0
    """Two beats: less would kill whoever misses one."""
    times: Annotated[float, Meta(ge=1.0)] = 10.0
    start_s: Annotated[float, Meta(gt=0.0)] = 60.0
    """A worker that does not serve by then never will; loading takes a second on a slow device."""


class Watch(Struct, frozen=True):
    """One worker that serves."""

    policy: WatchdogPolicy
    heard_at: float
    p99_s: float = 0.0
    running_s: float = 0.0
    excused_s: float = 0.0
    """Of the run that goes on: nobody ran meanwhile."""
    killed: bool = False

    @property
    def limit_s(self) -> float:
        return max(self.policy.least_s, self.policy.times * self.p99_s)


class Beaten(Struct, frozen=True):
    """The worker's loop turns; its model has been on one run for so long, 0 for none."""

    running_s: float
    p99_s: float


class Woke(Struct, frozen=True):
    """The time asked for by `WakeAt` has come; `asked` is that time."""

    asked: float
    starved_s: float = 0.0
    """How long the worker has waited for a processor since it was last asked."""


Event = Beaten | Woke


class WakeAt(Struct, frozen=True):
    at: float


class Kill(Struct, frozen=True):
    """End it now, with this reason."""

    why: str


Effect = WakeAt | Kill


class Step(Struct, frozen=True):
    state: Watch
    effects: tuple[Effect, ...] = ()


def begun(policy: WatchdogPolicy, now: float) -> Step:
    """The worker has just said that it serves."""
    state = Watch(policy, now)
    return Step(state, (WakeAt(now + state.limit_s),))


def step(state: Watch, event: Event, now: float) -> Step:
    if state.killed:
        return Step(state)  # Rule 5.
    match event:
        case Beaten(running_s, p99_s):
            silent_s = now - state.heard_at
            same_run = running_s >= state.running_s > 0
            excused_s = state.excused_s if same_run else 0.0
            if silent_s > state.limit_s:
                excused_s = min(running_s, excused_s + silent_s)  # Rule 4.
            heard = replace(
                state, heard_at=now, p99_s=p99_s, running_s=running_s, excused_s=excused_s
            )
            if running_s - excused_s > heard.limit_s:
                return _kill(heard, f"the model has been on one run for {running_s:.1f} s")
            return Step(heard)
        case Woke(asked, starved_s):
            late = now > asked + LATE_S
            heard_at = now if late else min(now, state.heard_at + starved_s)
            state = replace(state, heard_at=heard_at)  # Rule 4.
            due = state.heard_at + state.limit_s
            if now < due:
                return Step(state, (WakeAt(due),))
            return _kill(state, f"it has been silent for {now - state.heard_at:.1f} s")


def _kill(state: Watch, why: str) -> Step:
    told = f"{why}, and {state.limit_s:.1f} s are allowed"
    return Step(replace(state, killed=True), (Kill(told),))
