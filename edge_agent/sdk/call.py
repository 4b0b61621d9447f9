"""One request from the first send to its answer: what both clients share. No I/O.

1. The deadline runs from the call, by the SDK's own clock, through connecting, sending and waiting.
2. A request may be sent several times; it keeps its id, and says each time what time is left.
3. Only three things end it: a reply, a named refusal, the deadline.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from edge_agent.sdk import messages, wire
from edge_agent.sdk.answer import Answer, AnswerTimings
from edge_agent.sdk.errors import BadArgument, DeadlineExceeded, LongstopError, error_of
from edge_agent.sdk.tensor import Tensor

LONGEST_DEADLINE_MS = 30_000
LONGEST_ID = 128
MOST_TOLD = 16
FIRST_PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.05
# The worker's clock, which counts time asleep; other systems have only the one that does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


_clock_gettime = time.clock_gettime


class Outcome(NamedTuple):
    """What a reply came to."""

    answer: Answer | LongstopError
    go_away: bool
    """The worker is leaving."""


class NotOurs(Exception):
    """A reply to another request: the stream cannot be followed any further."""


def now() -> float:
    """Seconds on the clock deadlines are kept by."""
    return _clock_gettime(_CLOCK)


class Call:
    """One request. Arguments are checked here, before anything is sent."""

    def __init__(
        self, task: str, client: str, tensor: Tensor, deadline_ms: float, request_id: str | None
    ) -> None:
        self.started = now()
        self.until = self.started + checked_deadline_ms(deadline_ms) / 1000
        self.task = task
        self.id = os.urandom(12).hex() if request_id is None else checked_id(request_id)
        self._client = client
        self._tensor = tensor
        self._deadline_ms = deadline_ms
        self._pause_s = 0.0
        self.trouble: Exception | None = None
        """What went wrong last, told when the deadline passes."""
        self.missed: deque[str] | None = None
        """Ids of this client's requests that had no answer; the next one tells of them."""
        self._told: tuple[str, ...] = ()

    def remaining_s(self) -> float:
        return self.until - now()

    def head(self, *, lent: bool = False) -> bytes:
        """Header and meta as they are to be sent now.

        The body is `data`; with `lent` there is none, and the input lies in the lent memory.
        """
        tensor = self._tensor
        size = len(tensor.data)
        infer = messages.Infer(
            self.id,
            self._client,
            max(1, int((self.until - now()) * 1000)),
            tensor.dtype,
            tensor.shape,
            self.until,
        )
        if lent:
            infer.size, size = size, 0
        if self.missed:
            self._told = (*self._told, *self._of_missed(self.missed))
        if self._told:
            infer.unanswered = self._told
        return wire.head(messages.write_infer(infer), size)

    def _of_missed(self, missed: deque[str]) -> Iterator[str]:
        with contextlib.suppress(IndexError):  # another thread may be telling as well
            for _ in range(MOST_TOLD - len(self._told)):
                yield missed.popleft()

    @property
    def data(self) -> bytes | bytearray | memoryview:
        return self._tensor.data

    def went_wrong(self, trouble: Exception) -> float:
        """Note a failed attempt; gives back how long to wait before the next one.

        The first attempt after a broken connection follows at once: a worker was replaced.
        """
        self.trouble = trouble
        pause = self._pause_s
        self._pause_s = min(max(2 * pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        return max(0.0, min(pause, self.remaining_s()))

    def exceeded(self) -> DeadlineExceeded:
        if self.missed is not None:
            self.missed.append(self.id)
        why = f"; the last trouble was: {self.trouble}" if self.trouble else ""
        return DeadlineExceeded(
            f"request {self.id} to task {self.task!r} had no answer within"
            f" {self._deadline_ms:g} ms{why}; allow more time, or see longstop-agent status"
        )

    def finish(self, meta: bytes) -> Outcome:
        """What a reply came to. Raises `NotOurs`, `ProtocolMismatch`."""
        reply = messages.read_reply(meta)
        if reply.id != self.id and (reply.ok or reply.id):
            raise NotOurs
        if isinstance(reply, messages.Refused):
            return Outcome(error_of(reply.code, reply.message), reply.go_away)
        its = reply.timings
        answer = Answer(
            self.id,
            self.task,
            reply.label,
            reply.confidence,
            reply.source,
            reply.final,
            reply.reason,
            reply.hard,
            reply.certified_risk,
            reply.digest,
            reply.version,
            AnswerTimings(
                its.prepare_us,
                its.run_us,
                its.wait_us,
                its.total_us,
                round((now() - self.started) * 1e6),
            ),
            messages.details_of(reply.answer) if reply.answer else None,
            reply.uncertified,
            reply.degraded,
            reply.certificate,
        )
        return Outcome(answer, reply.go_away)


def checked_deadline_ms(deadline_ms: object) -> float:
    if (
        isinstance(deadline_ms, bool)
        or not isinstance(deadline_ms, int | float)
        or not 0 < deadline_ms <= LONGEST_DEADLINE_MS
    ):
        raise BadArgument(
            f"deadline_ms must be a number above 0 and at most {LONGEST_DEADLINE_MS},"
            f" not {deadline_ms!r}"
        )
    return deadline_ms


def checked_id(request_id: object) -> str:
    if (
        not isinstance(request_id, str)
        or not request_id.isascii()
        or not request_id.isprintable()
        or not 1 <= len(request_id) <= LONGEST_ID
    ):
        raise BadArgument(
            f"request_id must be 1 to {LONGEST_ID} printable ASCII characters, not {request_id!r}"
        )
    return request_id
