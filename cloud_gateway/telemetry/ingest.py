"""Takes batches and losses in. The acknowledgement it returns is true: the commit came before it.

1. One transaction per message: the range, what it adds to the counts, and the losses it disproves.
2. A range that is there already with the same content is a duplicate and counts nothing.
3. A range that shares a number with another, or has its key and other content, is a conflict: two
   outboxes number as one. It is kept as a dead letter, never counted, and an operator must look.
4. What cannot be read is kept as a dead letter under its range, so that a newer gateway can still
   count it. Its range counts as delivered, and sending it again is answered the same way.
5. Number by number a record is delivered or lost, never both: delivered wins, whichever came first.
6. No room for a dead letter, or no room at all: no acknowledgement.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct, structs
from sqlalchemy import Connection

from cloud_gateway.claims import count_claimed, time_claimed
from cloud_gateway.database import Database
from cloud_gateway.errors import DeadLettersFull
from cloud_gateway.tables import DEVICE_STEP_S, FLEET_STEP_S
from cloud_gateway.telemetry import skips, store
from cloud_gateway.telemetry.ranges import Range, is_range, subtract
from cloud_gateway.telemetry.rollup import fault, roll_up
from sync.clock import Clock
from sync.errors import WireError
from sync.wire import codec, v1

Outcome = Literal["committed", "duplicate", "dead_letter", "conflict"]
_log = logging.getLogger(__name__)


class Counters(Protocol):
    """Where ingest says what it did."""

    def batch_heard(self, outcome: Outcome, records: int) -> None: ...

    def dead_letter_kept(self, code: str) -> None: ...

    def health_heard(self, level: str) -> None: ...

    def inputs_skipped(self, source: str, reason: str, count: int) -> None: ...


class _Fault(Struct, frozen=True):
    """Why a batch is not counted."""

    code: str
    reason: str


class Ingest:
    """Everything the fleet's outboxes send."""

    def __init__(
        self, database: Database, clock: Clock, counters: Counters, *, dead_letter_bytes: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._counters = counters
        self._dead_letter_bytes = dead_letter_bytes

    async def batch(self, message: v1.Batch, raw: bytes) -> v1.BatchAck:
        """Take one batch in. Raises `StorageUnavailable`, `DeadLettersFull`."""
        received_at = self._clock.wall()
        if not is_range(message.lo, message.hi):
            reason = f"{message.lo}..{message.hi} is no range of record numbers"
            await self.keep(self._letter(message, raw, None, _Fault("bad_range", reason)))
            self._counters.batch_heard("dead_letter", 0)
            return v1.BatchAck(message.incarnation, message.lo, message.hi, "dead_letter", reason)
        wanted = Range(message.lo, message.hi)
        records, wrong = _read(message, wanted)
        new = store.NewBatch(
            series=store.Series(message.device, message.incarnation),
            range=wanted,
            boot=count_claimed(message.boot),
            at=time_claimed(message.at, received_at),
            received_at=received_at,
            sha256=hashlib.sha256(message.body).digest(),
            counted=wrong is None,
            body=message.body,
        )
        by_device = roll_up(records, step_s=DEVICE_STEP_S, received_at=received_at)
        skipped = skips.roll_up(records, step_s=DEVICE_STEP_S, received_at=received_at)
        by_fleet = roll_up(records, step_s=FLEET_STEP_S, received_at=received_at)

        def take_in(connection: Connection) -> Outcome:
            known = store.overlapping(connection, new.series, wanted)
            if not known and store.add_batch(connection, new):
                self._disprove_losses(connection, new)
                if wrong is not None:
                    self._keep(connection, self._letter(message, raw, wanted, wrong))
                    return "dead_letter"
                store.count_answers(connection, message.device, by_device)
                store.count_fleet(connection, by_fleet)
                store.count_skips(connection, message.device, skipped)
                for record in records:
                    if isinstance(record, v1.Feedback):
                        store.keep_feedback(connection, message.device, record, received_at)
                    elif isinstance(record, v1.Alarm):
                        store.keep_alarm(connection, message.device, record, received_at)
                    elif isinstance(record, v1.Health):
                        store.keep_health(connection, message.device, record, received_at)
                return "committed"
            # Only another gateway on the same database can have come between; look again.
            known = known or store.overlapping(connection, new.series, wanted)
            if [(one.range, one.sha256) for one in known] == [(wanted, new.sha256)]:
                return "duplicate" if known[0].counted else "dead_letter"
            ranges = ", ".join(f"{one.range.lo}..{one.range.hi}" for one in known[:5])
            clash = _Fault(
                "conflict", f"{wanted.lo}..{wanted.hi} clashes with {ranges} taken before"
            )
            self._keep(connection, self._letter(message, raw, wanted, clash))
            return "conflict"

        outcome = await self._database.write(take_in)
        self._counters.batch_heard(outcome, len(records))
        if outcome == "committed":
            for key, n in skipped.items():
                self._counters.inputs_skipped(key.source, key.reason, n)
            for record in records:
                if isinstance(record, v1.Health):
                    self._counters.health_heard(record.level)
        return self._ack(message, outcome, wrong)

    async def losses(self, message: v1.LossReport, raw: bytes) -> v1.LossAck:
        """Note ranges as lost. Raises `StorageUnavailable`, `DeadLettersFull`."""
        received_at = self._clock.wall()
        series = store.Series(message.device, message.incarnation)
        at = time_claimed(message.at, received_at)
        good = [one for one in message.losses if is_range(one.lo, one.hi)]

        def note(connection: Connection) -> None:
            for one in good:
                whole = Range(one.lo, one.hi)
                delivered = [known.range for known in store.overlapping(connection, series, whole)]
                lost = [known.range for known in store.losses_over(connection, series, whole)]
                for piece in subtract(whole, [*delivered, *lost]):
                    store.add_loss(
                        connection,
                        store.LostRange(series, piece, one.reason, at, received_at),
                    )
            if len(good) < len(message.losses):
                reason = "a loss report names a range that is none"
                self._keep(
                    connection,
                    store.DeadLetter(
                        device=message.device,
                        code="bad_range",
                        reason=reason,
                        message=raw,
                        received_at=received_at,
                        incarnation=message.incarnation,
                    ),
                )

        await self._database.write(note)
        return v1.LossAck(message.incarnation, message.losses)

    async def unreadable(self, device: str, raw: bytes, error: WireError) -> None:
        """Keep a whole message nobody here can read. Raises as `batch` does."""
        letter = store.DeadLetter(
            device=device,
            code=error.code,
            reason=str(error),
            message=raw,
            received_at=self._clock.wall(),
        )
        await self.keep(letter)

    async def keep(self, letter: store.DeadLetter) -> None:
        await self._database.write(lambda connection: self._keep(connection, letter))
        self._counters.dead_letter_kept(letter.code)

    def _keep(self, connection: Connection, letter: store.DeadLetter) -> None:
        if not store.add_dead_letter(connection, letter, limit_bytes=self._dead_letter_bytes):
            raise DeadLettersFull(
                f"device {letter.device!r} has {self._dead_letter_bytes} bytes of dead letters; "
                "read and remove them, until then nothing more of the kind is taken from it"
            )

    def _letter(
        self, message: v1.Batch, raw: bytes, wanted: Range | None, wrong: _Fault
    ) -> store.DeadLetter:
        return store.DeadLetter(
            device=message.device,
            code=wrong.code,
            reason=wrong.reason,
            message=raw,
            received_at=self._clock.wall(),
            incarnation=message.incarnation,
            range=wanted,
        )

    def _disprove_losses(self, connection: Connection, new: store.NewBatch) -> None:
        for lost in store.losses_over(connection, new.series, new.range):
            store.drop_loss(connection, lost)
            for piece in subtract(lost.range, [new.range]):
                store.add_loss(connection, structs.replace(lost, range=piece))

    def _ack(self, message: v1.Batch, outcome: Outcome, wrong: _Fault | None) -> v1.BatchAck:
        where = f"{message.device}/{message.incarnation} {message.lo}..{message.hi}"
        if outcome == "conflict":
            _log.error("ingest.conflict batch=%s", where)
            self._counters.dead_letter_kept("conflict")
            told = v1.BatchAck(
                message.incarnation, message.lo, message.hi, "dead_letter", "conflict"
            )
        elif outcome == "dead_letter":
            reason = wrong.reason if wrong else "kept as a dead letter"
            code = wrong.code if wrong else "unknown"
            _log.warning("ingest.dead_letter batch=%s code=%s reason=%s", where, code, reason)
            self._counters.dead_letter_kept(code)
            told = v1.BatchAck(message.incarnation, message.lo, message.hi, "dead_letter", reason)
        else:
            told = v1.BatchAck(message.incarnation, message.lo, message.hi, outcome)
        return told


def _read(message: v1.Batch, wanted: Range) -> tuple[Sequence[v1.Record], _Fault | None]:
    """The records of a batch, or none and why."""
    try:
        records = codec.unpack_records(message.body)
    except WireError as error:
        return [], _Fault(error.code, str(error))
    if len(records) != wanted.size:
        reason = (
            f"{len(records)} records came for the {wanted.size} numbers {wanted.lo}..{wanted.hi}"
        )
        return [], _Fault("wrong_count", reason)
    for record in records:
        if why := fault(record):
            return [], _Fault("out_of_bounds", why)
    return records, None
