"""Where every device's messages end up, whatever carried them.

1. Whoever brings a message has found out which device sent it; a message in another's name is
   refused here, so no transport can forget to look.
2. Every message gets one reply, and it is said after the commit it speaks of.
3. What cannot be read is kept as a dead letter before it is refused.
"""

import logging
from collections.abc import Callable
from typing import Protocol, assert_never

from cloud_gateway.errors import GatewayError, WrongDevice
from cloud_gateway.inference.run import Answers
from cloud_gateway.problems import refusal
from models.errors import ModelsError
from sync.clock import Clock
from sync.errors import SyncError, WireError
from sync.wire import codec, v1

_log = logging.getLogger(__name__)


class Records(Protocol):
    """`telemetry.ingest.Ingest`."""

    async def batch(self, message: v1.Batch, raw: bytes) -> v1.BatchAck: ...

    async def losses(self, message: v1.LossReport, raw: bytes) -> v1.LossAck: ...

    async def unreadable(self, device: str, raw: bytes, error: WireError) -> None: ...


class Hearts(Protocol):
    """`fleet.run.Beats`."""

    def hear(self, beat: v1.Beat) -> None: ...


class Cases(Protocol):
    """`inference.escalations.Escalations`."""

    async def answer(
        self, device: str, task: str, request_id: str, inputs: tuple[v1.Tensor, ...]
    ) -> Answers: ...


class Desk:
    """Hears messages and replies."""

    def __init__(
        self,
        records: Records,
        hearts: Hearts,
        cases: Cases,
        clock: Clock,
        *,
        desired: Callable[[str], tuple[v1.Desired, ...]],
    ) -> None:
        self._records = records
        self._hearts = hearts
        self._cases = cases
        self._clock = clock
        self._desired = desired

    async def hear(self, device: str, message: bytes) -> bytes:
        """The reply to one message of this device. Never raises for what a device may have sent."""
        try:
            reply = await self._reply(device, message)
        except (GatewayError, ModelsError, SyncError) as error:
            reply = refusal(error)
            _log.warning(
                "desk.refused device=%s code=%s reason=%s", device, reply.code, reply.message
            )
        except Exception as error:  # noqa: BLE001 - one message must not end the link of a fleet
            reply = refusal(error)
        return codec.encode(reply)

    async def _reply(self, device: str, raw: bytes) -> v1.Down:
        try:
            message = codec.decode_up(raw)
        except WireError as error:
            await self._records.unreadable(device, raw, error)
            raise
        if message.device != device:
            raise WrongDevice(
                f"device {device!r} sent a message in the name of {message.device[:80]!r}; "
                "enrol the device again under its own name"
            )
        match message:
            case v1.Beat():
                self._hearts.hear(message)
                return v1.BeatReply(self._clock.wall(), self._desired(device))
            case v1.Batch():
                return await self._records.batch(message, raw)
            case v1.LossReport():
                return await self._records.losses(message, raw)
            case v1.Escalation():
                return await self._escalated(message)
            case _:
                assert_never(message)

    async def _escalated(self, message: v1.Escalation) -> v1.Escalated:
        answers = await self._cases.answer(
            message.device, message.task, message.request_id, message.inputs
        )
        first = answers.predictions[0]
        return v1.Escalated(
            request_id=message.request_id,
            task=answers.task,
            label=first.label,
            confidence=first.confidence,
            version=answers.version,
            run_us=first.run_us,
            answer=first.details(),
        )
