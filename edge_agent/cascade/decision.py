"""What to do with one input: answer here, or ask the cloud and until when. (core)

Rules, each to be found again in the table below:
1. An input the edge model is confident about is answered here and finally.
2. Any other is hard, and the cloud is asked, whatever time is left: an answer nobody waits for any
   more becomes a revision.
3. A hard input is answered finally by the cloud if it answers first, and provisionally by the edge
   as soon as the cloud declines, or at the latest at `answer_by`.
4. `answer_by` comes before the caller's deadline by a reserve: the answer still has to travel.
5. An input is answered once. What comes later changes nothing here; it is settled elsewhere.
6. An input of which nothing may leave is answered here, finally, and says `private`. Whether that
   is so shows when it is to be handed over, before its answer is given.
7. Which inputs are hard is `models.calibrate.decide`'s to say, for device and gateway alike.
"""

from enum import Enum
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from models.calibrate.decide import judge

LEAST_RESERVE_S = 0.015
MOST_RESERVE_S = 0.080
RESERVED_SHARE = 0.2
"""On two busy cores a worker was seen to wake 38 ms late; a cloud that answers in time at all does
so within the four fifths that are left."""


class Phase(Enum):
    PREDICTING = "predicting"
    ASKING = "asking"
    ANSWERED = "answered"


class Case(Struct, frozen=True):
    """One input on its way to an answer."""

    threshold: float | None
    answer_by: float
    phase: Phase = Phase.PREDICTING


class Predicted(Struct, frozen=True):
    """The edge model answered with this confidence, or with none."""

    confidence: float | None


class CloudAnswered(Struct, frozen=True):
    """The cloud model answered."""


class CloudDeclined(Struct, frozen=True):
    """There will be no live answer from the cloud."""

    reason: str


class Withheld(Struct, frozen=True):
    """Nothing of this input may leave, so `Escalate` was not performed, nor what came after it."""


class Woke(Struct, frozen=True):
    """The time asked for by `WakeAt` has come, or nearly."""


Event = Predicted | CloudAnswered | CloudDeclined | Withheld | Woke


class Escalate(Struct, frozen=True):
    """Hand the input over to the cloud."""


class WakeAt(Struct, frozen=True):
    """Say `Woke` at this moment unless the cloud speaks first."""

    at: float


class Answer(Struct, frozen=True):
    """Answer the caller with what this source said."""

    source: Literal["edge", "cloud"]
    final: bool
    reason: str
    hard: bool


Effect = Escalate | WakeAt | Answer


class Step(Struct, frozen=True):
    state: Case
    effects: tuple[Effect, ...] = ()


def answer_by(until: float, deadline_ms: float) -> float:
    """The last moment to answer a caller who waits `deadline_ms`, until `until`."""
    share = RESERVED_SHARE * deadline_ms / 1000
    return until - min(max(share, LEAST_RESERVE_S), MOST_RESERVE_S)


def step(state: Case, event: Event, now: float) -> Step:
    match state.phase, event:
        case Phase.PREDICTING, Predicted(confidence):
            if not judge(confidence, state.threshold).hard:
                return _answer(state, Answer("edge", final=True, reason="confident", hard=False))
            if now >= state.answer_by:
                late = Answer("edge", final=False, reason="deadline", hard=True)
                return _answer(state, late, Escalate())
            return Step(replace(state, phase=Phase.ASKING), (Escalate(), WakeAt(state.answer_by)))
        case _, Withheld():
            return _answer(state, Answer("edge", final=True, reason="private", hard=True))
        case Phase.ASKING, CloudAnswered():
            return _answer(state, Answer("cloud", final=True, reason="escalated", hard=True))
        case Phase.ASKING, CloudDeclined(reason):
            return _answer(state, Answer("edge", final=False, reason=reason, hard=True))
        case Phase.ASKING, Woke():
            if now < state.answer_by:
                return Step(state, (WakeAt(state.answer_by),))
            return _answer(state, Answer("edge", final=False, reason="deadline", hard=True))
        case Phase.ANSWERED, _:
            return Step(state)  # Rule 5.
        case _:
            # One prediction is made per input, and nobody speaks who was not asked.
            return Step(state)


def _answer(state: Case, answer: Answer, *before: Effect) -> Step:
    return Step(replace(state, phase=Phase.ANSWERED), (*before, answer))
