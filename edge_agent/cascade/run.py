"""Performs what the cascade decides.

The record of an answer is written before the answer is given: what the caller knows, the device
has counted.
"""

import asyncio
import math
from collections.abc import Coroutine

from edge_agent.cascade import decision, value
from edge_agent.cascade.ports import (
    Ask,
    Audits,
    CloudReply,
    Engine,
    InferRequest,
    Privacy,
    Records,
    Terms,
)
from edge_agent.cascade.privacy import Everything
from edge_agent.errors import DeadlineExceeded
from edge_agent.sdk.messages import Reply, Timings
from models.calibrate.decide import judge
from models.pipeline.kinds import RAW
from models.pipeline.values import Value
from models.predict import Prediction
from models.tensors import datatype_of
from sync.clock import Clock
from sync.wire import v1
from sync.wire.elements import pack_bytes


class Cascade:
    """Answers inputs of one task, many at once."""

    def __init__(
        self,
        *,
        engine: Engine,
        ask: Ask,
        records: Records,
        clock: Clock,
        device: str,
        privacy: Privacy | None = None,
        audits: Audits | None = None,
    ) -> None:
        self._engine = engine
        self._ask = ask
        self._records = records
        self._clock = clock
        self._device = device
        self._privacy = privacy or Everything()
        self.weather = value.Weather()
        """The link and the budget as they were last heard of."""
        self._audits = audits
        self.terms = Terms(
            threshold=engine.threshold,
            certificate=engine.certificate,
            certified_risk=engine.certified_risk,
            curve=engine.curve,
            uncertified=engine.uncertified,
        )
        """In force for every input from now on; whoever watches the risk may set others."""

    async def answer(self, request: InferRequest) -> Reply:
        """Answer one input before `request.until`.

        Raises `models.errors.InputError`, `RuntimeFailed`, `Overloaded`, `DeadlineExceeded`,
        `SupervisorGone`.
        """
        given = self.begin(request)
        return given if isinstance(given, Reply) else await given

    def begin(self, request: InferRequest) -> Reply | Coroutine[None, None, Reply]:
        """The answer, where nothing has to be waited for; else what gives it. Raises as `answer`.

        Most inputs are answered here by a quick model, and a task for each would cost more than it.
        """
        engine = self._engine
        sample = engine.read(request.dtype, request.shape, request.data)
        prediction = engine.predict_now(sample, until=request.until)
        if prediction is None:
            return self._predict(request, sample)
        return self._judge(request, prediction)

    async def _predict(self, request: InferRequest, sample: Value) -> Reply:
        try:
            # A run that has begun goes on; what it says comes too late for this caller.
            async with asyncio.timeout(max(0.0, request.until - self._clock.monotonic())):
                prediction = await self._engine.predict(
                    sample, until=request.until, client=request.client, data=request.data
                )
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the model of task {self._engine.task!r} had said nothing of request {request.id}"
                f" within {request.deadline_ms} ms; allow more time, or see longstop-agent status"
            ) from error
        given = self._judge(request, prediction)
        return given if isinstance(given, Reply) else await given

    def _judge(
        self, request: InferRequest, prediction: Prediction
    ) -> Reply | Coroutine[None, None, Reply]:
        terms = self.terms
        case = decision.Case(
            threshold=terms.threshold,
            answer_by=decision.answer_by(request.until, request.deadline_ms),
            size=len(request.data),
            gain=self._engine.gain,
            weather=self.weather,
        )
        predicted = self._clock.monotonic()
        step = decision.step(case, decision.Predicted(prediction.confidence), predicted)
        # Whether it is audited follows from its id alone, whatever the model said.
        audited = self._audits is not None and self._audits.chosen(request.id)
        audited = audited and self._audit(request, prediction, terms)
        match step.effects:
            case (decision.Answer() as answer,):
                if audited:
                    self._leave_audit(request, prediction)
                return self._give(request, prediction, terms, answer, None, 0, 0, audited=audited)
            case (decision.Consider(worth, cost), decision.Answer() as answer):
                self._ask.weigh(worth, cost)
                if audited:
                    self._leave_audit(request, prediction)
                return self._give(request, prediction, terms, answer, None, 0, 0, audited=audited)
        return self._carry_on(request, prediction, terms, step, predicted, audited=audited)

    async def _carry_on(
        self,
        request: InferRequest,
        prediction: Prediction,
        terms: Terms,
        step: decision.Step,
        predicted: float,
        *,
        audited: bool,
    ) -> Reply:
        """Perform what was decided until it is to answer."""
        answer_by = step.state.answer_by
        asked: asyncio.Future[CloudReply] | None = None
        wake_at, sent = predicted, 0
        try:
            while True:
                for effect in step.effects:
                    match effect:
                        case decision.Consider(worth, cost):
                            self._ask.weigh(worth, cost)
                        case decision.Escalate() | decision.Leave():
                            live = isinstance(effect, decision.Escalate)
                            question = self._question(
                                request, prediction, answer_by - predicted if live else 0.0
                            )
                            if question is None:
                                step = decision.step(step.state, decision.Withheld(), predicted)
                                break
                            sent = len(question.inputs[0].data)
                            if isinstance(effect, decision.Leave):
                                self._ask.leave(
                                    question, request.client, kind="later", value=effect.value
                                )
                                continue
                            asked = asyncio.ensure_future(
                                self._ask.ask(question, request.client, answer_by)
                            )
                            # It begins now, so that it is handed over however soon we are done.
                            await asyncio.sleep(0)
                        case decision.WakeAt(at):
                            wake_at = at
                        case decision.Answer():
                            wait_us = _us(self._clock.monotonic() - predicted) if asked else 0
                            said = _result(asked) if effect.source == "cloud" else None
                            if audited and not sent:
                                self._leave_audit(request, prediction)
                            return self._give(
                                request,
                                prediction,
                                terms,
                                effect,
                                said,
                                wait_us,
                                sent,
                                audited=audited,
                            )
                else:
                    event = await self._heard(asked, wake_at)
                    step = decision.step(step.state, event, self._clock.monotonic())
        finally:
            if asked is not None:
                asked.cancel()

    async def _heard(
        self, asked: asyncio.Future[CloudReply] | None, wake_at: float
    ) -> decision.Event:
        if asked is not None:
            await asyncio.wait((asked,), timeout=max(0.0, wake_at - self._clock.monotonic()))
            if asked.done():
                match asked.result():
                    case v1.Escalated():
                        return decision.CloudAnswered()
                    case v1.Refused(code):
                        return decision.CloudDeclined(code)
        return decision.Woke()

    def _audit(self, request: InferRequest, prediction: Prediction, terms: Terms) -> bool:
        """Say what the device would answer; false where nothing of the input may leave."""
        if self._audits is None or self._privacy.leaving(request, prediction) is None:
            return False
        local = not judge(prediction.confidence, terms.threshold).hard
        self._audits.audited(request.id, prediction.label, prediction.confidence, local=local)
        return True

    def _leave_audit(self, request: InferRequest, prediction: Prediction) -> None:
        """Nobody asks the cloud about this request, so its audit does."""
        question = self._question(request, prediction, 0.0)
        if question is not None:
            self._ask.leave(question, request.client, kind="audit", value=0.0)

    def _question(
        self, request: InferRequest, prediction: Prediction, timeout_s: float
    ) -> v1.Escalation | None:
        """What the cloud is asked; None where nothing of the input may leave."""
        leaving = self._privacy.leaving(request, prediction)
        if leaving is None:
            return None
        shape, data = leaving.shape, bytes(leaving.data)
        if request.dtype in RAW:
            data, shape = pack_bytes([data]), (1,)
        tensor = v1.Tensor(self._engine.input_name, datatype_of(request.dtype), shape, data)
        return v1.Escalation(
            device=self._device,
            request_id=request.id,
            task=self._engine.task,
            version=self._engine.version,
            timeout_ms=max(0, int(timeout_s * 1000)),
            inputs=(tensor,),
        )

    def _give(
        self,
        request: InferRequest,
        prediction: Prediction,
        terms: Terms,
        answer: decision.Answer,
        said: v1.Escalated | None,
        wait_us: int,
        sent_bytes: int,
        *,
        audited: bool,
    ) -> Reply:
        """Write the record, then the reply."""
        engine = self._engine
        timings = Timings(
            prepare_us=prediction.prepare_us,
            run_us=prediction.run_us,
            wait_us=wait_us,
            total_us=_us(self._clock.monotonic() - request.received),
        )
        label, confidence, version = prediction.label, prediction.confidence, engine.version
        if said is None:
            details = prediction.details()
        else:
            label, confidence, version = said.label, said.confidence, said.version
            details = said.answer
        risk = None if answer.hard else terms.certified_risk
        if answer.degraded and terms.curve is not None and answer.threshold is not None:
            risk = terms.curve.risk_at(answer.threshold)
        record = v1.Answered(
            request_id=request.id,
            client=request.client,
            task=engine.task,
            version=engine.version,
            digest=engine.digest,
            route=answer.source,
            final=answer.final,
            reason=answer.reason,
            label=label,
            confidence=confidence,
            hard=answer.hard,
            deadline_ms=request.deadline_ms,
            prepare_us=timings.prepare_us,
            run_us=timings.run_us,
            wait_us=timings.wait_us,
            total_us=timings.total_us,
            at=self._clock.wall(),
            feature_age_s=_freshness(prediction.feature_age_s),
            degraded=answer.degraded,
            certified_risk=risk,
            certificate=terms.certificate,
            audited=audited,
            sent_bytes=sent_bytes,
        )
        self._records.put(record)
        return Reply(
            id=request.id,
            label=label,
            confidence=confidence,
            source=answer.source,
            final=answer.final,
            reason=answer.reason,
            hard=answer.hard,
            version=version,
            digest=engine.digest,
            timings=timings,
            certified_risk=risk,
            answer=details,
            uncertified=terms.uncertified,
            degraded=answer.degraded,
            certificate=terms.certificate,
        )


def _result(asked: asyncio.Future[CloudReply] | None) -> v1.Escalated | None:
    match asked and asked.result():
        case v1.Escalated() as said:
            return said
        case _:
            return None


def _freshness(age_s: float | None) -> float | None:
    """As the record says it, where NaN would be no JSON."""
    return -1.0 if age_s is not None and math.isnan(age_s) else age_s


def _us(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
