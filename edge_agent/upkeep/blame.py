"""What the ends of a package's workers say: of what it runs on, and of the package. (core)

Rules:
1. An end nobody asked for counts, unless somebody outside killed the worker: that is nobody's
   fault, and it is started again.
2. A worker that crashed or hung `ACCELERATOR_ENDS` times within `loop_s` on anything but the plain
   runtime on the processor loses what it ran on: the next one starts without it, and the count
   begins anew.
3. One that crashed as often before it could say what it runs on is started on the plain runtime.
4. `loop_ends` ends within `loop_s` are a crash loop: the package is given up. Whether there is
   another to take its place is not known here; until there is, it is started again as before.
"""

from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.upkeep.restart import RestartPolicy

ACCELERATOR_ENDS = 2
PLAIN = "*"
"""To be avoided: all but a model's own runtime on the processor."""
_PLAIN_RUNTIMES, _PROCESSOR = ("onnx", "twin"), "cpu"
_KILL, _TERM = 9, 15

Cause = Literal["crashed", "hung", "over_memory", "out_of_memory", "exited", "killed", "left"]
Killer = Literal["watchdog", "memory", "start"]
"""Why we killed it: it hung, it took more than its share, it never came to serve."""


class Blame(Struct, frozen=True):
    """One package on one device, since the agent started."""

    policy: RestartPolicy
    ends: tuple[tuple[float, Cause], ...] = ()
    """Those that count, not older than `loop_s`."""
    ran_on: str | None = None
    """What may be blamed: a provider or a runtime, empty for the plain one; None: never heard."""
    avoid: tuple[str, ...] = ()
    degraded: str | None = None
    """Why it does not run on what was chosen for it."""


class Served(Struct, frozen=True):
    """A worker came to serve, on this; see `culprit`."""

    on: str


class Ended(Struct, frozen=True):
    """It is gone; `how` in a few words."""

    cause: Cause
    how: str


Event = Served | Ended


class Avoid(Struct, frozen=True):
    """Start the next worker without these."""

    names: tuple[str, ...]


class GiveUp(Struct, frozen=True):
    """This package does not live here."""

    why: str


Effect = Avoid | GiveUp


class Step(Struct, frozen=True):
    state: Blame
    effects: tuple[Effect, ...] = ()


def step(state: Blame, event: Event, now: float) -> Step:
    match event:
        case Served(on):
            return Step(replace(state, ran_on=on))
        case Ended("killed" | "left", _):
            return Step(state)  # Rule 1.
        case Ended(cause, how):
            recent = tuple(end for end in state.ends if end[0] > now - state.policy.loop_s)
            state = replace(state, ends=(*recent, (now, cause)))
            blamed = sum(each in ("crashed", "hung") for _, each in state.ends)
            if blamed >= ACCELERATOR_ENDS and _may_blame(state) and cause in ("crashed", "hung"):
                return _without(state, how)
            if len(state.ends) >= state.policy.loop_ends:
                why = (
                    f"its worker ended {len(state.ends)} times within {state.policy.loop_s:g} s,"
                    f" the last time because {how}"
                )
                return Step(replace(state, ends=()), (GiveUp(why),))
            return Step(state)
        case _:
            assert_never(event)


def culprit(runtime: str, provider: str) -> str:
    """What of this would be avoided first; empty for the plain runtime on the processor."""
    for name in (one.strip() for one in provider.split(",")):
        if name and name != _PROCESSOR:
            return name
    for name in (one.strip() for one in runtime.split(",")):
        if name and name not in _PLAIN_RUNTIMES:
            return name
    return ""


def cause_of(code: int, killer: Killer | None, *, kernel_killed: bool) -> tuple[Cause, str]:
    """Why a process ended with this code, and in words."""
    match killer:
        case "watchdog":
            return "hung", "it hung"
        case "memory":
            return "over_memory", "it took more memory than its share"
        case "start":
            return "exited", "it did not come to serve in time"
        case None:
            pass
    if code in (-_TERM, 0):
        return "left", "it was told to leave"
    if code == -_KILL:
        if kernel_killed:
            return "out_of_memory", "the kernel had no memory left"
        return "killed", "somebody killed it"
    if code < 0:
        return "crashed", f"signal {-code} killed it"
    return "exited", f"it ended with {code}"


def _may_blame(state: Blame) -> bool:
    return PLAIN not in state.avoid and state.ran_on != ""


def _without(state: Blame, how: str) -> Step:
    name = PLAIN if state.ran_on is None else state.ran_on
    if name in state.avoid:
        name = PLAIN  # it was to be avoided and ran there all the same
    avoid = (*state.avoid, name)
    on = "what was chosen for it" if state.ran_on is None else state.ran_on
    why = f"runs without {on}: its worker ended {ACCELERATOR_ENDS} times there ({how})"
    return Step(replace(state, ends=(), ran_on=None, avoid=avoid, degraded=why), (Avoid(avoid),))
