"""What to do with one input: answer here, or ask the cloud and until when. (core)

Rules, each to be found again in the table below:
1. An input the edge model is confident about is answered here and finally.
2. Any other is hard, and one of three things is done, whichever `value` finds is worth most:
   answer here and finally, since the cloud's answer is not worth its price (`budget`); answer here
   and leave the question to be sent when it suits, for a revision; ask the cloud and wait.
   Without a budget the first is never done, and the third as long as an answer may be in time.
3. Where the cloud was asked, it answers finally if it is first; otherwise the edge provisionally,
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

from edge_agent.cascade import value
from models.calibrate.curve import Gain
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
    size: int = 0
    """Bytes of the input."""
    gain: Gain | None = None
    weather: value.Weather = value.Weather()
    phase: Phase = Phase.PREDICTING
    score: float | None = None


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


class Leave(Struct, frozen=True):
    """Hand the input over to be sent when it suits; nobody waits. `value`: what that is worth."""

    value: float


class Consider(Struct, frozen=True):
    """Tell whoever finds the price what this input was worth for each unit, and its units."""

    worth: float
    cost: int


class WakeAt(Struct, frozen=True):
    """Say `Woke` at this moment unless the cloud speaks first."""

    at: float


class Answer(Struct, frozen=True):
    """Answer the caller with what this source said."""

    source: Literal["edge", "cloud"]
    final: bool
    reason: str
    hard: bool
    threshold: float | None = None
    """Degraded: how low the threshold would have had to be for this answer to be the rule."""

    @property
    def degraded(self) -> bool:
        """The certificate would have had the cloud answer, and it did not."""
        return self.hard and self.source == "edge"


Effect = Escalate | Leave | Consider | WakeAt | Answer


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
            verdict = judge(confidence, state.threshold)
            if not verdict.hard:
                return _answer(state, Answer("edge", final=True, reason="confident", hard=False))
            score = None if verdict.reason == "degenerate" else confidence
            return _hard(replace(state, score=score), now)
        case _, Withheld():
            return _answer(state, _degraded(state, "private", final=True))
        case Phase.ASKING, CloudAnswered():
            return _answer(state, Answer("cloud", final=True, reason="escalated", hard=True))
        case Phase.ASKING, CloudDeclined(reason):
            return _answer(state, _degraded(state, reason))
        case Phase.ASKING, Woke():
            if now < state.answer_by:
                return Step(state, (WakeAt(state.answer_by),))
            return _answer(state, _degraded(state, "deadline"))
        case Phase.ANSWERED, _:
            return Step(state)  # Rule 5.
        case _:
            # One prediction is made per input, and nobody speaks who was not asked.
            return Step(state)


def _hard(state: Case, now: float) -> Step:
    """Rule 2."""
    choice = value.choose(
        score=state.score,
        size=state.size,
        within_s=state.answer_by - now,
        gain=state.gain,
        now=state.weather,
    )
    said: tuple[Effect, ...] = ()
    if state.weather.left is not None:
        said = (Consider(choice.value / max(choice.cost, 1), choice.cost),)
    match choice.action:
        case "local":
            local = Answer("edge", True, "budget", hard=True, threshold=choice.threshold)
            return _answer(state, local, *said)
        case "async":
            up = state.weather.up or now >= state.answer_by
            late = _degraded(state, "deadline" if up else "link_down")
            return _answer(state, late, *said, Leave(choice.value))
        case "sync":
            effects = (*said, Escalate(), WakeAt(state.answer_by))
            return Step(replace(state, phase=Phase.ASKING), effects)


def _degraded(state: Case, reason: str, *, final: bool = False) -> Answer:
    """The edge's answer to a hard input, as a threshold as low as its own score would give it."""
    return Answer("edge", final=final, reason=reason, hard=True, threshold=state.score)


def _answer(state: Case, answer: Answer, *before: Effect) -> Step:
    return Step(replace(state, phase=Phase.ANSWERED), (*before, answer))
