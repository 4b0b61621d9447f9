"""What follows when the promise of a certificate is found broken in the field. (core)

Rules, each to be found again in the table below:
1. Certified, the certificate in force says from which confidence on the device answers by itself.
2. An alarm of the monitor ends that, at once and for good: safe mode. The threshold is then the one
   whose certified risk is a quarter of what was promised, where the curve has one; else everything
   is hard. Whatever is answered here meanwhile is `uncertified`, and says why.
3. What the audits said before the alarm counts no more: the ones from there on are gathered for a
   new calibration, tried as soon as they could certify anything without a single loss.
4. The k-th calibration on a device spends 6 delta / (pi^2 k^2), tried in vain or not: all of them
   together spend delta. The next one waits for half as many audits again.
5. A new certificate ends safe mode. The monitor begins anew, against what the new one promises.
6. Another model in the cloud is a change point: evidence and gathered audits begin anew. The mode
   stays, since nothing has been seen yet.
7. Where no certificate holds there is nothing to break and nothing to watch.
"""

import math
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from models.calibrate.curve import Curve

SAFETY = 4.0
"""In safe mode the certified risk is this many times less than what was promised."""
GROWTH = 1.5


class Mode(Enum):
    CERTIFIED = "certified"
    SAFE = "safe"
    UNCERTIFIED = "uncertified"


class Promise(Struct, frozen=True):
    """What a certificate means here."""

    certificate: str
    eps: float
    theta: float
    """What audits, which know no labels, are held against: the share of requests answered here
    otherwise than the cloud answers them."""
    delta: float
    threshold: float | None
    risk: float | None
    curve: Curve | None = None


class Guard(Struct, frozen=True):
    """One package of one task, as its certificate stands."""

    promise: Promise
    mode: Mode = Mode.CERTIFIED
    why: str = ""
    since: int = 0
    """Audits with a higher place are of the world as it is now."""
    attempts: int = 0
    """Calibrations begun on this device."""
    enough: int = 0
    """Gathered audits at which the next calibration is tried."""
    calibrating: bool = False
    cloud: str = ""
    """Version of the cloud model the audits speak of."""
    alarm_at: float | None = None
    """Seconds since 1970, of the last alarm."""


class AgentStarted(Struct, frozen=True):
    """The process that would have calibrated is gone."""


class AlarmRaised(Struct, frozen=True):
    """The monitor found the promise broken, by the audits up to this place."""

    place: int
    why: str
    at: float


class CloudChanged(Struct, frozen=True):
    """An audit was answered by another version of the cloud model than the ones before."""

    version: str
    place: int


class AuditsGathered(Struct, frozen=True):
    """So many audits since the last change have their answer, or are known to have lost it."""

    n: int


class Calibrated(Struct, frozen=True):
    """There is a new certificate, bounded by the audits up to this place."""

    promise: Promise
    place: int


class CalibratedInVain(Struct, frozen=True):
    """No threshold can be certified by these audits, or calibrating went wrong."""

    n: int
    why: str


Event = AgentStarted | AlarmRaised | CloudChanged | AuditsGathered | Calibrated | CalibratedInVain


class SendTerms(Struct, frozen=True):
    """Tell the workers from where on they answer by themselves."""


class BeginMonitor(Struct, frozen=True):
    """Forget the evidence; audits are held against this from now on."""

    theta: float


class Report(Struct, frozen=True):
    """Tell people, here and at the gateway."""

    kind: str
    why: str


class Calibrate(Struct, frozen=True):
    """Make a certificate of the audits beyond this place, spending this delta."""

    since: int
    delta: float


Effect = SendTerms | BeginMonitor | Report | Calibrate


class Step(Struct, frozen=True):
    state: Guard
    effects: tuple[Effect, ...] = ()


def step(state: Guard, event: Event, now: float) -> Step:
    """The table."""
    match state.mode, event:
        case Mode.UNCERTIFIED, _:
            return Step(state)  # Rule 7.

        case Mode.CERTIFIED, AlarmRaised(place, why, at):
            safe = replace(
                state,
                mode=Mode.SAFE,
                why=why,
                since=place,
                enough=_least(state.promise.eps, _delta(state.promise.delta, state.attempts + 1)),
                alarm_at=at,
            )
            return Step(safe, (SendTerms(), Report("broken", why)))
        case _, AlarmRaised():
            return Step(state)  # it is safe already

        case _, CloudChanged(version, place):
            changed = replace(state, cloud=version, since=place)
            if not state.cloud:
                return Step(replace(state, cloud=version))
            why = f"the cloud answers with {version} instead of {state.cloud}"
            return Step(changed, (BeginMonitor(state.promise.theta), Report("cloud_changed", why)))

        case Mode.SAFE, AuditsGathered(n) if not state.calibrating and n >= state.enough:
            attempt = state.attempts + 1
            trying = replace(state, attempts=attempt, calibrating=True)
            delta = _delta(state.promise.delta, attempt)
            return Step(trying, (Calibrate(state.since, delta),))
        case _, AuditsGathered():
            return Step(state)

        case Mode.SAFE, Calibrated(promise, place) if state.calibrating:
            certified = replace(
                state,
                promise=promise,
                mode=Mode.CERTIFIED,
                why="",
                since=place,
                calibrating=False,
            )
            why = f"{promise.certificate} takes the place of {state.promise.certificate}"
            return Step(
                certified, (BeginMonitor(promise.theta), SendTerms(), Report("recalibrated", why))
            )
        case Mode.SAFE, CalibratedInVain(n, _):
            least = _least(state.promise.eps, _delta(state.promise.delta, state.attempts + 1))
            enough = max(least, math.ceil(GROWTH * n))
            return Step(replace(state, calibrating=False, enough=enough))
        case _, Calibrated() | CalibratedInVain():
            return Step(state)  # nobody asked for it any more

        case _, AgentStarted():
            return Step(replace(state, calibrating=False))


def in_force(state: Guard) -> tuple[float | None, float | None]:
    """The threshold in force, and the certified risk there; None: everything is hard, no risk."""
    promise = state.promise
    match state.mode:
        case Mode.CERTIFIED:
            return promise.threshold, promise.risk
        case Mode.UNCERTIFIED:
            return promise.threshold, None
        case Mode.SAFE:
            tight = None
            if promise.curve is not None:
                tight = promise.curve.threshold_for(promise.eps / SAFETY)
            if tight is None or promise.threshold is None:
                return None, None
            return max(tight, promise.threshold), None


def _delta(delta: float, attempt: int) -> float:
    return 6 * delta / (math.pi**2 * attempt**2)


def _least(eps: float, delta: float) -> int:
    """Audits that certify eps without a single loss: (1 - eps)^n <= delta."""
    return math.ceil(math.log(delta) / math.log1p(-eps))
